"""What the unified transformer reads in one training step, and what it should predict.

Knows tensors only: no scenes, words or network.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Links:
    """Rows of which one attention head should look at one object.

    `said`: rows whose own token is an object's name look at that object, or at the first token of
    the sequence if it is not in the picture. `naming`: rows that predict an object's name look at
    that object. Without such hints the binding of names to places takes most of the training.

    Attributes:
        rows: (Q,) flat indices into B*L.
        columns: (Q, L) bool, the positions to look at.
    """

    rows: Tensor
    columns: Tensor

    def to(self, device: str) -> Links:
        return Links(self.rows.to(device), self.columns.to(device))

    @staticmethod
    def none() -> Links:
        return Links(torch.zeros(0, dtype=torch.int64), torch.zeros(0, 0, dtype=torch.bool))


@dataclass(frozen=True)
class Batch:
    """One forward pass and what it should predict.

    Attributes:
        ids / positions: (B, L) int64.
        allow: (B, 1, L, L) bool.
        rows: (M,) flat indices into B*L of the positions that predict something.
        targets / weights: (M,) unified ids, and how much each counts; all answers count alike,
            however long.
        probe_rows / probe_targets: (P,) image positions and (P, 4) what is there: number of the
            object or background, part of the object, row and column of the grid.
        said / naming: where text and image should meet, see `Links`.
        groups: (M,) number of the answer that each target belongs to; 0 for t2i.
    """

    ids: Tensor
    positions: Tensor
    allow: Tensor
    rows: Tensor
    targets: Tensor
    weights: Tensor
    groups: Tensor
    probe_rows: Tensor
    probe_targets: Tensor
    said: Links
    naming: Links

    def to(self, device: str) -> Batch:
        return Batch(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))


def packed_mask(segments: Tensor) -> Tensor:
    """(B, 1, L, L) of segment numbers (B, L): 0 = seen by all, others causal among themselves."""
    length = segments.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    same = segments[:, :, None] == segments[:, None, :]
    return ((segments == 0)[:, None, :] | (same & causal))[:, None]
