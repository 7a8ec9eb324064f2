"""Pictures of every colour mode to 8-bit sRGB, and new parts to the colours of an old picture.

It opens no files and does not know sizes, masks or tokens.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

WHITE = (255, 255, 255)
EDITABLE = ("RGB", "RGBA", "L", "LA", "I;16")
"""Modes that a new part can be put into."""
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
_STRIP = 512
_PROFILED = ("RGB", "RGBA", "L", "CMYK")


def to_rgb(image: Image.Image, profile: bytes | None = None) -> tuple[Image.Image, list[str]]:
    """The picture as 8-bit sRGB, and what was done to it, in words."""
    converted = _by_profile(image, profile)
    if converted is not None:
        return converted, ["its colour profile applied"]
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


def editable(
    image: Image.Image, profile: bytes | None
) -> tuple[Image.Image, bytes | None, list[str]]:
    """The picture in a mode that a new part can be put into, its profile, and notes.

    The mode stays where that is possible: a palette has no room for new colours, and the colours
    that a model gives have no CMYK.
    """
    if image.mode in EDITABLE and not (image.mode == "RGB" and image.has_transparency_data):
        return image, profile, []
    if image.has_transparency_data:
        return image.convert("RGBA"), profile, [f"{_named(image)} becomes RGBA"]
    if image.mode in ("1", "I", "F") or image.mode.startswith("I;16"):
        return eight_bits(image).convert("L"), None, [f"{_named(image)} becomes 8-bit grey"]
    keeps = image.mode == "P"
    if keeps:
        return image.convert("RGB"), profile, [f"{_named(image)} becomes RGB"]
    rgb, _ = to_rgb(image, profile)
    return rgb, None, [f"{_named(image)} becomes RGB"]


def like(part: Image.Image, mode: str, profile: bytes | None) -> Image.Image:
    """An 8-bit sRGB part in the mode (of `EDITABLE`) and the colours of a picture."""
    if mode in ("L", "LA", "I;16"):
        grey = part.convert("L")
        return grey.convert("LA") if mode == "LA" else grey
    part = _into_profile(part, profile)
    return part.convert("RGBA") if mode == "RGBA" else part


def flatten(image: Image.Image, colour: tuple[int, int, int]) -> Image.Image:
    """A picture with transparency, laid on `colour`, as RGB."""
    flat = Image.new("RGB", image.size, colour)
    top = 0
    for part in _strips(image):  # five copies of all of it are too many
        ground = Image.new("RGBA", part.size, (*colour, 255))
        flat.paste(Image.alpha_composite(ground, part.convert("RGBA")).convert("RGB"), (0, top))
        top += part.height
    return flat


def eight_bits(image: Image.Image) -> Image.Image:
    """Integer or float grey of more than 8 bits as 8 bits; Pillow itself would clip, not scale."""
    if not image.mode.startswith(("I", "F")):
        return image
    if image.mode == "I;16":
        return _by_strips(image, lambda part: np.asarray(part) // 257)
    peak = highest(image)
    top = next((step for step in _full_scales(image.mode) if peak <= step), peak)
    return scaled_grey(image, top)


def scaled_grey(image: Image.Image, top: float) -> Image.Image:
    """Numbers as 8-bit grey, of which `top` is white."""
    return _by_strips(image, lambda part: np.clip(_numbers(part) * (255.0 / top), 0, 255))


def highest(image: Image.Image) -> float:
    """The largest number of a picture, 0 at least."""
    return max((float(_numbers(part).max(initial=0.0)) for part in _strips(image)), default=0.0)


def _by_strips(image: Image.Image, made: Callable[[Image.Image], npt.NDArray[Any]]) -> Image.Image:
    """Grey made of each strip in turn: numbers of 8 bytes for all of it would be too many."""
    grey, top = Image.new("L", image.size), 0
    for part in _strips(image):
        grey.paste(Image.fromarray(made(part).astype(np.uint8)), (0, top))
        top += part.height
    return grey


def _strips(image: Image.Image) -> Iterator[Image.Image]:
    for top in range(0, image.height, _STRIP):
        yield image.crop((0, top, image.width, min(image.height, top + _STRIP)))


def _numbers(part: Image.Image) -> npt.NDArray[np.float64]:
    return np.nan_to_num(np.asarray(part).astype(np.float64))


def _full_scales(mode: str) -> tuple[float, ...]:
    """What white may be in a mode, smallest first; files do not say."""
    if mode.startswith("I;16"):
        return (65535.0,)
    return (255.0, 65535.0) if mode == "I" else (1.0, 255.0, 65535.0)


def _named(image: Image.Image) -> str:
    return _MODE_NAMES.get(image.mode, "grey of many bits")


def _by_profile(image: Image.Image, profile: bytes | None) -> Image.Image | None:
    """The picture's colours by its profile; None where sRGB is what they are taken for."""
    if profile is None or image.mode not in _PROFILED or image.has_transparency_data:
        return None
    try:
        from PIL import ImageCms

        given = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if image.mode == "RGB" and "sRGB" in ImageCms.getProfileDescription(given):
            return None
        srgb = ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, given, srgb, outputMode="RGB")
    except Exception:  # a damaged profile is no reason to refuse a good picture
        return None


def _into_profile(part: Image.Image, profile: bytes | None) -> Image.Image:
    """An sRGB part in the colours of a profile, as far as the profile can be used."""
    if profile is None:
        return part
    try:
        from PIL import ImageCms

        wanted = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "sRGB" in ImageCms.getProfileDescription(wanted):
            return part
        srgb = ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(part, srgb, wanted, outputMode="RGB") or part
    except Exception:  # see above
        return part
