"""Still-picture codecs: JPEG, WebP, AVIF, HEIC and JPEG XL, by libraries.

It does not know rates or servers. What is counted as header:

| codec | header |
| --- | --- |
| jpeg | all but the scans (optimised Huffman tables, 4:2:0, no restart markers) |
| webp | RIFF and chunk headers; the VP8 frame with its own 10-byte header is picture |
| avif, heic | all boxes but the content of `mdat`; the parameter sets stand outside it in HEIC |
| jxl | nothing: a bare codestream, whose image header cannot be left out |
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image, features

from edge_client.evaluation.codecs.containers import isobmff_header, jpeg_header, webp_header
from edge_client.evaluation.metrics.extra import extra_module, has_module
from shared_protocol.errors import BadMessageError
from shared_protocol.tokenizers.image import Pixels

JXL_SIGNATURE = b"\xff\x0a"
_JXL_DISTANCES = (25.0, 20.0, 16.0, 13.0, 10.0, 8.0, 6.0, 5.0, 4.0, 3.0, 2.5, 2.0, 1.5, 1.0, 0.5)


@dataclass(frozen=True)
class PillowCodec:
    """A format that Pillow reads and writes.

    Args:
        name: see `PixelCodec`.
        kind: Pillow's name of the format.
        settings: its `quality`, ascending.
        header: counts the header of a file.
        options: further options of `Image.save`.
    """

    name: str
    kind: str
    settings: Sequence[float]
    header: Callable[[bytes], int]
    options: dict[str, Any] = field(default_factory=dict)

    def encode(self, pixels: Pixels, setting: float) -> bytes:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, self.kind, quality=int(setting), **self.options)
        return file.getvalue()

    def decode(self, payload: bytes) -> Pixels:
        try:
            with Image.open(io.BytesIO(payload), formats=[self.kind]) as image:
                return np.array(image.convert("RGB"), dtype=np.uint8)
        except (OSError, SyntaxError, ValueError) as error:
            raise BadMessageError(f"{len(payload)} bytes are no {self.name}: {error}") from error

    def header_bytes(self, payload: bytes) -> int:
        return self.header(payload)


class JpegXl:
    """JPEG XL as a bare codestream, by libjxl in `imagecodecs`; settings are distances."""

    name = "jxl"
    settings = _JXL_DISTANCES

    def __init__(self) -> None:
        self._library = extra_module("imagecodecs", "JPEG XL")

    def encode(self, pixels: Pixels, setting: float) -> bytes:
        coded = self._library.jpegxl_encode(
            np.ascontiguousarray(pixels), distance=float(setting), effort=7, usecontainer=False
        )
        return bytes(coded)

    def decode(self, payload: bytes) -> Pixels:
        try:
            pixels = self._library.jpegxl_decode(payload)
        except (RuntimeError, ValueError) as error:
            raise BadMessageError(f"{len(payload)} bytes are no JPEG XL: {error}") from error
        return np.array(pixels, dtype=np.uint8)

    def header_bytes(self, payload: bytes) -> int:
        if payload[:2] != JXL_SIGNATURE:
            raise BadMessageError(f"{payload[:2].hex()} starts no JPEG XL codestream")
        return 0


def jpeg() -> PillowCodec | None:
    """JPEG; None where Pillow was built without it, as for the others."""
    if not features.check("jpg"):
        return None
    qualities = tuple(range(1, 96))
    return PillowCodec("jpeg", "JPEG", qualities, jpeg_header, {"optimize": True, "subsampling": 2})


def webp() -> PillowCodec | None:
    """WebP, lossy."""
    if not features.check("webp"):
        return None
    return PillowCodec("webp", "WEBP", tuple(range(101)), webp_header, {"method": 6})


def avif() -> PillowCodec | None:
    """AVIF (AV1 intra), 4:2:0."""
    if not features.check("avif"):
        return None
    options = {"speed": 4, "subsampling": "4:2:0", "max_threads": 1}
    return PillowCodec("avif", "AVIF", tuple(range(101)), isobmff_header, options)


def heic() -> PillowCodec | None:
    """HEIC (HEVC intra), 4:2:0, by pillow-heif."""
    if not has_module("pillow_heif"):
        return None
    extra_module("pillow_heif", "HEIC").register_heif_opener()
    return PillowCodec("heic", "HEIF", tuple(range(101)), isobmff_header, {"chroma": 420})


def jxl() -> JpegXl | None:
    """JPEG XL."""
    return JpegXl() if has_module("imagecodecs") else None
