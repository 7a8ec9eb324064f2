"""The built-in image tokenizer's network: light, fully convolutional, stride 16, LFQ of 13 bits.

Same interface and code layout as MAGVIT-v2; knows no files, no PIL images, no token offsets.

    pixels [B,3,H,W] in -1..1
       | 4x4 space-to-depth, 3x3         H/4   encoder: sees its own 16x16 block and a 4 px rim, so
       | 1x1 blocks, 2x2 to depth        H/8   an object that stands on the 16 px grid gives the
       | 1x1 blocks, 2x2 to depth        H/16  same codes wherever it stands
       v
    z [B,13,H/16,W/16] --LFQ--> codes --> +1/-1
       | 3x3 residual blocks             H/16  decoder: wider view, hides the borders of blocks
       | 3x3 residual blocks             H/8
       | 3x3 residual blocks             H/4
       v 4x4 depth-to-space
    pixels [B,3,H,W]

Differs from MAGVIT-v2: no group norm and no attention (both make a code depend on the whole
picture), and no convolutions at full resolution (they cost most of the time on a CPU).
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from shared_protocol.bundles.weight_files import check_safe_file, check_shapes
from shared_protocol.errors import CheckpointError
from shared_protocol.files import write_atomically
from shared_protocol.tokenizers.lfq import codes_to_z, quantize, z_to_codes
from shared_protocol.tokenizers.sizes import (
    COMPACT_FORMAT,
    PIXEL_CHANNELS,
    STEM,
    CompactConfig,
    config_from_json,
)


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(relu(x)))); starts as the identity, needs no normalisation.

    Args:
        channels: width in and out.
        hidden: width between the two convolutions.
        kernel: 1 (own position only) or 3.
    """

    def __init__(self, channels: int, hidden: int, kernel: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, hidden, kernel, padding=kernel // 2)
        self.conv2 = nn.Conv2d(hidden, channels, kernel, padding=kernel // 2)
        nn.init.kaiming_normal_(self.conv1.weight, nonlinearity="relu")
        nn.init.normal_(self.conv2.weight, std=1e-3)
        nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        return x + cast(Tensor, self.conv2(F.relu(self.conv1(F.relu(x)))))


class ChannelNorm(nn.Module):
    """Divides every position by the root mean square of its own channels; no parameters.

    Keeps z near the quantiser's +1/-1 without making a code depend on other places.
    """

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W] with mean square 1 at every (H, W)."""
        return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + 1e-6)


class Encoder(nn.Module):
    """Pixels to z; beyond the stem every operation stays inside its own 16x16 block."""

    def __init__(self, config: CompactConfig) -> None:
        super().__init__()
        widths = config.encoder_channels
        self.conv_in = nn.Conv2d(PIXEL_CHANNELS, widths[0], 3, padding=1)
        stages: list[nn.Module] = []
        for level, (width, count) in enumerate(zip(widths, config.encoder_blocks, strict=True)):
            if level:
                stages += [nn.PixelUnshuffle(2), nn.Conv2d(4 * widths[level - 1], width, 1)]
            stages += [ResidualBlock(width, 2 * width, 1) for _ in range(count)]
            stages.append(ChannelNorm())
        self.stages = nn.Sequential(*stages)
        self.conv_out = nn.Conv2d(widths[-1], config.bits, 1)
        # signs do not change, but without it z runs away and training becomes a row of spikes
        self.norm_out = ChannelNorm()

    def forward(self, pixels: Tensor) -> Tensor:
        """float [B, 3, H, W] in -1..1 -> z float [B, K, H/16, W/16], mean square 1 over K."""
        return self._head(self.conv_in(F.pixel_unshuffle(pixels, STEM)))

    def forward_windows(self, windows: Tensor) -> Tensor:
        """Blocks cut out with their rims: float [N, 3, 24, 24] -> z float [N, K, 1, 1].

        Same result as `forward` on the whole picture; beyond its edge a rim is zero.
        """
        cells = F.pixel_unshuffle(windows, STEM)  # [N, 48, 6, 6]
        return self._head(F.conv2d(cells, self.conv_in.weight, self.conv_in.bias))

    def _head(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.norm_out(self.conv_out(F.relu(self.stages(x)))))


class Decoder(nn.Module):
    """+1/-1 values to pixels."""

    def __init__(self, config: CompactConfig) -> None:
        super().__init__()
        widths = config.decoder_channels
        self.conv_in = nn.Conv2d(config.bits, widths[-1], 3, padding=1)
        stages: list[nn.Module] = []
        for level in reversed(range(len(widths))):
            width = widths[level]
            stages += [ResidualBlock(width, width, 3) for _ in range(config.decoder_blocks[level])]
            if level:
                stages += [nn.Conv2d(width, 4 * widths[level - 1], 1), nn.PixelShuffle(2)]
        self.stages = nn.Sequential(*stages)
        self.conv_out = nn.Conv2d(widths[0], PIXEL_CHANNELS, 3, padding=1)

    def forward(self, values: Tensor) -> Tensor:
        """float [B, K, H/16, W/16] of +1/-1 -> pixels float [B, 3, H, W], about -1..1."""
        x = self.stages(self.conv_in(values))
        return F.pixel_shuffle(self.conv_out(F.relu(x)), STEM)


class CompactTokenizer(nn.Module):
    """Encoder, LFQ and decoder.

    Example:
        codes = tokenizer.encode_codes(pixels)  # int64 [B, H/16, W/16]
        pixels = tokenizer.decode_codes(codes)  # float32 [B, 3, H, W], about -1..1
    """

    def __init__(self, config: CompactConfig | None = None) -> None:
        super().__init__()
        self.config = config or CompactConfig()
        self.encoder = Encoder(self.config)
        self.decoder = Decoder(self.config)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Training pass: (reconstruction [B, 3, H, W], z [B, K, H/16, W/16])."""
        z = self.encoder(pixels)
        return self.decoder(quantize(z)), z

    @torch.no_grad()
    def encode_codes(self, pixels: Tensor) -> Tensor:
        """Codes of a picture.

        Args:
            pixels: float [B, 3, H, W] in -1..1, H and W multiples of 16.

        Returns:
            int64 [B, H/16, W/16] in 0..8191.

        Raises:
            ValueError: the shape is not [B, 3, 16 m, 16 n].
        """
        if (
            pixels.ndim != 4
            or pixels.shape[1] != 3
            or any(n % self.config.stride for n in pixels.shape[2:])
        ):
            raise ValueError(
                f"pixels {tuple(pixels.shape)}: pass [B, 3, H, W] with H and W multiples of "
                f"{self.config.stride}"
            )
        return z_to_codes(self.encoder(pixels))

    @torch.no_grad()
    def encode_windows(self, windows: Tensor) -> Tensor:
        """Codes of blocks that were cut out with 4 px of rim; saves work where blocks repeat.

        Args:
            windows: float [N, 3, 24, 24] in -1..1, zero beyond the edge of the picture.

        Returns:
            int64 [N] in 0..8191.
        """
        return z_to_codes(self.encoder.forward_windows(windows))[:, 0, 0]

    @torch.no_grad()
    def decode_codes(self, codes: Tensor) -> Tensor:
        """A picture from its codes.

        Args:
            codes: integer [B, H/16, W/16] in 0..8191.

        Returns:
            float32 [B, 3, H, W], about -1..1, not clamped.

        Raises:
            ValueError: a code is out of range.
        """
        values = codes_to_z(codes, self.config.bits).to(self.decoder.conv_in.weight.dtype)
        return cast(Tensor, self.decoder(values)).float()


def save_compact(tokenizer: CompactTokenizer, path: Path, notes: dict[str, str]) -> None:
    """Writes the weights as fp16 safetensors with the config in the metadata.

    Args:
        tokenizer: what to write.
        path: the target file; replaced atomically.
        notes: further metadata strings (recipe, data, scores).
    """
    metadata = {"format": COMPACT_FORMAT, "config": json.dumps(asdict(tokenizer.config)), **notes}
    weights = {k: v.detach().half().contiguous().cpu() for k, v in tokenizer.state_dict().items()}
    write_atomically(path, to_bytes(weights, metadata))


def load_compact(path: Path) -> CompactTokenizer:
    """The tokenizer in a file: fp16 weights, computed with in float32.

    Args:
        path: a file that `save_compact` wrote.

    Returns:
        The tokenizer in evaluation mode, on the CPU, gradients off.

    Raises:
        CheckpointError: the file holds something else.
    """
    metadata = check_safe_file(path).get("__metadata__") or {}
    with safe_open(path, framework="pt") as file:
        if metadata.get("format") != COMPACT_FORMAT:
            found = metadata.get("format")
            raise CheckpointError(
                f"{path}: format {found!r}, expected {COMPACT_FORMAT!r}",
                "name a compact tokenizer's file",
            )
        weights = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    # No memory until the weights are known to fit: a config may claim any sizes.
    with torch.device("meta"):
        tokenizer = CompactTokenizer(config_from_json(metadata.get("config", "")))
    shapes = {name: tuple(tensor.shape) for name, tensor in tokenizer.state_dict().items()}
    check_shapes(shapes, {name: tuple(found.shape) for name, found in weights.items()}, [path])
    tokenizer.load_state_dict(weights, assign=True)
    return tokenizer.eval().requires_grad_(False)
