"""Lookup-free quantisation (LFQ): thirteen signs make one of 8,192 codes.

Bits and order are MAGVIT-v2's as Show-o uses them: bit = (z > 0), channel 0 is the most significant
bit, the quantised value of a bit is +1 or -1. It knows no network: whoever has codes needs nothing
else to get the values that a decoder, or another model's neck, sees::

    z [B, K, H, W] --sign--> bits --weights 4096 ... 1--> codes [B, H, W]
                       \\--> +1/-1 [B, K, H, W] --> decoder
"""

from __future__ import annotations

import torch
from torch import Tensor


def bit_weights(bits: int, device: torch.device | None = None) -> Tensor:
    """int64 [K] of 2^(K-1) ... 1: the value of each channel's bit.

    >>> bit_weights(4).tolist()
    [8, 4, 2, 1]
    """
    return 2 ** torch.arange(bits - 1, -1, -1, dtype=torch.int64, device=device)


def z_to_codes(z: Tensor) -> Tensor:
    """Codes of the signs of z; an exact zero counts as a cleared bit.

    Args:
        z: float [B, K, H, W].

    Returns:
        int64 [B, H, W] in 0..2^K - 1.

    >>> z_to_codes(torch.tensor([0.5, -2.0, 0.0, 3.0]).view(1, 4, 1, 1)).item()
    9
    """
    weights = bit_weights(z.shape[1], z.device)
    return ((z > 0).long() * weights[:, None, None]).sum(dim=1)


def codes_to_z(codes: Tensor, bits: int) -> Tensor:
    """The +1/-1 values that the decoder sees; the inverse of `z_to_codes`.

    Args:
        codes: integer [B, H, W] in 0..2^bits - 1.
        bits: K.

    Returns:
        float32 [B, K, H, W] of +1 and -1.

    Raises:
        ValueError: a code is out of range.
    """
    if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < 2**bits:
        raise ValueError(
            f"codes must lie in 0..{2**bits - 1}: these do not come from this tokenizer"
        )
    weights = bit_weights(bits, codes.device)
    is_set = (codes.long()[:, None] & weights[:, None, None]) != 0
    return is_set.float() * 2 - 1


def signs(z: Tensor) -> Tensor:
    """+1 where z > 0, else -1, same shape and dtype as z."""
    return torch.where(z > 0, torch.ones_like(z), -torch.ones_like(z))


def quantize(z: Tensor) -> Tensor:
    """Signs of z with the gradient of the identity (straight-through)."""
    return z + (signs(z) - z).detach()
