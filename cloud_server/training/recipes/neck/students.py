"""What is trained with the surrogate loss: a neck, or the paper's baseline "Post-processing".

It does not know data, schedules or files::

    Neck             codes ─► ±1 ─► neck ─► C' ─► features
    Post-processing  codes ─► decoder (fixed) ─► picture ─► U-Net ─► C ─► features
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cloud_server.necks.encoders import Encoder
from shared_protocol.tokenizers.compact import CompactTokenizer
from shared_protocol.tokenizers.lfq import codes_to_z

POST_WIDTH = 16


class Student(Protocol):
    """A network in training, with what comes after it."""

    network: nn.Module

    def features(self, codes: Tensor) -> Tensor:
        """int64 (B, h, w) to the encoder's features."""
        ...


class NeckStudent:
    """A neck before the rest of an encoder."""

    def __init__(self, neck: nn.Module, encoder: Encoder, bits: int) -> None:
        self.network, self._encoder, self._bits = neck, encoder, bits

    def features(self, codes: Tensor) -> Tensor:
        """See `Student.features`."""
        return self.features_of_values(codes_to_z(codes, self._bits))

    def features_of_values(self, values: Tensor) -> Tensor:
        """+1/-1 (B, bits, h, w) to features."""
        return self._encoder.partial(self.network(values))


class PostStudent:
    """A U-Net between the decoder and the whole encoder."""

    def __init__(self, unet: nn.Module, encoder: Encoder, tokenizer: CompactTokenizer) -> None:
        self.network, self._encoder, self._tokenizer = unet, encoder, tokenizer

    def features(self, codes: Tensor) -> Tensor:
        """See `Student.features`."""
        return self._encoder.full(self.network(decoded(self._tokenizer, codes)))


def decoded(tokenizer: CompactTokenizer, codes: Tensor) -> Tensor:
    """int64 (B, h, w) to pixels (B, 3, H, W), as whole numbers of 0..255 over 127.5, less 1."""
    pixels = tokenizer.decode_codes(codes)
    return ((pixels + 1) / 2 * 255).clamp(0, 255).floor() / 127.5 - 1


class UNet(nn.Module):
    """The baseline's network: three scales, a picture in, the changed picture out.

    The paper's has 31 million parameters; this one is of the built-in models' size.
    """

    def __init__(self, width: int = POST_WIDTH) -> None:
        super().__init__()
        widths = (width, 2 * width, 4 * width)
        self.down = nn.ModuleList([_Pair(3, widths[0]), _Pair(*widths[:2]), _Pair(*widths[1:])])
        self.up = nn.ModuleList(
            [_Pair(widths[2] + widths[1], widths[1]), _Pair(widths[1] + widths[0], widths[0])]
        )
        self.last = nn.Conv2d(width, 3, 1, bias=False)
        nn.init.zeros_(self.last.weight)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) in -1..1 to the same; starts as the identity."""
        fine = self.down[0](pixels)
        middle = self.down[1](F.avg_pool2d(fine, 2))
        coarse = self.down[2](F.avg_pool2d(middle, 2))
        middle = self.up[0](torch.cat([F.interpolate(coarse, scale_factor=2.0), middle], 1))
        fine = self.up[1](torch.cat([F.interpolate(middle, scale_factor=2.0), fine], 1))
        change: Tensor = self.last(fine)
        return pixels + change


class _Pair(nn.Sequential):
    """Two 3x3 convolutions with ReLU."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__(
            nn.Conv2d(inside, outside, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(outside, outside, 3, padding=1),
            nn.ReLU(),
        )
