"""Finds things in a picture by the head that training taught to look from a name at the thing.

It does not know what was asked for, nor how a picture is changed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cloud_server.generation.backbone.protocol import Backbone
from cloud_server.generation.masked_decoding import RowGenerators
from cloud_server.generation.mending.wording import Wording
from cloud_server.generation.prompting import causal_mask
from cloud_server.generation.text_decoding import AnswerOptions, PictureReader, generate_text
from shared_protocol.vocabulary import Vocabulary

_BEFORE_CODES = 2
"""Tokens before a picture's first code: mmu, soi."""
_REACH = 3
"""Cells around a peak that belong to it: half of a thing's side."""
_FAINT = 0.03
"""Share of a look below which a peak is no thing."""
_ABSENT = 0.5
"""Share of the look at the first token, which stands for "nowhere", above which a thing is not."""
_LONGEST_ANSWER = 40

Looked = NDArray[np.float64]


@dataclass(frozen=True)
class Seen:
    """One thing that was found.

    Attributes:
        row, column: of its middle, in cells.
        weight: share of the look that fell on it.
    """

    row: float
    column: float
    weight: float

    @property
    def place(self) -> tuple[float, float]:
        return self.row, self.column


class Onlooker:
    """Looks at pictures.

    Args:
        backbone: the network; `pointing` is not None.
        vocabulary: id layout.
        pictures: reads pictures, over the same backbone.
        wording: what to ask.
    """

    def __init__(
        self, backbone: Backbone, vocabulary: Vocabulary, pictures: PictureReader, wording: Wording
    ) -> None:
        self._backbone, self._vocabulary = backbone, vocabulary
        self._pictures, self._wording = pictures, wording

    def find(self, codes: NDArray[np.int64], phrase: str) -> list[Seen]:
        """Where a thing is in a picture (side, side): every copy of it, the surest first."""
        return peaks(*self._look(codes, phrase))

    def answer(self, codes: NDArray[np.int64], question: NDArray[np.int64]) -> str:
        """What the model answers to a framed question."""
        (ids,) = generate_text(
            self._pictures,
            self._backbone,
            self._vocabulary,
            codes=[codes],
            questions=[question],
            options=[AnswerOptions(_LONGEST_ANSWER)],
            eot_id=self._wording.eot_id,
            noise=RowGenerators([]),
        )
        return self._wording.text(ids)

    def _look(self, codes: NDArray[np.int64], phrase: str) -> tuple[Looked, float]:
        """(side, side) shares of the look from the name at each cell, and at "nowhere"."""
        ids = torch.from_numpy(self._wording.up_to_name(phrase))[None].to(self._backbone.device)
        head = self._pictures.read(codes)
        read, count = len(head), ids.shape[1]
        cache = self._backbone.stacked([head], read + count)
        causal = causal_mask(count).to(ids.device)
        allow = torch.cat([causal.new_ones(count, read), causal], dim=1)[None, None]
        positions = torch.arange(read, read + count, device=ids.device)[None]
        weights = self._backbone.looks(ids, allow, positions, cache)[0, -1].double().cpu().numpy()
        seen = weights[_BEFORE_CODES : _BEFORE_CODES + codes.size].reshape(codes.shape)
        return seen, float(weights[0])


def peaks(looked: Looked, nowhere: float) -> list[Seen]:
    """The things that a look (side, side) fell on, the surest first.

    >>> looked = np.zeros((8, 8))
    >>> looked[1, 1], looked[1, 2], looked[6, 6] = 0.4, 0.2, 0.3
    >>> [(each.row, round(each.column, 1)) for each in peaks(looked, 0.1)]
    [(1.0, 1.3), (6.0, 6.0)]
    """
    if nowhere > _ABSENT:
        return []
    left = looked.copy()
    found: list[Seen] = []
    axes: Looked = np.indices(looked.shape).astype(np.float64)
    while True:
        row, column = divmod(int(left.argmax()), left.shape[1])
        near = np.maximum(abs(axes[0] - row), abs(axes[1] - column)) < _REACH
        share: Looked = left[near]
        weight = float(share.sum())
        if weight < _FAINT:
            return sorted(found, key=lambda each: -each.weight)
        middle = (axes[:, near] * share).sum(-1) / weight
        found.append(Seen(float(middle[0]), float(middle[1]), weight))
        left[near] = 0.0
