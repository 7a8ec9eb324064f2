"""Muon for the matrices inside a network, AdamW for everything else, stepped as one.

It does not know networks or schedules.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rates:
    """Learning rates and weight decay of both.

    Args:
        matrix, matrix_decay: of Muon; the rate is scaled to the size of AdamW's updates.
        table, table_decay: of AdamW: tables, norms, heads and biases.
    """

    matrix: float
    matrix_decay: float
    table: float
    table_decay: float


class Optimisers:
    """Both optimisers of one network.

    Args:
        parameters: all that are trained.
        inner: some of them; those with two axes are Muon's.
        rates: before the schedule.
    """

    def __init__(self, parameters: Iterable[Tensor], inner: Iterable[Tensor], rates: Rates) -> None:
        matrices = [p for p in inner if p.ndim == 2]
        chosen = {id(p) for p in matrices}
        others = [p for p in parameters if id(p) not in chosen]
        self._all: list[torch.optim.Optimizer] = [
            torch.optim.Muon(
                matrices,
                lr=rates.matrix,
                weight_decay=rates.matrix_decay,
                adjust_lr_fn="match_rms_adamw",
            ),
            torch.optim.AdamW(
                others, lr=rates.table, weight_decay=rates.table_decay, betas=(0.9, 0.98)
            ),
        ]
        self._rates = (rates.matrix, rates.table)

    def step(self, factor: float) -> None:
        """Update with `factor` times the rates, and forget the gradients."""
        for optimiser, rate in zip(self._all, self._rates, strict=True):
            for group in optimiser.param_groups:
                group["lr"] = rate * factor
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

    def state(self) -> list[dict[str, Any]]:
        """What `load` takes."""
        return [optimiser.state_dict() for optimiser in self._all]

    def load(self, states: list[dict[str, Any]]) -> None:
        """Go on from a `state`."""
        for optimiser, state in zip(self._all, states, strict=True):
            optimiser.load_state_dict(state)
