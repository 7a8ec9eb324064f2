"""The surrogate loss that trains a neck without the model behind the encoder.

Source: "Bridging compressed image latents and multi-modal large language models", equations 1 to 4.
It does not know tokens, data or optimisers; epochs are shares of a run here, so that runs of any
length have the same three stages.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from shared_protocol.errors import ConfigError

ALPHA, BETA = 1.0, 100.0
"""Weights of cross-entropy and distillation in the second stage; 1:100 in the paper."""
PROGRESSIVE, CROSS_ENTROPY = "progressive", "cross-entropy"
OBJECTIVES = (PROGRESSIVE, CROSS_ENTROPY, "distillation")


@dataclass(frozen=True)
class Schedule:
    """Equation 4.

    Attributes:
        objective: "progressive", or one of the two terms alone for comparison.
        first, second: E1 and E2 as shares of the run; 20 and 40 of 60 epochs.

    Raises:
        ConfigError: no such objective, or shares out of order.
    """

    objective: str = PROGRESSIVE
    first: float = 1 / 3
    second: float = 2 / 3

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            known = ", ".join(OBJECTIVES)
            raise ConfigError(f"no objective {self.objective!r}", f"known are {known}")
        if not 0 <= self.first <= self.second <= 1:
            told = f"stages that end at {self.first} and {self.second} of the run"
            raise ConfigError(told, "use shares of 0 to 1, the second not before the first")

    def weights(self, share: float) -> tuple[float, float]:
        """Of cross-entropy and distillation, at a share of the run.

        >>> [Schedule().weights(share) for share in (0.0, 0.5, 0.9)]
        [(1.0, 0.0), (1.0, 100.0), (0.0, 1.0)]
        """
        if self.objective != PROGRESSIVE:
            return (1.0, 0.0) if self.objective == CROSS_ENTROPY else (0.0, 1.0)
        if share < self.first:
            return 1.0, 0.0
        return (ALPHA, BETA) if share < self.second else (0.0, 1.0)


def distillation(features: Tensor, wanted: Tensor) -> Tensor:
    """Equation 1: mean squared error of C'(T(y)) to C(x), both of one shape."""
    return F.mse_loss(features, wanted)


def cross_entropy(scores: Tensor, truth: Tensor) -> Tensor:
    """Equation 3 on the scores of equation 2.

    Args:
        scores: (B, m), v for each label.
        truth: (B, m) t; one-hot, or equal shares where a picture shows several labels.
    """
    return F.cross_entropy(scores, truth)


def surrogate(
    weights: tuple[float, float], scores: Tensor | None, truth: Tensor, distance: Tensor
) -> Tensor:
    """Equation 4: the weighted sum of the terms that count now.

    Args:
        weights: see `Schedule.weights`.
        scores: (B, m); None where cross-entropy does not count.
        truth: (B, m).
        distance: equation 1.
    """
    total = weights[1] * distance
    if scores is not None and weights[0]:
        total = total + weights[0] * cross_entropy(scores, truth)
    return total
