"""How sure a mean or a share is, given how few cases it was taken over.

It does not know what was measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared_protocol.errors import InvalidInputError

LEVEL = 0.95
RESAMPLES = 2000
_Z = 1.959963984540054  # of the normal distribution, for LEVEL

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """An estimate and the ends of its 95 % confidence interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"


def bootstrap(
    values: Sequence[float],
    statistic: Callable[[Values], float] = lambda sample: float(np.mean(sample)),
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap over cases, 2,000 resamples.

    Args:
        values: one for each case, finite.
        statistic: of a sample (N,); the mean unless given.
        seed: of the resampling, so that a report can be repeated.

    Raises:
        InvalidInputError: no values, or one that is not finite.

    >>> print(bootstrap([1.0, 1.0, 1.0]))
    1 [1, 1]
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or sample.size == 0 or not np.isfinite(sample).all():
        raise InvalidInputError(
            f"an interval of {sample.size} values", "give at least one, and finite ones only"
        )
    drawn = np.random.default_rng(seed).integers(0, sample.size, (RESAMPLES, sample.size))
    found = [statistic(sample[row]) for row in drawn]
    low, high = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(statistic(sample), float(low), float(high))


def wilson(successes: int, trials: int) -> Interval:
    """Share of successes with Wilson's 95 % interval.

    Raises:
        InvalidInputError: no trials, or more successes than trials.

    >>> print(wilson(9, 10))
    0.9 [0.5958, 0.9821]
    """
    if not 0 <= successes <= trials or trials == 0:
        raise InvalidInputError(f"{successes} successes in {trials} trials", "count again")
    share = successes / trials
    spread = _Z * math.sqrt(share * (1 - share) / trials + (_Z / (2 * trials)) ** 2)
    centre, scale = share + _Z**2 / (2 * trials), 1 + _Z**2 / trials
    low, high = (centre - spread) / scale, (centre + spread) / scale
    return Interval(share, max(0.0, low), min(1.0, high))
