"""How pictures are written: the modes that a format holds, and what it is told.

It opens no files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from PIL import Image, PngImagePlugin

from edge_client.pictures.carried_tokens import CHUNK
from edge_client.pictures.colour import WHITE, eight_bits, flatten

_FAST_FROM = 1 << 21
"""Pixels from which a PNG is packed fast instead of small."""
_JPEG_MODES = ("RGB", "L")
_WEBP_MODES = ("RGB", "RGBA")


def writable(image: Image.Image, kind: str) -> tuple[Image.Image, list[str]]:
    """The picture in a mode that the format can hold, and notes."""
    modes = {"JPEG": _JPEG_MODES, "WEBP": _WEBP_MODES}.get(kind)
    if modes is None or image.mode in modes:
        return image, []
    if image.mode == "I;16":
        grey, note = eight_bits(image), f"{kind} holds 8 bits: 16-bit grey becomes 8-bit"
        return (grey if "L" in modes else grey.convert("RGB")), [note]
    if image.mode in ("RGBA", "LA"):
        if "RGBA" in modes:
            return image.convert("RGBA"), []
        return flatten(image, WHITE), [f"{kind} holds no transparency: it is laid on white"]
    return image.convert("RGB"), []


def options_of(
    kind: str,
    image: Image.Image,
    profile: bytes | None,
    chunk: bytes | None,
    made: Mapping[str, str],
) -> dict[str, Any]:
    """What Pillow is told: an ICC profile, a chunk behind the pixels, and text chunks."""
    options: dict[str, Any] = {"icc_profile": profile} if profile else {}
    if kind == "JPEG":
        return {**options, "quality": 95, "subsampling": 0}
    if kind == "WEBP":
        return {**options, "lossless": True}
    large = image.width * image.height >= _FAST_FROM
    options |= {"compress_level": 3} if large else {"optimize": True}
    if chunk is not None or made:
        carried = PngImagePlugin.PngInfo()
        for key, value in made.items():
            carried.add_itxt(key, value)
        if chunk is not None:
            carried.add(CHUNK, chunk, after_idat=True)
        options["pnginfo"] = carried
    return options
