"""The MAGVIT-v2 image tokenizer network of Show-o, with its lookup-free quantiser.

It does not know files or pixels in bytes; it maps float tensors in [-1, 1] to codes and back.
Parameter names are those of the published checkpoint, so its state dict loads as it is.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from shared_protocol.bundles.tensor_files import load_into, open_tensors
from shared_protocol.tokenizers.sizes import CoderConfig, MagvitV2Config, config_of

_EPS = 1e-6
_GROUPS = 32


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(_GROUPS, channels, eps=_EPS)


class _ResBlock(nn.Module):
    """norm, swish, conv, norm, swish, conv, plus the (projected) input."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm1 = _norm(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2 = _norm(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        if inputs != outputs:
            self.nin_shortcut = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self.conv1(functional.silu(self.norm1(x)))
        hidden = self.conv2(functional.silu(self.norm2(hidden)))
        shortcut: torch.Tensor = self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x
        return hidden + shortcut


class _Attention(nn.Module):
    """Single-head self-attention over all positions, with a residual."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = _norm(channels)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        normed = self.norm(x)
        q, k, v = (layer(normed).flatten(2).mT for layer in (self.q, self.k, self.v))  # [B, HW, C]
        mixed = functional.scaled_dot_product_attention(q, k, v)
        projected: torch.Tensor = self.proj_out(mixed.mT.reshape(x.shape))
        return x + projected


class _Downsample(nn.Module):
    """Halve both sides; the zero padding is on the right and at the bottom only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        halved: torch.Tensor = self.conv(functional.pad(x, (0, 1, 0, 1)))
        return halved


class _Upsample(nn.Module):
    """Double both sides by repetition, then convolve."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        doubled = functional.interpolate(x, scale_factor=2.0, mode="nearest")
        smoothed: torch.Tensor = self.conv(doubled)
        return smoothed


class _Level(nn.Module):
    """The residual blocks of one resolution, then the resampling layer that the owner adds."""

    def __init__(self, inputs: int, outputs: int, blocks: int) -> None:
        super().__init__()
        self.downsample: nn.Module | None = None
        self.upsample: nn.Module | None = None
        widths = [inputs, *[outputs] * blocks]
        self.block = nn.ModuleList(_ResBlock(a, b) for a, b in itertools.pairwise(widths))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in (*self.block, self.downsample, self.upsample):
            x = x if layer is None else layer(x)
        return x


class _Middle(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block_1 = _ResBlock(channels, channels)
        self.attn_1 = _Attention(channels)
        self.block_2 = _ResBlock(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mixed: torch.Tensor = self.block_2(self.attn_1(self.block_1(x)))
        return mixed


class _Encoder(nn.Module):
    """Pixels [B, 3, H, W] to z [B, bits, H/stride, W/stride]."""

    def __init__(self, config: CoderConfig, bits: int) -> None:
        super().__init__()
        channels = config.channels
        self.conv_in = nn.Conv2d(3, config.ch, 3, padding=1)
        inputs = (config.ch, *channels[:-1])
        self.down = nn.ModuleList(map(_Level, inputs, channels, config.num_res_blocks))
        for level, width in zip(list(self.down)[:-1], channels, strict=False):
            level.downsample = _Downsample(width)
        self.mid = _Middle(channels[-1])
        self.norm_out = _norm(channels[-1])
        self.conv_out = nn.Conv2d(channels[-1], bits, 3, padding=1)
        self.quant_conv = nn.Conv2d(bits, bits, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv_in(x)
        for level in self.down:
            x = level(x)
        x = functional.silu(self.norm_out(self.mid(x)))
        z: torch.Tensor = self.quant_conv(self.conv_out(x))
        return z


class _Decoder(nn.Module):
    """Codes as ±1 [B, bits, h, w] to pixels [B, 3, h*stride, w*stride]."""

    def __init__(self, config: CoderConfig, bits: int) -> None:
        super().__init__()
        channels = config.channels
        self.post_quant_conv = nn.Conv2d(bits, bits, 1)
        self.conv_in = nn.Conv2d(bits, channels[-1], 3, padding=1)
        self.mid = _Middle(channels[-1])
        inputs = (*channels[1:], channels[-1])  # a level is fed by the next lower resolution
        self.up = nn.ModuleList(map(_Level, inputs, channels, config.num_res_blocks))
        for level, width in zip(list(self.up)[1:], channels[1:], strict=True):
            level.upsample = _Upsample(width)
        self.norm_out = _norm(channels[0])
        self.conv_out = nn.Conv2d(channels[0], 3, 3, padding=1)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        x = self.mid(self.conv_in(self.post_quant_conv(z)))
        for level in reversed(list(self.up)):
            x = level(x)
        pixels: torch.Tensor = self.conv_out(functional.silu(self.norm_out(x)))
        return pixels


class _Codebook(nn.Module):
    """The ±1 table of all codes; buffers of the published checkpoint."""

    embedding: torch.Tensor
    power_vals: torch.Tensor

    def __init__(self, bits: int) -> None:
        super().__init__()
        powers = 2 ** torch.arange(bits - 1, -1, -1)  # channel 0 is the most significant bit
        signs = (torch.arange(2**bits)[:, None] & powers) > 0  # [V, bits]
        self.register_buffer("power_vals", powers)
        self.register_buffer("embedding", signs.float() * 2.0 - 1.0)


class MagvitV2(nn.Module):
    """The tokenizer as published for Show-o (its checkpoint's keys and shapes).

    ```
    pixels ─► encoder ─► z ─► sign ─► codes        codes ─► ±1 table ─► decoder ─► pixels
    [B,3,H,W]       [B,13,h,w]      [B,h,w]        [B,h,w]  [B,13,h,w]         [B,3,H,W]
    ```

    Source: Yu et al., "Language Model Beats Diffusion" (lookup-free quantisation); Show-o.
    """

    def __init__(self, config: MagvitV2Config | None = None) -> None:
        super().__init__()
        self.config = config = config or MagvitV2Config()
        self.encoder = _Encoder(config.encoder, config.bits)
        self.decoder = _Decoder(config.decoder, config.bits)
        self.quantize = _Codebook(config.bits)

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """[B, 3, H, W] float in [-1, 1] to z [B, bits, h, w]; the code is the signs of z."""
        z: torch.Tensor = self.encoder(pixels)
        return z

    def encode_codes(self, pixels: torch.Tensor) -> torch.Tensor:
        """[B, 3, H, W] float in [-1, 1] to codes [B, h, w] int64; exactly 0 counts as bit 0."""
        bits = (self.encode(pixels) > 0).long()
        return (bits * self.quantize.power_vals[:, None, None]).sum(dim=1)

    def decode_codes(self, codes: torch.Tensor) -> torch.Tensor:
        """[B, h, w] codes to pixels [B, 3, h*stride, w*stride] float, not clamped."""
        z = self.quantize.embedding[codes].permute(0, 3, 1, 2)  # [B, bits, h, w]
        pixels: torch.Tensor = self.decoder(z)
        return pixels


def load_magvitv2(path: Path, config: MagvitV2Config | None = None) -> MagvitV2:
    """The network with the weights of a published checkpoint, in float32.

    Args:
        path: file, index or folder with the published keys, any float dtype; see `tensor_files`.
        config: shape; None reads it off the tensors.

    Raises:
        CheckpointError: no weights there, or tensors missing, unexpected or misshapen.
    """
    tensors = open_tensors(path)
    with torch.device("meta"):
        network = MagvitV2(config or config_of(tensors.shapes))
    load_into(network, tensors)
    return network.eval()
