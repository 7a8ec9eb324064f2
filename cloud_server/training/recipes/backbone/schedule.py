"""How a run of the backbone's recipe goes on over time: rates, the probe's share, averaged weights.

It does not know what is trained on.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn


def rate_factor(share: float, rates: Mapping[str, float]) -> float:
    """Learning-rate factor at a share of the run: warm-up, plateau, linear cool-down."""
    warm, cool = rates["warm_up_share"], rates["cool_down_share"]
    return max(0.0, min(share / warm + 0.02, 1.0, (1.0 - share) / cool))


def probe_share(share: float, rates: Mapping[str, float]) -> float:
    """How much of the probe's gradient reaches the network at a share of the run.

    Nothing during `probe_settle_share` of the run, then more and more during as long again: a probe
    that starts from chance beside trained weights has nothing to tell them yet, and its gradient,
    far larger than theirs at first, would undo what they know. 0, or no such rate, means all of it
    at once.

    >>> [probe_share(share, {"probe_settle_share": 0.1}) for share in (0.0, 0.1, 0.15, 0.5)]
    [0.0, 0.0, 0.5, 1.0]
    >>> probe_share(0.0, {})
    1.0
    """
    settle = rates.get("probe_settle_share", 0.0)
    return round(min(1.0, max(0.0, share / settle - 1.0)), 6) if settle > 0 else 1.0


class Averages:
    """Exponential moving average of the weights; short memory at the start."""

    def __init__(self, net: nn.Module, decay: float) -> None:
        self._decay = decay
        self.values = {name: p.detach().clone() for name, p in net.named_parameters()}

    @torch.no_grad()
    def update(self, net: nn.Module, step: int) -> None:
        keep = min(self._decay, (1 + step) / (10 + step))
        names, live = zip(*net.named_parameters(), strict=True)
        torch._foreach_lerp_([self.values[name] for name in names], list(live), 1 - keep)
