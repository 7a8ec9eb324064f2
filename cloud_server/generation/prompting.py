"""Sequences and omni-attention masks of Show-o; the only place besides `vocabulary` that has them.

Does not know the text tokenizer, the network, or how tokens are sampled. Masks are boolean,
(B, 1, rows, columns), True where a row (query) may see a column (key).

::

    t2i    [PAD]*k  t2i  sot  text..  eot │ soi  image x N  eoi
           └──── text block, T+1 ids ───┘   └── image block, N+2 ids ──┘
           text rows are causal and see no PAD; image rows see everything but PAD

    mmu    mmu  soi  image x N  eoi  sot  text..
           └─ visible to all rows ─┘ └─ causal ─┘

(sot = eot = the text tokenizer's end-of-text id; T = `max_text_len`.)

Why PADs, and where: Show-o was trained with pictures that begin at one fixed position, so that each
row and column of the grid has its own position id. A T2I text is padded on its left up to that
position, whatever its length. In MMU the picture comes first and is at its position already;
questions of a batch are padded on their right, and answers go on from each question's own end.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shared_protocol.vocabulary import Vocabulary

TextIds = NDArray[np.int64]


@dataclass(frozen=True)
class QuestionFrame:
    """Text ids put around a question: those of "USER: \\n" and of " ASSISTANT:".

    With a byte-level BPE that splits before spaces and after line breaks, framing the ids of a
    question equals tokenising the framed question.
    """

    before: tuple[int, ...]
    after: tuple[int, ...]

    def wrap(self, question: TextIds) -> TextIds:
        """The framed ids (N,)."""
        return np.array([*self.before, *question.tolist(), *self.after], dtype=np.int64)


def text_block(
    text_ids: Sequence[int], vocabulary: Vocabulary, *, eot_id: int, max_text_len: int
) -> list[int]:
    """The T2I text block without padding: task token, sot, text, eot; at most T+1 ids.

    The opening eot is not added where the text brings it. An empty text gives the unconditional
    prompt. A text that is too long is cut and still ends in eot.
    """
    # Some tokenizers put the end-of-text id in front themselves; twice would be another prompt than
    # the network was trained on.
    opened = list(text_ids[:1]) == [eot_id]
    ids = [vocabulary.t2i_id, *([] if opened else [eot_id]), *text_ids, eot_id]
    limit = max_text_len + 1
    return ids if len(ids) <= limit else [*ids[: limit - 1], eot_id]


def pad_left(rows: Sequence[Sequence[int]], length: int, pad_id: int) -> Tensor:
    """(B, length) int64, each row padded on its left."""
    return torch.tensor([[pad_id] * (length - len(row)) + list(row) for row in rows])


def pad_right(rows: Sequence[Sequence[int]], length: int, pad_id: int) -> Tensor:
    """(B, length) int64, each row padded on its right."""
    return torch.tensor([list(row) + [pad_id] * (length - len(row)) for row in rows])


def t2i_sequence(
    texts: Sequence[Sequence[int]],
    image_ids: Tensor,
    vocabulary: Vocabulary,
    *,
    eot_id: int,
    max_text_len: int,
) -> Tensor:
    """Whole T2I sequences (B, T+1 + N+2) of texts and image ids (B, N), as Show-o's `t2i_gen`."""
    blocks = [
        text_block(list(text), vocabulary, eot_id=eot_id, max_text_len=max_text_len)
        for text in texts
    ]
    text = pad_left(blocks, max_text_len + 1, vocabulary.pad_id).to(image_ids.device)
    return torch.cat([text, image_block(image_ids, vocabulary)], dim=1)


def image_block(image_ids: Tensor, vocabulary: Vocabulary) -> Tensor:
    """(B, N) image ids between soi and eoi: (B, N+2)."""
    column = image_ids.new_full((image_ids.shape[0], 1), 0)
    return torch.cat([column + vocabulary.soi_id, image_ids, column + vocabulary.eoi_id], dim=1)


def codes_to_input_ids(codes: Tensor, vocabulary: Vocabulary) -> Tensor:
    """Unified ids of image codes; negative codes (unknown) become the mask id."""
    ids: Tensor = vocabulary.codes_to_ids(codes)
    return torch.where(codes < 0, vocabulary.mask_id, ids)


def causal_mask(length: int) -> Tensor:
    """(L, L) bool."""
    return torch.ones(length, length, dtype=torch.bool).tril()


def t2i_mask(token_ids: Tensor, vocabulary: Vocabulary) -> Tensor:
    """Omni-attention mask (B, 1, L, L) of T2I sequences (B, L).

    PAD rows are causal among themselves; text rows are causal and see no PAD; soi, image and eoi
    rows see all columns but PAD.
    """
    length = token_ids.shape[1]
    pads = _last_pad(token_ids, vocabulary)[:, None, None]  # (B, 1, 1)
    columns = torch.arange(length, device=token_ids.device)[None, None, :]
    rows = columns.transpose(1, 2)
    inside = _image_rows(token_ids, vocabulary)[:, :, None]  # (B, L, 1)
    seen = (columns <= rows) | inside
    # PAD rows see PADs: they are read by nobody, but a row that sees nothing makes NaN of softmax,
    # and NaN times a weight of 0 is NaN for all.
    allow = seen & ((columns > pads) | (rows <= pads))
    return allow[:, None]


def _last_pad(token_ids: Tensor, vocabulary: Vocabulary) -> Tensor:
    """(B,) index of the last PAD, -1 where there is none."""
    index = torch.arange(token_ids.shape[1], device=token_ids.device)
    return torch.where(token_ids == vocabulary.pad_id, index, -1).amax(1)


def _image_rows(token_ids: Tensor, vocabulary: Vocabulary) -> Tensor:
    """(B, L) bool, True from soi to eoi inclusive."""
    opened = (token_ids == vocabulary.soi_id).cumsum(1)
    closed = (token_ids == vocabulary.eoi_id).cumsum(1)
    return (opened > closed) | (token_ids == vocabulary.eoi_id)


def mmu_sequence(
    codes: TextIds, question: TextIds, vocabulary: Vocabulary, *, eot_id: int
) -> list[int]:
    """Prompt of a question about an image: mmu, soi, image, eoi, sot, framed question."""
    image = vocabulary.codes_to_ids(codes.reshape(-1)).tolist()
    head = [vocabulary.mmu_id, vocabulary.soi_id, *image, vocabulary.eoi_id]
    return [*head, eot_id, *question.tolist()]


def mmu_mask(token_ids: Tensor, vocabulary: Vocabulary) -> Tensor:
    """Omni-attention mask (B, 1, L, L): causal, columns up to eoi visible to all rows.

    Differs from Show-o: because that takes the place of eoi from the first sequence of a batch;
    here each sequence has its own (equal wherever a batch shares one grid).
    """
    length = token_ids.shape[1]
    end = (token_ids == vocabulary.eoi_id).int().argmax(1)[:, None, None]  # (B, 1, 1)
    columns = torch.arange(length, device=token_ids.device)[None, None, :]
    allow = (columns <= columns.transpose(1, 2)) | (columns <= end)
    return allow[:, None]
