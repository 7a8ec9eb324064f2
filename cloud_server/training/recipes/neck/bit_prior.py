"""How many bits the values of image codes take, as a number with a gradient.

It does not know networks around it; the coder that really runs is `shared_protocol.entropy`, this
stands for it where a tokenizer is trained. Each of a token's bits is a Bernoulli variable, whose
chance follows from the tokens above and to the left of it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class BitPrior(nn.Module):
    """One convolution over the known neighbours of a token, then its bits' chances.

    Args:
        bits: of a token.
        width: channels between.
    """

    mask: Tensor

    def __init__(self, bits: int, width: int = 64) -> None:
        super().__init__()
        self.look = nn.Conv2d(bits, width, 3, padding=1)
        self.chances = nn.Conv2d(width, bits, 1)
        mask = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        """Mean bits a token of +1/-1 values (B, bits, h, w); the gradient reaches the values."""
        weight = self.look.weight * self.mask
        seen = F.relu(F.conv2d(values, weight, self.look.bias, padding=1))
        # -log2 of the chance that each bit is what it is
        cost = F.softplus(-values * self.chances(seen)) / math.log(2)
        return cost.sum(dim=1).mean()
