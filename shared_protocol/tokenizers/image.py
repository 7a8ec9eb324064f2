"""The seam between pixels and image tokens: a protocol and the adapter of every LFQ network.

It does not know files, image formats or resizing; pixels come in as uint8 arrays of the right size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from shared_protocol.errors import ImageError
from shared_protocol.tokens import Codes, ImageTokens

Pixels = npt.NDArray[np.uint8]
"""(H, W, 3) RGB, or (H, W) grey; declared here, where pixels and tokens meet, and nowhere else."""
Floats = npt.NDArray[np.float32]


class ImageTokenizer(Protocol):
    """Pixels to tokens and back, at a fixed number of pixels a token."""

    @property
    def stride(self) -> int:
        """Pixels per token side."""

    @property
    def codebook_size(self) -> int:
        """Number V of codes."""

    @property
    def computed_by(self) -> str:
        """What computes it, in words."""

    def tokenize(self, pixels: Pixels) -> ImageTokens:
        """(H, W, 3) uint8 RGB, H and W multiples of `stride`, to (H/stride, W/stride) codes."""

    def detokenize(self, tokens: ImageTokens) -> Pixels:
        """(h, w) codes to (h*stride, w*stride, 3) uint8 RGB."""


class LfqSizes(Protocol):
    """What a network's configuration tells."""

    @property
    def bits(self) -> int:
        """K: it has 2^K codes."""

    @property
    def stride(self) -> int:
        """Pixels per token side."""


class LfqNetwork(Protocol):
    """A network with lookup-free quantisation, whatever computes it; one picture at a time.

    ```
    pixels in [-1, 1] ─► encode ─► z ─ signs ─► codes      codes ─ +1/-1 ─► decode ─► pixels
    (3, H, W)                  (K, h, w)       (h, w)      (h, w)  (K, h, w)          (3, H, W)
    ```
    """

    @property
    def config(self) -> LfqSizes:
        """Its sizes."""

    @property
    def computed_by(self) -> str:
        """What computes it, in words."""

    def encode(self, pixels: Floats) -> Floats:
        """Pixels (3, H, W) to z (K, H/stride, W/stride); only its signs count."""

    def decode(self, values: Floats) -> Floats:
        """+1/-1 values (K, h, w) to pixels (3, h*stride, w*stride), not clamped."""


class NetworkTokenizer:
    """An `LfqNetwork` behind the `ImageTokenizer` protocol.

    Pixel conventions are those of Show-o: RGB scaled to [-1, 1] on the way in; clamped, scaled to
    0..255 and truncated to uint8 on the way out.

    Args:
        load: makes the network; called on first use, so that constructing costs nothing.
        stride: pixels per token side.
        codebook_size: V.
    """

    def __init__(self, load: Callable[[], LfqNetwork], stride: int, codebook_size: int) -> None:
        self._load = load
        self._network: LfqNetwork | None = None
        self._stride = stride
        self._codebook_size = codebook_size

    @property
    def stride(self) -> int:
        """Pixels per token side."""
        return self._stride

    @property
    def codebook_size(self) -> int:
        """Number V of codes."""
        return self._codebook_size

    @property
    def computed_by(self) -> str:
        """What computes it, in words; opens its file."""
        return self._loaded().computed_by

    def _loaded(self) -> LfqNetwork:
        if self._network is None:
            self._network = self._load()
        return self._network

    def tokenize(self, pixels: Pixels) -> ImageTokens:
        """See `ImageTokenizer.tokenize`.

        Raises:
            ImageError: not (H, W, 3) uint8, or a side that is not a positive multiple of `stride`.
        """
        _check_pixels(pixels, self._stride)
        scaled = np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype=np.float32)
        scaled /= np.float32(127.5)
        scaled -= np.float32(1)
        return ImageTokens(codes_of(self._loaded().encode(scaled)), self._codebook_size)

    def detokenize(self, tokens: ImageTokens) -> Pixels:
        """See `ImageTokenizer.detokenize`."""
        network = self._loaded()
        pixels = network.decode(values_of(tokens.codes, network.config.bits))
        scaled = np.clip((pixels + np.float32(1)) / np.float32(2), 0, 1) * np.float32(255)
        return np.ascontiguousarray(scaled.transpose(1, 2, 0)).astype(np.uint8)


def codes_of(z: Floats) -> Codes:
    """(h, w) int32 codes of the signs of z (K, h, w); an exact zero counts as a cleared bit.

    Channel 0 is the most significant bit, as in MAGVIT-v2.

    >>> codes_of(np.array([0.5, -2.0, 0.0, 3.0], dtype=np.float32).reshape(4, 1, 1)).item()
    9
    """
    weights = 1 << np.arange(len(z) - 1, -1, -1, dtype=np.int32)
    codes: Codes = np.tensordot(weights, (z > 0).astype(np.int32), axes=1)
    return codes


def values_of(codes: Codes, bits: int) -> Floats:
    """(bits, h, w) float32 of +1 and -1 that a decoder sees; the inverse of `codes_of`.

    >>> values_of(np.array([[9]], dtype=np.int32), 4)[:, 0, 0].tolist()
    [1.0, -1.0, -1.0, 1.0]
    """
    shifts = np.arange(bits - 1, -1, -1)[:, None, None]
    is_set = (codes.astype(np.int64)[None] >> shifts) & 1
    return (is_set * 2 - 1).astype(np.float32)


def _check_pixels(pixels: Pixels, stride: int) -> None:
    fits = pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.dtype == np.uint8
    if not fits or any(side == 0 or side % stride for side in pixels.shape[:2]):
        raise ImageError(
            f"cannot tokenise a {pixels.dtype} array of shape {pixels.shape}",
            f"give (H, W, 3) uint8 with H and W multiples of {stride}",
        )
