"""The layers of image tokenizers in numpy: matrix products by BLAS, a few megabytes at a time.

It does not know networks. A feature map is (C, H, W) float32; layers may overwrite the one that
they are given where its owner needs it no more, which their notes say.

A 3x3 convolution is nine matrix products over the padded map, each shifted by one place: nothing
is copied nine times, and memory stays at a few maps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from shared_protocol.tokenizers.networks import Layers, Padding

Floats = npt.NDArray[np.float32]

GROUPS = 32
GROUP_FLOOR = 1e-6
UNIT_FLOOR = 1e-6
STRIP = 1 << 22
"""Values of a product that are computed at once."""


class NumpyLayers:
    """`networks.Layers` that compute at once.

    Args:
        weights: float32 arrays by name; asked whenever one is needed.
    """

    def __init__(self, weights: Mapping[str, Floats]) -> None:
        self._weights = weights

    def convolve(self, x: Floats, name: str, padding: int | Padding = 0, stride: int = 1) -> Floats:
        """See `Layers.convolve`; kernels are square."""
        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        top, left, bottom, right = (padding,) * 4 if isinstance(padding, int) else padding
        if weight.shape[2] == 1:
            out = weight[:, :, 0, 0] @ x.reshape(len(x), -1)
            out += bias[:, None]
            return out.reshape(len(weight), *x.shape[1:])
        # Places are shifted along the flat map; the last shifts read `size` beyond its end.
        size = weight.shape[2] - 1
        height, width = x.shape[1] + top + bottom, x.shape[2] + left + right
        flat = np.zeros((len(x), height * width + size), dtype=np.float32)
        inner = flat[:, : height * width].reshape(len(x), height, width)
        inner[:, top : top + x.shape[1], left : left + x.shape[2]] = x
        out = _shifted_products(weight, flat, (height - size, width))
        grid = out.reshape(len(weight), height - size, width)[:, ::stride, : width - size : stride]
        return grid + bias[:, None, None]

    def relu(self, x: Floats) -> Floats:
        """See `Layers.relu`; a new map."""
        return np.maximum(x, np.float32(0))

    def silu(self, x: Floats) -> Floats:
        """See `Layers.silu`; overwrites `x`, which a norm has just made."""
        with np.errstate(over="ignore"):  # exp(-x) may be infinite, and x / infinity is right
            gate = np.exp(-x)
        gate += np.float32(1)
        return np.divide(x, gate, out=x)

    def add(self, x: Floats, y: Floats) -> Floats:
        """See `Layers.add`; overwrites `x`, which a convolution has just made."""
        return np.add(x, y, out=x)

    def to_depth(self, x: Floats, block: int) -> Floats:
        """See `Layers.to_depth`."""
        channels, height, width = x.shape
        cells = x.reshape(channels, height // block, block, width // block, block)
        return cells.transpose(0, 2, 4, 1, 3).reshape(-1, height // block, width // block)

    def to_space(self, x: Floats, block: int) -> Floats:
        """See `Layers.to_space`."""
        channels, height, width = x.shape
        cells = x.reshape(channels // block**2, block, block, height, width)
        return cells.transpose(0, 3, 1, 4, 2).reshape(-1, height * block, width * block)

    def double(self, x: Floats) -> Floats:
        """See `Layers.double`."""
        return x.repeat(2, axis=1).repeat(2, axis=2)

    def unit_norm(self, x: Floats) -> Floats:
        """See `Layers.unit_norm`."""
        squares: Floats = np.mean(np.square(x), axis=0, dtype=np.float32)
        squares += np.float32(UNIT_FLOOR)
        return np.divide(x, np.sqrt(squares), dtype=np.float32)

    def group_norm(self, x: Floats, name: str) -> Floats:
        """See `Layers.group_norm`; a new map."""
        groups = x.reshape(GROUPS, -1)
        centred = groups - groups.mean(axis=1, keepdims=True)
        variance = np.einsum("gi,gi->g", centred, centred) / np.float32(groups.shape[1])
        centred /= np.sqrt(variance + np.float32(GROUP_FLOOR))[:, None]
        normed: Floats = centred.reshape(x.shape)
        normed *= self._weights[f"{name}.weight"][:, None, None]
        normed += self._weights[f"{name}.bias"][:, None, None]
        return normed

    def attend(self, queries: Floats, keys: Floats, values: Floats) -> Floats:
        """See `Layers.attend`."""
        channels, *places = queries.shape
        q, k, v = (part.reshape(channels, -1) for part in (queries, keys, values))
        scores = (q.T @ k) * np.float32(channels**-0.5)
        scores -= scores.max(axis=1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=1, keepdims=True)
        return (v @ scores.T).reshape(channels, *places)


class NumpyNetwork:
    """An `LfqNetwork` in numpy.

    Args:
        config: its sizes.
        weights: float32 arrays by name.
        encoder, decoder: walk through the network; see `networks`.
    """

    def __init__(
        self,
        config: Any,
        weights: Mapping[str, Floats],
        encoder: Callable[[Layers, Any, Any], Any],
        decoder: Callable[[Layers, Any, Any], Any],
    ) -> None:
        self.config = config
        self._layers = NumpyLayers(weights)
        self.computed_by = f"numpy {np.__version__}"
        self._encoder, self._decoder = encoder, decoder

    def encode(self, pixels: Floats) -> Floats:
        """See `LfqNetwork.encode`."""
        z: Floats = self._encoder(self._layers, pixels, self.config)
        return z

    def decode(self, values: Floats) -> Floats:
        """See `LfqNetwork.decode`."""
        pixels: Floats = self._decoder(self._layers, values, self.config)
        return pixels


def _shifted_products(weight: Floats, flat: Floats, shape: tuple[int, int]) -> Floats:
    """(O, rows * width): for each place the sum over the kernel's shifts, columns still padded.

    Args:
        weight: (O, C, k, k).
        flat: (C, places + k - 1), a padded map.
        shape: rows of the result and columns of the padded map.
    """
    rows, width = shape
    length = rows * width
    side = weight.shape[2]
    shifts = np.ascontiguousarray(weight.transpose(2, 3, 0, 1))  # (k, k, O, C)
    out = np.zeros((len(weight), length), dtype=np.float32)
    strip = max(width, STRIP // len(weight))
    part = np.empty((len(weight), min(strip, length)), dtype=np.float32)
    for start in range(0, length, strip):
        end = min(start + strip, length)
        mine, product = out[:, start:end], part[:, : end - start]
        for down in range(side):
            for right in range(side):
                shift = down * width + right
                np.matmul(shifts[down, right], flat[:, start + shift : end + shift], out=product)
                mine += product
    return out
