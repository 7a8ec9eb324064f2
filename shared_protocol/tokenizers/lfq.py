"""Lookup-free quantisation (LFQ): thirteen signs make one of 8,192 codes.

Knows nothing of networks or pixels. Bits and order are MAGVIT-v2's as Show-o uses them:
bit = (z > 0), channel 0 is the most significant bit, the quantised value of a bit is +1 or -1.

    z [B, K, H, W] --sign--> bits --weights 4096 ... 1--> codes [B, H, W]
                               \\--> +1/-1 [B, K, H, W] --> decoder
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

SOFTNESS = 4.0  # difference of the squared distances to +1 and -1 is 4 z


@dataclass(frozen=True)
class LfqLosses:
    """Training losses of the quantiser, scalars.

    Attributes:
        commitment: mean squared distance of z to its signs, (1 + beta) times.
        entropy: mean entropy of the single decision, in nats; small when decisions are sharp.
        diversity: entropy of the mean decision, in nats; large when all codes are in use.
    """

    commitment: Tensor
    entropy: Tensor
    diversity: Tensor


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


def lfq_losses(z: Tensor, beta: float = 0.25, groups: int | None = None) -> LfqLosses:
    """Commitment and entropy losses of MAGVIT-v2 (LFQ, arXiv 2310.05737, section 3).

    Args:
        z: float [B, K, H, W], before quantisation.
        beta: extra weight of the pull of z towards its signs.
        groups: how many groups the bits are split into; diversity is the entropy over the joint
            codes of a group, so fewer groups also discourage bits that repeat each other.
            None makes every bit its own group, as Show-o's recipe does.

    Returns:
        The losses in float32; both entropies are sums over groups divided by K.
    """
    flat = z.float().permute(0, 2, 3, 1).reshape(-1, z.shape[1])  # [N, K]
    bits = flat.shape[1]
    commitment = (1 + beta) * F.mse_loss(flat, signs(flat).detach())
    entropy, diversity = flat.new_zeros(()), flat.new_zeros(())
    for group in torch.tensor_split(flat, groups or bits, dim=1):
        log_p = code_log_probabilities(group)  # [N, 2^k]
        mean_p = log_p.exp().mean(dim=0)
        entropy = entropy - (log_p.exp() * log_p).sum(dim=1).mean()
        diversity = diversity - (mean_p * mean_p.clamp_min(1e-9).log()).sum()
    return LfqLosses(commitment, entropy / bits, diversity / bits)


def code_log_probabilities(z: Tensor) -> Tensor:
    """Log-softmax of the negative squared distances to all codes of these bits.

    Args:
        z: float [N, k].

    Returns:
        float [N, 2^k]; the bits are independent, so this is the product of k two-way softmaxes.
    """
    bits = z.shape[1]
    table = codes_to_z(torch.arange(2**bits, device=z.device)[None, None], bits)[0, :, 0]  # [k, V]
    return torch.log_softmax(SOFTNESS / 2 * (z @ table.to(z.dtype)), dim=1)
