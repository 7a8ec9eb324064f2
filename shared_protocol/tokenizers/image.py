"""The seam between pixels and image tokens: a protocol and the adapter of every LFQ network.

It does not know files, image formats or resizing; pixels come in as uint8 arrays of the right size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from shared_protocol.errors import ImageError
from shared_protocol.tokens import ImageTokens

if TYPE_CHECKING:
    import torch

Pixels = npt.NDArray[np.uint8]
"""(H, W, 3) RGB, or (H, W) grey; declared here, where pixels and tokens meet, and nowhere else."""


class ImageTokenizer(Protocol):
    """Pixels to tokens and back, at a fixed number of pixels a token."""

    @property
    def stride(self) -> int:
        """Pixels per token side."""

    @property
    def codebook_size(self) -> int:
        """Number V of codes."""

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
    """A network with MAGVIT-v2's interface (torch tensors, pixels in [-1, 1])."""

    @property
    def config(self) -> LfqSizes:
        """Its sizes."""

    def encode_codes(self, pixels: torch.Tensor) -> torch.Tensor:
        """[B, 3, H, W] to codes [B, H/stride, W/stride] int64."""

    def decode_codes(self, codes: torch.Tensor) -> torch.Tensor:
        """[B, h, w] codes to pixels [B, 3, h*stride, w*stride], not clamped."""


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

    def _loaded(self) -> LfqNetwork:
        if self._network is None:
            self._network = self._load()
        return self._network

    def tokenize(self, pixels: Pixels) -> ImageTokens:
        """See `ImageTokenizer.tokenize`.

        Raises:
            ImageError: not (H, W, 3) uint8, or a side that is not a positive multiple of `stride`.
        """
        import torch

        _check_pixels(pixels, self._stride)
        scaled = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None]
        with torch.inference_mode():
            codes = self._loaded().encode_codes(scaled.float() / 127.5 - 1.0)
        return ImageTokens(codes[0].numpy(), self._codebook_size)

    def detokenize(self, tokens: ImageTokens) -> Pixels:
        """See `ImageTokenizer.detokenize`."""
        import torch

        codes = torch.from_numpy(np.array(tokens.codes, dtype=np.int64))[None]
        with torch.inference_mode():
            pixels = self._loaded().decode_codes(codes)[0]
        scaled = ((pixels + 1.0) / 2.0).clamp(0.0, 1.0) * 255.0
        return scaled.permute(1, 2, 0).numpy().astype(np.uint8)


def _check_pixels(pixels: Pixels, stride: int) -> None:
    fits = pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.dtype == np.uint8
    if not fits or any(side == 0 or side % stride for side in pixels.shape[:2]):
        raise ImageError(
            f"cannot tokenise a {pixels.dtype} array of shape {pixels.shape}",
            f"give (H, W, 3) uint8 with H and W multiples of {stride}",
        )
