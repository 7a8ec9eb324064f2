"""Fills unknown codes of windows under prompts, and settles what was filled.

It does not know requests, canvases, what a prompt means, or bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cloud_server.generation.backbone.protocol import Backbone
from cloud_server.generation.image_logits import guided_image_logits
from cloud_server.generation.masked_decoding import (
    DecodingPolicy,
    LogitsOfCodes,
    NoiseSource,
    decode_masked,
)
from cloud_server.generation.settling import Settling, settle
from shared_protocol.messages import OnStep
from shared_protocol.vocabulary import Vocabulary

Ids = NDArray[np.int64]


def no_words() -> Ids:
    """The ids of the empty prompt."""
    return np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Brush:
    """How one window is painted.

    Attributes:
        text_ids: (N,) prompt ids.
        guidance: classifier-free guidance; logits are (1+g) cond - g uncond.
        temperature: of the noise on the order in which cells are fixed.
        negative_ids: (N,) prompt ids of the uncond pass.
    """

    text_ids: Ids
    guidance: float
    temperature: float = 1.0
    negative_ids: Ids = field(default_factory=no_words)


class Painter:
    """Paints windows with one backbone.

    Args:
        backbone: the network.
        vocabulary: id layout.
        eot_id: text id that opens and closes texts.
        max_text_len: length of the text block, without the task token.
        policy: order and annealing of masked decoding.
    """

    def __init__(
        self,
        backbone: Backbone,
        vocabulary: Vocabulary,
        eot_id: int,
        max_text_len: int,
        policy: DecodingPolicy,
    ) -> None:
        self._backbone, self._vocabulary = backbone, vocabulary
        self._eot_id, self._max_text_len = eot_id, max_text_len
        self.policy = policy

    def fill(
        self,
        codes: Tensor,
        brushes: Sequence[Brush],
        steps: int,
        noise: NoiseSource,
        on_step: OnStep | None = None,
        on_codes: Callable[[Tensor], None] | None = None,
    ) -> Tensor:
        """Codes (B, N), -1 where unknown, to (B, N), all known; see `decode_masked`."""
        return decode_masked(
            self._logits(brushes, codes.shape[1]),
            codes.to(self._backbone.device),
            steps=steps,
            temperatures=[brush.temperature for brush in brushes],
            policy=self.policy,
            noise=noise,
            on_step=on_step,
            on_codes=on_codes,
        ).cpu()

    def settle(
        self,
        codes: Tensor,
        wanted: Tensor,
        brushes: Sequence[Brush],
        settling: Settling,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """Codes (B, N) with those that are wanted settled; see `settling.settle`."""
        logits = self._logits(brushes, codes.shape[1])
        device = self._backbone.device

        def logits_of(codes: Tensor, places: Tensor) -> Tensor:
            return logits(codes.to(device), places.to(device)).cpu()

        return settle(logits_of, codes, wanted, settling, on_step)

    def _logits(self, brushes: Sequence[Brush], tokens: int) -> LogitsOfCodes:
        return guided_image_logits(
            self._backbone,
            self._vocabulary,
            [brush.text_ids for brush in brushes],
            guidance=[brush.guidance for brush in brushes],
            negatives=[brush.negative_ids for brush in brushes],
            eot_id=self._eot_id,
            max_text_len=self._max_text_len,
            tokens=tokens,
        )


def unknown_where(codes: Tensor, flags: NDArray[np.bool_]) -> Tensor:
    """A copy of one window's codes (1, N) with -1 where `flags` (side, side) is True."""
    return torch.where(torch.from_numpy(flags.reshape(1, -1)), -1, codes)
