"""A linear layer in eight bits, for trials on the CPU.

It does not know which network it is in. Each row of the input and each row of the weights has a
scale of its own, and the sum between them is one of integers: what a row becomes depends neither
on the rows beside it nor on the order of the sum, as everything that is served in batches must.
torch's own dynamic layer has one scale for all rows, so that a request would change its neighbour.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_LARGEST = 127


class Int8Linear(nn.Module):
    """What a linear layer computes, with weights and inputs rounded to 255 levels.

    Args:
        plain: the layer; its weights are (out, in).
    """

    def __init__(self, plain: nn.Linear) -> None:
        super().__init__()
        levels, scales = rounded(plain.weight.detach().float())
        self.levels = levels.t()
        self.scales = scales.flatten()
        self.bias = None if plain.bias is None else plain.bias.detach().float()

    def forward(self, inputs: Tensor) -> Tensor:
        """(…, in) of any float dtype to (…, out) of the same."""
        rows = inputs.reshape(-1, inputs.shape[-1])
        levels, scales = rounded(rows)
        sums = torch._int_mm(levels, self.levels).float()
        sums.mul_(scales.float()).mul_(self.scales)
        if self.bias is not None:
            sums.add_(self.bias)
        return sums.to(inputs.dtype).reshape(*inputs.shape[:-1], len(self.scales))


def rounded(rows: Tensor) -> tuple[Tensor, Tensor]:
    """(R, N) floats as (R, N) int8 levels from -127 to 127 and (R, 1) scales."""
    largest = rows.abs().amax(1, keepdim=True).clamp_min(torch.finfo(rows.dtype).tiny * 2**8)
    scales = largest / _LARGEST
    return torch.round(rows / scales).clamp(-_LARGEST, _LARGEST).to(torch.int8), scales


def in_int8(network: nn.Module) -> nn.Module:
    """`network` with all linear layers below it replaced, in place."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Linear):
                setattr(module, name, Int8Linear(child))
    return network
