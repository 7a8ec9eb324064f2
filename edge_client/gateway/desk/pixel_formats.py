"""What a picture costs as JPEG, WebP and AVIF, at the size in which the model sees it.

It does not know tokens. Qualities are those that web pages use by default; they are told with the
numbers.
"""

from __future__ import annotations

import io
from typing import Any

from PIL import Image, features

from shared_protocol.tokenizers.image import Pixels

FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    "jpeg": ("JPEG", {"quality": 75, "optimize": True}),
    "webp": ("WEBP", {"quality": 75, "method": 4}),
    "avif": ("AVIF", {"quality": 50, "speed": 8}),
}
"""Name to Pillow's name and options."""


def available() -> dict[str, int]:
    """Formats that this device can write, with their quality."""
    return {
        name: int(options["quality"])
        for name, (_, options) in FORMATS.items()
        if name == "jpeg" or features.check(name)
    }


def sizes_of(pixels: Pixels) -> dict[str, int | None]:
    """Bytes by format; None where this device cannot write it.

    Args:
        pixels: (H, W, 3) uint8.
    """
    image, there = Image.fromarray(pixels), available()
    return {name: _size(image, name) if name in there else None for name in FORMATS}


def _size(image: Image.Image, name: str) -> int:
    kind, options = FORMATS[name]
    file = io.BytesIO()
    image.save(file, kind, **options)
    return len(file.getvalue())
