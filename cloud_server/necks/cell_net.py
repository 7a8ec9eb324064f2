"""The network of a detector by cells: what stands where in a picture of the built-in world.

It does not know names, scenes or what it is used for. The judge of generated pictures is one such
network; an encoder behind a neck is another, trained from other numbers::

    pixels (B, 3, H, W) ─ 4x4 patches ─ convolutions ─ stride 16 ─┬─ class of every cell (0: none)
    └────────────── stem ───────────────────┘ └ blocks, features ┘└─ background of every column
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

STRIDE = 16
PATCH = 4
WIDTHS = (32, 64, 128)
BLOCKS = 3


class CellNet(nn.Module):
    """The network.

    Args:
        objects: how many kinds of objects.
        backgrounds: how many backgrounds.
    """

    def __init__(self, objects: int, backgrounds: int) -> None:
        super().__init__()
        first, second, third = WIDTHS
        self.stem = nn.Sequential(
            nn.PixelUnshuffle(PATCH),
            _unit(3 * PATCH * PATCH, first, 1),
            _unit(first, first, 3),
            _unit(first, second, 3, stride=2),
            _unit(second, second, 3),
            _unit(second, third, 3, stride=2),
        )
        self.blocks = nn.ModuleList([_Block(third) for _ in range(BLOCKS)])
        self.objects = nn.Conv2d(third, 1 + objects, 1)
        self.backgrounds = nn.Conv1d(2 * third, backgrounds, 1)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of cells and columns.

        Args:
            pixels: (B, 3, H, W) in -1..1; H and W multiples of 32 and 16.

        Returns:
            (B, 1 + objects, H/16, W/16), and (B, backgrounds, W/16).
        """
        values = self.features(self.stem(pixels))
        middle = values.shape[2] // 2
        halves = [values[:, :, :middle].mean(2), values[:, :, middle:].mean(2)]
        return self.objects(values), self.backgrounds(torch.cat(halves, dim=1))

    def features(self, middle: Tensor, first: int = 0) -> Tensor:
        """(B, 128, h, w) that enters block `first` to the same shape after the last block."""
        for block in self.blocks[first:]:
            middle = middle + block(middle)
        return middle


class _Block(nn.Module):
    """Depthwise 7x7, then two pointwise layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(width, width, 7, padding=3, groups=width, bias=False),
            nn.BatchNorm2d(width),
            nn.Conv2d(width, 2 * width, 1),
            nn.ReLU(),
            nn.Conv2d(2 * width, width, 1),
        )

    def forward(self, values: Tensor) -> Tensor:
        """(B, C, h, w) to the same shape."""
        result: Tensor = self.layers(values)
        return result


def _unit(inside: int, outside: int, kernel: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inside, outside, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outside), nn.ReLU())
