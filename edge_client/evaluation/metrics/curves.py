"""Bjontegaard's rate difference between two rate-quality curves.

It does not know codecs or pictures.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edge_client.evaluation.metrics.extra import extra_module
from shared_protocol.errors import InvalidInputError

MIN_POINTS = 2


def bd_rate(
    anchor_rates: Sequence[float],
    anchor_quality: Sequence[float],
    test_rates: Sequence[float],
    test_quality: Sequence[float],
) -> float | None:
    """Mean difference in rate at equal quality, over the quality that both curves reach.

    The logarithm of the rate is interpolated by monotone cubic pieces (PCHIP), as the later
    common test conditions do, so that few or uneven points make no waves.

    Args:
        anchor_rates, test_rates: positive, such as bits per pixel.
        anchor_quality, test_quality: higher is better, such as PSNR in dB.

    Returns:
        -0.2 if the test curve needs 20 % less rate; None if the curves share no quality.

    Raises:
        InvalidInputError: fewer than two points a curve, or a rate that is not positive.
        ConfigError: scipy is not installed.

    >>> round(bd_rate([1, 2, 4], [30, 33, 36], [0.5, 1, 2], [30, 33, 36]), 6)
    -0.5
    """
    anchor, test = _curve(anchor_rates, anchor_quality), _curve(test_rates, test_quality)
    low = max(anchor[0][0], test[0][0])
    high = min(anchor[0][-1], test[0][-1])
    if not low < high:
        return None
    interpolator = extra_module("scipy.interpolate", "the BD-rate").PchipInterpolator

    areas = [interpolator(*curve).integrate(low, high) for curve in (test, anchor)]
    return float(np.expm1((areas[0] - areas[1]) / (high - low)))


def _curve(rates: Sequence[float], quality: Sequence[float]) -> tuple[list[float], list[float]]:
    """Quality, strictly ascending, and log rate; of points with equal quality the cheapest."""
    cheapest: dict[float, float] = {}
    for rate, value in zip(rates, quality, strict=True):
        if rate <= 0:
            raise InvalidInputError(f"a rate of {rate}", "rates are positive")
        cheapest[value] = min(rate, cheapest.get(value, rate))
    if len(cheapest) < MIN_POINTS:
        raise InvalidInputError(f"a curve of {len(cheapest)} points", f"give {MIN_POINTS} or more")
    points = sorted(cheapest.items())
    return [value for value, _ in points], [float(np.log(rate)) for _, rate in points]
