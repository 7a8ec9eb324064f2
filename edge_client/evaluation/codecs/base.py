"""What every pixel codec offers, and a wrapper that codes at a smaller size.

It does not know any format.

A codec's `settings` run from the coarsest to the finest. Of a coded picture two sizes are told:
that of the whole payload, and that of the picture alone, without what sender and receiver of many
pictures of one size and setting could agree on once (`header_bytes`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import Image

from shared_protocol.errors import BadMessageError, ImageError
from shared_protocol.tokenizers.image import Pixels


class PixelCodec(Protocol):
    """Pictures to bytes and back."""

    @property
    def name(self) -> str:
        """Lower case, unique."""

    @property
    def settings(self) -> Sequence[float]:
        """What `encode` takes as its setting, from the coarsest to the finest."""

    def encode(self, pixels: Pixels, setting: float) -> bytes:
        """(H, W, 3) uint8 RGB to a payload that `decode` needs nothing else for."""

    def decode(self, payload: bytes) -> Pixels:
        """The payload back to (H, W, 3) uint8 RGB.

        Raises:
            BadMessageError: it is no payload of this codec.
        """

    def header_bytes(self, payload: bytes) -> int:
        """Bytes of the payload that say nothing about this picture, see each codec."""


@dataclass(frozen=True)
class Coded:
    """A coded picture.

    Args:
        codec: that made it.
        setting: that it was made with.
        payload: the bytes.
        header_bytes: of the payload.
    """

    codec: PixelCodec
    setting: float
    payload: bytes
    header_bytes: int

    @property
    def picture_bytes(self) -> int:
        """Bytes without the header."""
        return len(self.payload) - self.header_bytes

    def decode(self) -> Pixels:
        """What a receiver sees."""
        return self.codec.decode(self.payload)


def encode(codec: PixelCodec, pixels: Pixels, setting: float) -> Coded:
    """`pixels` (H, W, 3) uint8 coded at one of the codec's settings.

    Raises:
        ImageError: no such picture.
    """
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
        raise ImageError(
            f"cannot code a {pixels.dtype} array of shape {pixels.shape}", "give (H, W, 3) uint8"
        )
    payload = codec.encode(pixels, setting)
    return Coded(codec, setting, payload, codec.header_bytes(payload))


class Scaled:
    """A codec at a fraction of the size: shrunk before, enlarged after (Lanczos both ways).

    One byte before the payload says by how much; it counts as part of the picture. Not in the
    paper, whose baselines stay above the rate where their coarsest setting does.

    Args:
        inner: codes the small picture.
        factor: 2..255; the picture's sides must be multiples of it.
    """

    def __init__(self, inner: PixelCodec, factor: int) -> None:
        self._inner = inner
        self._factor = factor

    @property
    def name(self) -> str:
        return f"{self._inner.name}/{self._factor}"

    @property
    def settings(self) -> Sequence[float]:
        return self._inner.settings

    def encode(self, pixels: Pixels, setting: float) -> bytes:
        height, width = pixels.shape[:2]
        if height % self._factor or width % self._factor:
            raise ImageError(
                f"a {height}x{width} picture does not shrink by {self._factor}",
                "give sides that are multiples of it",
            )
        small = resized(pixels, height // self._factor, width // self._factor)
        return bytes([self._factor]) + self._inner.encode(small, setting)

    def decode(self, payload: bytes) -> Pixels:
        if payload[:1] != bytes([self._factor]):
            raise BadMessageError(
                f"a payload that starts with {payload[:1]!r} is none of {self.name}"
            )
        small = self._inner.decode(payload[1:])
        height, width = small.shape[:2]
        return resized(small, height * self._factor, width * self._factor)

    def header_bytes(self, payload: bytes) -> int:
        return self._inner.header_bytes(payload[1:])


def resized(pixels: Pixels, height: int, width: int) -> Pixels:
    """(H, W, 3) uint8 brought to (height, width)."""
    image = Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS)
    return np.array(image, dtype=np.uint8)
