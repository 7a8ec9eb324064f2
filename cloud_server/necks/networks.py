"""The two necks: from the values of image codes to what stands in the middle of an encoder.

They know neither codes nor encoders, only shapes. Lookup-free quantisation makes a token thirteen
values of +1 or -1; those are the latents here, at every place of the grid::

    convolutional, for CNNs               attention, for ViTs (the paper's, one layer)
    z (B, 13, h, w)                       z (B, 13, h, w)
      | 3x3                                 | linear, resampled to the encoder's grid
      | blocks: depthwise 5x5,              | class token before it, positions added
      |   two pointwise, added              | norm, self-attention, added
      v 1x1                                 v norm, feed-forward, added
    (B, C, H, W)                          (B, 1 + H·W, D)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shared_protocol.errors import CheckpointError

KINDS = ("conv", "vit")
_KERNEL, _EXPANSION = 5, 4
_MOST_WIDTH, _MOST_SIDE, _MOST_BLOCKS, _MOST_BITS = 4096, 64, 16, 1024


@dataclass(frozen=True)
class NeckSizes:
    """The shape of a neck.

    Attributes:
        kind: one of `KINDS`.
        width: C or D, channels at the encoder's entry.
        side: H = W, of the encoder's grid.
        blocks: residual blocks of a convolutional neck.
        heads: of the attention.
        bits: channels of z.

    Raises:
        CheckpointError: no neck has such a shape.
    """

    kind: str
    width: int
    side: int = 16
    blocks: int = 2
    heads: int = 1
    bits: int = 13

    def __post_init__(self) -> None:
        limits = {
            "width": _MOST_WIDTH,
            "side": _MOST_SIDE,
            "blocks": _MOST_BLOCKS,
            "heads": _MOST_WIDTH,
            "bits": _MOST_BITS,
        }
        for name, most in limits.items():
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= most:
                told = f"a neck's {name} is {str(value)[:80]}"
                raise CheckpointError(told, f"use a whole number of 1 to {most:,}")
        if self.kind not in KINDS:
            told = f"a neck of the kind {str(self.kind)[:80]!r}"
            raise CheckpointError(told, f"known are {', '.join(KINDS)}")
        if self.width % self.heads:
            raise CheckpointError(
                f"{self.heads} heads do not share {self.width} channels", "use a divisor"
            )


def build_neck(sizes: NeckSizes) -> nn.Module:
    """A neck of that shape with fresh weights: z (B, bits, h, w) to the encoder's middle."""
    return ConvNeck(sizes) if sizes.kind == "conv" else VitNeck(sizes)


class ConvNeck(nn.Module):
    """The convolutional neck; its residual blocks start as the identity."""

    def __init__(self, sizes: NeckSizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.conv_in = nn.Conv2d(sizes.bits, sizes.width, 3, padding=1)
        self.blocks = nn.ModuleList([_Block(sizes.width) for _ in range(sizes.blocks)])
        self.conv_out = nn.Conv2d(sizes.width, sizes.width, 1)

    def forward(self, z: Tensor) -> Tensor:
        """(B, bits, h, w) to (B, C, H, W)."""
        values = _resampled(self.conv_in(z), self.sizes.side)
        for block in self.blocks:
            values = values + block(values)
        result: Tensor = self.conv_out(values)
        return result


class _Block(nn.Module):
    """Depthwise, then two pointwise layers; the last starts small."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = 3 * width
        self.layers = nn.Sequential(
            nn.Conv2d(width, width, _KERNEL, padding=_KERNEL // 2, groups=width, bias=False),
            nn.BatchNorm2d(width),
            nn.Conv2d(width, inner, 1),
            nn.ReLU(),
            nn.Conv2d(inner, width, 1),
        )
        last = self.layers[-1]
        assert isinstance(last, nn.Conv2d)
        nn.init.normal_(last.weight, std=1e-3)

    def forward(self, values: Tensor) -> Tensor:
        """(B, C, h, w) to the same shape."""
        result: Tensor = self.layers(values)
        return result


class VitNeck(nn.Module):
    """The paper's neck (section 3.3): linear, self-attention, feed-forward and two norms.

    With 320 latents and 1,024 channels it has the 13.19 million parameters of the paper's Table 3.
    """

    def __init__(self, sizes: NeckSizes) -> None:
        super().__init__()
        width = sizes.width
        self.sizes = sizes
        self.project = nn.Linear(sizes.bits, width)
        self.class_token = nn.Parameter(torch.zeros(width))
        self.positions = nn.Parameter(torch.zeros(1 + sizes.side**2, width))
        self.norm_attention, self.norm_feed = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = _Attention(width, sizes.heads)
        self.feed = nn.Sequential(
            nn.Linear(width, _EXPANSION * width), nn.GELU(), nn.Linear(_EXPANSION * width, width)
        )
        nn.init.normal_(self.class_token, std=0.02)
        nn.init.normal_(self.positions, std=0.02)

    def forward(self, z: Tensor) -> Tensor:
        """(B, bits, h, w) to (B, 1 + H·W, D), the class token first."""
        projected = self.project(z.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        patches = _resampled(projected, self.sizes.side).flatten(2).transpose(1, 2)  # (B, N, D)
        first = self.class_token.expand(len(z), 1, -1)
        values = torch.cat([first, patches], dim=1) + self.positions
        values = values + self.attention(self.norm_attention(values))
        result: Tensor = values + self.feed(self.norm_feed(values))
        return result


class _Attention(nn.Module):
    """Self-attention without a mask, in plain matrix products, so that they can be counted."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.all_three = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, values: Tensor) -> Tensor:
        """(B, N, D) to the same shape."""
        batch, count, width = values.shape
        split = self.all_three(values).view(batch, count, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        query, key, value = split  # (B, heads, N, D / heads) each
        looks = (query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5).softmax(-1)
        joined = (looks @ value).transpose(1, 2).reshape(batch, count, width)
        result: Tensor = self.out(joined)
        return result


def _resampled(values: Tensor, side: int) -> Tensor:
    """(B, C, h, w) at (side, side): as it is, or bilinear."""
    if values.shape[2:] == (side, side):
        return values
    return F.interpolate(values, (side, side), mode="bilinear", align_corners=False)
