"""Logits of image codes under a prompt, with classifier-free guidance.

Does not know how codes are sampled, requests, or the network's inside.

Exact shortcuts: text rows never see image columns, so the text block is read once and its keys and
values are kept; PADs are hidden from all rows that matter, so only as many are read as the rows of
the batch need to align, and position ids count the others; the guided and the free half of a batch
have the same picture, which is handed to the network once.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cloud_server.generation.backbone.protocol import NOTHING, Backbone
from cloud_server.generation.masked_decoding import LogitsOfCodes
from cloud_server.generation.prompting import (
    codes_to_input_ids,
    image_block,
    pad_left,
    t2i_mask,
    text_block,
)
from shared_protocol.vocabulary import Vocabulary

_BEFORE_CODES = 1
"""Tokens of the image block before its first code: soi."""


def guided_image_logits(  # noqa: PLR0913 - one numeric step, all of it named
    backbone: Backbone,
    vocabulary: Vocabulary,
    texts: Sequence[NDArray[np.int64]],
    *,
    guidance: Sequence[float],
    negatives: Sequence[NDArray[np.int64]] = (),
    eot_id: int,
    max_text_len: int,
    tokens: int,
) -> LogitsOfCodes:
    """A function from codes to guided logits, for one prompt a row.

    Args:
        texts: B prompts of text ids.
        guidance: B scales g; logits are (1+g) cond - g uncond.
        negatives: B prompts of the uncond pass; none at all = empty ones, as Show-o's.
        tokens: N, the number of codes of a picture.
    """
    rows = [list(text.tolist()) for text in texts]
    guided = any(scale > 0 for scale in guidance)
    free = [list(text.tolist()) for text in negatives] or [[]] * len(rows)
    prompts = [*rows, *(free if guided else [])]
    return _PromptedImageLogits(
        backbone,
        vocabulary,
        [text_block(p, vocabulary, eot_id=eot_id, max_text_len=max_text_len) for p in prompts],
        torch.tensor(guidance, device=backbone.device)[:, None, None] if guided else None,
        max_text_len,
        tokens,
    )


class _PromptedImageLogits:
    """Logits of image codes after text blocks that have been read once."""

    def __init__(
        self,
        backbone: Backbone,
        vocabulary: Vocabulary,
        blocks: Sequence[Sequence[int]],
        guidance: Tensor | None,
        max_text_len: int,
        tokens: int,
    ) -> None:
        self._backbone = backbone
        self._vocabulary = vocabulary
        self._guidance = guidance
        # Position ids are those of Show-o's full padding: the picture begins at the same position
        # however few PADs are read, or the network would see rows and columns that have moved.
        start, length = max_text_len + 1, max(len(block) for block in blocks)
        image = torch.arange(start, start + tokens + 2, device=backbone.device)
        self._positions = image[None]  # (1, N+2)
        self._cache = backbone.new_cache(len(blocks), length + tokens + 2)
        text = pad_left(blocks, length, vocabulary.pad_id).to(backbone.device)
        self._allow = _columns_seen(blocks, length, tokens + 2, backbone.device)
        positions = torch.arange(start - length, start, device=backbone.device)
        backbone.logits(
            text,
            t2i_mask(text, vocabulary),
            positions.expand_as(text),
            cache=self._cache,
            rows=NOTHING,
        )

    def __call__(self, codes: Tensor, places: Tensor) -> Tensor:
        image = image_block(codes_to_input_ids(codes, self._vocabulary), self._vocabulary)
        text_length = len(self._cache)
        logits = self._backbone.logits(
            image,
            self._allow,
            self._positions.expand_as(image),
            cache=self._cache,
            rows=places + _BEFORE_CODES,
            columns=slice(self._vocabulary.image_offset, self._vocabulary.mask_id),
        )
        # Drop the picture's keys and values: the next step reads the picture with other codes, and
        # every image row sees all of it, so that none of them can be kept.
        self._cache.truncate(text_length)
        if self._guidance is None:
            return logits
        with torch.inference_mode():
            conditional, free = logits.chunk(2)
            # In place: the logits of a batch of 16 are a quarter of a gigabyte at full size.
            return conditional.mul_(1 + self._guidance).sub_(free.mul_(self._guidance))


def _columns_seen(
    blocks: Sequence[Sequence[int]], length: int, image: int, device: torch.device
) -> Tensor | None:
    """(B, 1, 1, length + image) bool: what image rows see, all but the PADs before a text."""
    pads = torch.tensor([length - len(block) for block in blocks], device=device)
    # None says "all columns": attention then adds no mask to its scores at all.
    if not any(len(block) < length for block in blocks):
        return None
    columns = torch.arange(length + image, device=device)
    return (columns >= pads[:, None])[:, None, None, :]
