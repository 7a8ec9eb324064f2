"""How large the two image tokenizers are, and how to read that off a file of weights.

It knows names and shapes of weights, not what is computed with them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared_protocol.bundles.weight_files import Shape
from shared_protocol.errors import CheckpointError

COMPACT_FORMAT = "unimic-compact-tokenizer-1"
STEM = 4  # pixels per side of a stem cell
PIXEL_CHANNELS = 3 * STEM * STEM
_LEVELS, _WIDEST, _MOST_BITS = 3, 4096, 20
_MOST = 64
"""More residual blocks than any level has."""


@dataclass(frozen=True)
class CompactConfig:
    """Sizes of the network; the first entry of each triple is at H/4, the last at H/16.

    Attributes:
        bits: K, channels of z.
        encoder_channels / encoder_blocks: widths and residual blocks of the encoder.
        decoder_channels / decoder_blocks: the same of the decoder.
    """

    bits: int = 13
    encoder_channels: tuple[int, int, int] = (96, 192, 320)
    encoder_blocks: tuple[int, int, int] = (2, 2, 2)
    decoder_channels: tuple[int, int, int] = (80, 128, 192)
    decoder_blocks: tuple[int, int, int] = (2, 2, 2)

    def __post_init__(self) -> None:
        """Raise `CheckpointError` for sizes that no such network has."""
        _check_sizes("bits", (self.bits,), _MOST_BITS)
        for name in ("encoder_channels", "decoder_channels"):
            _check_sizes(name, getattr(self, name), _WIDEST, _LEVELS)
        for name in ("encoder_blocks", "decoder_blocks"):
            _check_sizes(name, getattr(self, name), _MOST, _LEVELS)

    @property
    def stride(self) -> int:
        """Pixels per token side."""
        return STEM << (len(self.encoder_channels) - 1)


@dataclass(frozen=True)
class CoderConfig:
    """Shape of one half (encoder or decoder).

    Args:
        ch: base channels.
        ch_mult: channel multiplier by level, highest resolution first.
        num_res_blocks: residual blocks by level, highest resolution first.
    """

    ch: int
    ch_mult: tuple[int, ...]
    num_res_blocks: tuple[int, ...]

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels by level, highest resolution first."""
        return tuple(self.ch * mult for mult in self.ch_mult)


@dataclass(frozen=True)
class MagvitV2Config:
    """Shape of the whole tokenizer; the defaults are those of the published weights."""

    encoder: CoderConfig = CoderConfig(128, (1, 2, 2, 4, 4), (4, 3, 4, 3, 4))
    decoder: CoderConfig = CoderConfig(128, (1, 1, 2, 2, 4), (4, 4, 3, 4, 3))
    bits: int = 13

    @property
    def codebook_size(self) -> int:
        """Number V of codes."""
        return 1 << self.bits

    @property
    def stride(self) -> int:
        """Pixels per token side."""
        return 1 << (len(self.encoder.ch_mult) - 1)


def config_from_json(text: str) -> CompactConfig:
    """The config that `save_compact` put in the metadata.

    Raises:
        CheckpointError: it is none, or its sizes are those of no such network.
    """
    try:
        entries = json.loads(text).items()
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in entries}
        return CompactConfig(**fields)
    except (ValueError, RecursionError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"not an image tokenizer's config: {error}", "fetch the file again"
        ) from error


def coder_config(ch: int, ch_mult: Sequence[int], num_res_blocks: Sequence[int]) -> CoderConfig:
    """A `CoderConfig` from plain lists, as they stand in configuration files."""
    return CoderConfig(ch, tuple(ch_mult), tuple(num_res_blocks))


def config_of(shapes: Mapping[str, Shape]) -> MagvitV2Config:
    """The shape of the network that tensors of these names and shapes belong to.

    Raises:
        CheckpointError: they are not those of a MAGVIT-v2 network.
    """
    try:
        return MagvitV2Config(
            _coder_config_of(shapes, "encoder.down", shapes["encoder.conv_in.weight"][0]),
            _coder_config_of(shapes, "decoder.up", shapes["decoder.norm_out.weight"][0]),
            bits=shapes["encoder.quant_conv.weight"][0],
        )
    except (KeyError, IndexError) as error:
        raise CheckpointError(
            f"the weights are not those of a MAGVIT-v2 tokenizer: {error.args[0]} is missing",
            "use the published file of showlab/magvitv2",
        ) from error


def _check_sizes(name: str, sizes: Any, most: int, count: int = 1) -> None:
    whole = isinstance(sizes, tuple) and len(sizes) == count
    if not whole or not all(type(size) is int and 1 <= size <= most for size in sizes):
        told = f"an image tokenizer's {name} is {str(sizes)[:80]}"
        raise CheckpointError(told, f"use {count} whole numbers of 1 to {most:,}")


def _coder_config_of(shapes: Mapping[str, Shape], levels: str, width: int) -> CoderConfig:
    """One half's shape; `width` is that of the highest resolution, taken as the base."""
    channels: list[int] = []
    blocks: list[int] = []
    while f"{levels}.{len(channels)}.block.0.conv1.weight" in shapes:
        level = f"{levels}.{len(channels)}.block"
        channels.append(shapes[f"{level}.0.conv1.weight"][0])
        blocks.append(sum(f"{level}.{index}.conv1.weight" in shapes for index in range(_MOST)))
    if not channels or width < 1 or any(count % width for count in channels):
        raise KeyError(f"{levels}.0.block.0.conv1.weight")
    return coder_config(width, [count // width for count in channels], blocks)
