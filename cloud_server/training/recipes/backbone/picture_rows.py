"""Masked pictures with their prompts, put together as one batch of text to image.

Knows ids and which cells show objects; no scenes and no words. A row of a batch::

    t2i sot caption eot │ soi  image, partly masked  eoi      targets: masked codes
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cloud_server.generation.prompting import pad_left, t2i_mask
from cloud_server.training.recipes.backbone.batch import Batch, Links
from shared_protocol.vocabulary import Vocabulary

IGNORED = -100
"""Label of a position that predicts nothing."""
_PROBED_BACKGROUND = 0.25


@dataclass(frozen=True, eq=False)
class PictureRow:
    """One example; all of a batch have as many cells C.

    Attributes:
        block: ids of the text block.
        image: (C,) unified ids, the mask's where hidden.
        labels: (C,) unified ids where hidden, IGNORED elsewhere.
        cells: (C,) numbers of the cells in the raster order of the whole grid.
        truth: (C, 4) what each cell shows, see `SceneGrid.truth`; None = not known, so nothing is
            probed there.
        counts_alike: whether background is predicted as often, and weighs as much, as objects.
    """

    block: list[int]
    image: np.ndarray
    labels: np.ndarray
    cells: np.ndarray
    truth: np.ndarray | None
    counts_alike: bool


def masked_row(  # noqa: PLR0913 - one example, all of it named
    block: list[int],
    ids: np.ndarray,
    hidden: np.ndarray,
    vocabulary: Vocabulary,
    *,
    cells: np.ndarray,
    counts_alike: bool,
    shown: np.ndarray | None = None,
    truth: np.ndarray | None = None,
) -> PictureRow:
    """A picture, or a part of one, with some of its cells hidden.

    Args:
        block: of its prompt.
        ids: (h, w) unified ids, the targets where hidden.
        hidden: (h, w) bool.
        vocabulary: id layout.
        cells, counts_alike: as in `PictureRow`.
        shown: (h, w) unified ids to be seen elsewhere; None = `ids`.
        truth: (h, w, 4), or None.
    """
    seen = ids if shown is None else shown
    return PictureRow(
        block,
        np.where(hidden, vocabulary.mask_id, seen).reshape(-1),
        np.where(hidden, ids, IGNORED).reshape(-1),
        cells,
        None if truth is None else truth.reshape(ids.size, -1),
        counts_alike,
    )


@dataclass(frozen=True)
class PictureBatcher:
    """Puts rows together.

    Args:
        vocabulary: id layout.
        side: of the grid, in tokens.
        max_text_len: length of the text block without the task token.
        objects: how many of the truth's numbers stand for objects.
        background_share: share of masked background tokens that are predicted.
        background_weight: weight of those against tokens of objects.
    """

    vocabulary: Vocabulary
    side: int
    max_text_len: int
    objects: int
    background_share: float
    background_weight: float

    def batch(self, rows: Sequence[PictureRow], rng: np.random.Generator) -> Batch:
        """The batch of some rows."""
        ids, positions, first = self._sequences(rows)
        index = torch.arange(len(rows))[:, None] * ids.shape[1] + first
        index = index + torch.arange(len(rows[0].image))
        label = np.stack([row.labels for row in rows])
        truth = np.stack([self._truth(row) for row in rows])
        # Background is easy and common: predicted for a share of it only, and with less weight. In
        # a half-drawn picture it counts in full, or holes would be filled with objects again.
        alike = np.array([row.counts_alike for row in rows])[:, None]
        counts = (truth[..., 0] < self.objects) | alike
        kept = (label != IGNORED) & (counts | (rng.random(label.shape) < self.background_share))
        chosen = torch.from_numpy(kept)
        known = np.array([row.truth is not None for row in rows])
        return Batch(
            ids,
            positions,
            t2i_mask(ids, self.vocabulary),
            index[chosen],
            torch.from_numpy(label)[chosen],
            torch.from_numpy(np.where(counts, 1.0, self.background_weight)).float()[chosen],
            torch.zeros(int(chosen.sum()), dtype=torch.int64),
            *probes(index[torch.from_numpy(known)], truth[known], self.objects, rng),
            Links.none(),
            Links.none(),
        )

    def _sequences(self, rows: Sequence[PictureRow]) -> tuple[Tensor, Tensor, int]:
        """Ids and positions (B, L), and where in a row the image begins."""
        length = max(len(row.block) for row in rows)
        start = self.max_text_len + 1
        end = start + self.side * self.side + 1
        text = pad_left([row.block for row in rows], length, self.vocabulary.pad_id)
        image = torch.from_numpy(np.stack([row.image for row in rows]))
        column = torch.ones(len(rows), 1, dtype=torch.int64)
        soi, eoi = column * self.vocabulary.soi_id, column * self.vocabulary.eoi_id
        text_positions = (start - length + torch.arange(length)).expand(len(rows), -1)
        places = torch.from_numpy(np.stack([row.cells for row in rows])) + start + 1
        positions = torch.cat([text_positions, column * start, places, column * end], dim=1)
        return torch.cat([text, soi, image, eoi], dim=1), positions, length + 1

    def _truth(self, row: PictureRow) -> np.ndarray:
        if row.truth is not None:
            return row.truth
        return np.full((len(row.image), 4), self.objects)


def probes(
    index: Tensor, truth: np.ndarray, objects: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Which image positions are probed, and for what.

    Args:
        index: (B, C) flat indices of the image positions.
        truth: (B, C, 4) what is there.
        objects: how many of its numbers stand for objects.
        rng: three quarters of a picture are background: all of it would drown what the probe is
            for, so some is left out.

    Returns:
        (P,) indices and (P, 4) truth.
    """
    is_object = truth[..., 0] < objects
    kept = torch.from_numpy(is_object | (rng.random(is_object.shape) < _PROBED_BACKGROUND))
    return index[kept], torch.from_numpy(truth)[kept]
