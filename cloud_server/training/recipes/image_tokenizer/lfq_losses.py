"""Training losses of lookup-free quantisation (LFQ): sharp decisions, all codes in use.

It does not know the network; the quantiser itself is in `shared_protocol.tokenizers.lfq`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from shared_protocol.tokenizers.lfq import codes_to_z, signs

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
