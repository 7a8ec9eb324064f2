"""Pictures of every colour mode to 8-bit RGB.

It opens no files and does not know sizes, masks or tokens.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

WHITE = (255, 255, 255)
_MODE_NAMES = {
    "1": "black and white",
    "L": "grey",
    "LA": "grey",
    "P": "palette",
    "PA": "palette",
    "CMYK": "CMYK",
    "YCbCr": "YCbCr",
    "LAB": "Lab",
    "HSV": "HSV",
}


def to_rgb(image: Image.Image) -> tuple[Image.Image, list[str]]:
    """The picture as 8-bit RGB, and what was done to it, in words."""
    if image.mode == "RGB" and not image.has_transparency_data:
        return image, []
    notes = []
    if image.mode.startswith(("I", "F")):
        image, notes = eight_bits(image), ["16-bit grey reduced to 8 bits"]
    elif image.mode in _MODE_NAMES:
        notes = [f"{_MODE_NAMES[image.mode]} converted to RGB"]
    if image.has_transparency_data:
        return flatten(image, WHITE), [*notes, "transparency laid on white"]
    return image.convert("RGB"), notes


def flatten(image: Image.Image, colour: tuple[int, int, int]) -> Image.Image:
    """A picture with transparency, laid on `colour`, as RGB."""
    layer = image.convert("RGBA")
    ground = Image.new("RGBA", layer.size, (*colour, 255))
    return Image.alpha_composite(ground, layer).convert("RGB")


def eight_bits(image: Image.Image) -> Image.Image:
    """Integer or float grey of more than 8 bits as 8 bits; Pillow itself would clip, not scale."""
    if not image.mode.startswith(("I", "F")):
        return image
    values = np.nan_to_num(np.asarray(image).astype(np.float64))
    peak = float(values.max(initial=0.0))
    top = next((step for step in _full_scales(image.mode) if peak <= step), peak)
    return Image.fromarray(np.clip(values * (255.0 / top), 0, 255).astype(np.uint8))


def _full_scales(mode: str) -> tuple[float, ...]:
    """What white may be in a mode, smallest first; files do not say."""
    if mode.startswith("I;16"):
        return (65535.0,)
    return (255.0, 65535.0) if mode == "I" else (1.0, 255.0, 65535.0)
