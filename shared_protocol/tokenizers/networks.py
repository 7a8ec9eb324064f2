"""The two image tokenizers layer by layer, said once for everything that can compute layers.

It knows names of weights and the order of layers, not arrays: what a convolution is made of comes
with the `Layers`, which compute at once (numpy) or write down a graph (ONNX). `compact` and
`magvitv2` hold the same networks in torch, where they are trained and compared with.
"""

from __future__ import annotations

from typing import Any, Protocol

from shared_protocol.tokenizers.sizes import STEM, CompactConfig, MagvitV2Config

Map = Any
"""A feature map of C channels; what it is, only the `Layers` know."""
Padding = tuple[int, int, int, int]
"""Rows above, columns left, rows below, columns right; all zeros."""


class Layers(Protocol):
    """What a network is made of; `name` is that of the weights, without `.weight` and `.bias`."""

    def convolve(self, x: Map, name: str, padding: int | Padding = 0, stride: int = 1) -> Map:
        """Convolution with bias."""

    def relu(self, x: Map) -> Map:
        """max(x, 0)."""

    def silu(self, x: Map) -> Map:
        """x * sigmoid(x)."""

    def add(self, x: Map, y: Map) -> Map:
        """Sum of two maps."""

    def to_depth(self, x: Map, block: int) -> Map:
        """Every block x block square of places becomes channels; torch's pixel_unshuffle."""

    def to_space(self, x: Map, block: int) -> Map:
        """The inverse of `to_depth`."""

    def double(self, x: Map) -> Map:
        """Twice the rows and columns, by repetition."""

    def unit_norm(self, x: Map) -> Map:
        """Every place divided by the root mean square of its channels."""

    def group_norm(self, x: Map, name: str) -> Map:
        """Group norm over 32 groups, with gain and bias."""

    def attend(self, queries: Map, keys: Map, values: Map) -> Map:
        """Attention of one head between all places."""


def compact_encoder(layers: Layers, pixels: Map, config: CompactConfig) -> Map:
    """Pixels to z, of which only the signs count."""
    x = layers.convolve(layers.to_depth(pixels, STEM), "encoder.conv_in", 1)
    at = 0
    for level, count in enumerate(config.encoder_blocks):
        if level:
            x = layers.convolve(layers.to_depth(x, 2), f"encoder.stages.{at + 1}")
            at += 2
        for _ in range(count):
            x = _compact_block(layers, x, f"encoder.stages.{at}", 0)
            at += 1
        x = layers.unit_norm(x)
        at += 1
    return layers.convolve(layers.relu(x), "encoder.conv_out")


def compact_decoder(layers: Layers, values: Map, config: CompactConfig) -> Map:
    """+1/-1 values to pixels."""
    x = layers.convolve(values, "decoder.conv_in", 1)
    at = 0
    for level in reversed(range(len(config.decoder_blocks))):
        for _ in range(config.decoder_blocks[level]):
            x = _compact_block(layers, x, f"decoder.stages.{at}", 1)
            at += 1
        if level:
            x = layers.to_space(layers.convolve(x, f"decoder.stages.{at}"), 2)
            at += 2
    return layers.to_space(layers.convolve(layers.relu(x), "decoder.conv_out", 1), STEM)


def _compact_block(layers: Layers, x: Map, name: str, padding: int) -> Map:
    inner = layers.convolve(layers.relu(x), f"{name}.conv1", padding)
    return layers.add(layers.convolve(layers.relu(inner), f"{name}.conv2", padding), x)


def magvitv2_encoder(layers: Layers, pixels: Map, config: MagvitV2Config) -> Map:
    """Pixels to z."""
    x = layers.convolve(pixels, "encoder.conv_in", 1)
    inputs = config.encoder.ch
    for level, width in enumerate(config.encoder.channels):
        for index in range(config.encoder.num_res_blocks[level]):
            x = _block(layers, x, f"encoder.down.{level}.block.{index}", inputs != width)
            inputs = width
        if level + 1 < len(config.encoder.channels):
            name = f"encoder.down.{level}.downsample.conv"
            x = layers.convolve(x, name, (0, 0, 1, 1), stride=2)
    x = layers.silu(layers.group_norm(_middle(layers, x, "encoder.mid"), "encoder.norm_out"))
    return layers.convolve(layers.convolve(x, "encoder.conv_out", 1), "encoder.quant_conv")


def magvitv2_decoder(layers: Layers, values: Map, config: MagvitV2Config) -> Map:
    """+1/-1 values to pixels."""
    x = layers.convolve(values, "decoder.post_quant_conv")
    x = _middle(layers, layers.convolve(x, "decoder.conv_in", 1), "decoder.mid")
    inputs = config.decoder.channels[-1]
    for level in reversed(range(len(config.decoder.channels))):
        width = config.decoder.channels[level]
        for index in range(config.decoder.num_res_blocks[level]):
            x = _block(layers, x, f"decoder.up.{level}.block.{index}", inputs != width)
            inputs = width
        if level:
            x = layers.convolve(layers.double(x), f"decoder.up.{level}.upsample.conv", 1)
    x = layers.silu(layers.group_norm(x, "decoder.norm_out"))
    return layers.convolve(x, "decoder.conv_out", 1)


def _block(layers: Layers, x: Map, name: str, projected: bool) -> Map:
    inner = layers.silu(layers.group_norm(x, f"{name}.norm1"))
    inner = layers.convolve(inner, f"{name}.conv1", 1)
    inner = layers.silu(layers.group_norm(inner, f"{name}.norm2"))
    inner = layers.convolve(inner, f"{name}.conv2", 1)
    shortcut = layers.convolve(x, f"{name}.nin_shortcut") if projected else x
    return layers.add(inner, shortcut)


def _middle(layers: Layers, x: Map, name: str) -> Map:
    x = _block(layers, x, f"{name}.block_1", False)
    normed = layers.group_norm(x, f"{name}.attn_1.norm")
    parts = (layers.convolve(normed, f"{name}.attn_1.{part}") for part in "qkv")
    mixed = layers.convolve(layers.attend(*parts), f"{name}.attn_1.proj_out")
    return _block(layers, layers.add(mixed, x), f"{name}.block_2", False)
