"""How many multiply-accumulate operations and parameters something takes.

It does not know what it counts: torch says which products a call computes. Sums, norms and
activations are left out, as papers leave them out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def macs_of(call: Callable[[], Any]) -> int:
    """Multiply-accumulates of the convolutions and matrix products in one call."""
    counter = FlopCounterMode(display=False)
    # Not inference mode, in which torch hides operations from whoever counts.
    with torch.no_grad(), counter:
        call()
    return int(counter.get_total_flops()) // 2


def parameters_of(modules: Iterable[nn.Module]) -> int:
    """Parameters of some networks together."""
    return sum(tensor.numel() for module in modules for tensor in module.parameters())


def parameters_used(call: Callable[[], Any], network: nn.Module) -> int:
    """Parameters of those layers of a network that a call passes through."""
    used: dict[int, int] = {}

    def note(layer: nn.Module, given: Any, result: Any) -> None:
        used.update({id(t): t.numel() for t in layer.parameters(recurse=False)})

    handles = [layer.register_forward_hook(note) for layer in network.modules()]
    try:
        with torch.no_grad():
            call()
    finally:
        for handle in handles:
            handle.remove()
    return sum(used.values())


def kmacs_a_pixel(macs: int, side: int) -> float:
    """Thousands of multiply-accumulates for each pixel of a square picture.

    >>> kmacs_a_pixel(65_536_000, 256)
    1.0
    """
    return macs / side**2 / 1000
