"""Masks as people make them: picture files in every convention, boxes, ellipses and polygons.

It does not know tokens; `masks` brings what this module gives to the token grid.

The rule: if any pixel of a mask file is transparent, its opacity is the mask, whatever the colour;
else its brightness is. White (255) is repainted, black (0) stays, and in between the border lies
at `THRESHOLD`. A file of 0 and 1 only is taken as black and white.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageChops, ImageDraw

from edge_client.pictures.colour import eight_bits, highest, scaled_grey
from edge_client.pictures.geometry import Box, Size, Span
from edge_client.pictures.opening import Photo, open_photo
from shared_protocol.errors import MaskError

THRESHOLD = 128
"""Brightness or opacity, 0..255, from which a pixel counts as repainted."""
SAME_SHAPE = 0.01
_COLOURED = 48
"""Difference of channels that nobody would call grey."""
_BLAND, _ALIKE = 8.0, 3.0
"""Spread of a picture that shows something, and mean difference of two of the same, of 255."""
_SOFT_SHARE = 0.25
"""Share of a mask's pixels between black and white that makes its edge a gradient on purpose."""
_LARGEST = 4096
"""Longest side of a mask."""
_SAMPLES = 512
Drawn = Literal["auto", "upright", "stored"]
"""What a mask was drawn on: the photo as viewers show it, or its pixels as they are stored."""


@dataclass(frozen=True)
class Shape:
    """A part of a photo, in its pixels.

    Args:
        kind: "box" or "ellipse" (four numbers: x, y, width, height), or "polygon" (x, y of three or
            more corners).
        numbers: those.
    """

    kind: str
    numbers: tuple[float, ...]

    @property
    def corners(self) -> Span:
        """The rectangle around it."""
        if self.kind == "polygon":
            across, down = self.numbers[0::2], self.numbers[1::2]
            return Span(min(across), min(down), max(across), max(down))
        x, y, width, height = self.numbers
        return Span(x, y, x + width, y + height)

    def __str__(self) -> str:
        return f"{self.kind} {','.join(f'{number:g}' for number in self.numbers)}"


@dataclass(frozen=True, eq=False)
class Mask:
    """Which part of a photo is to be repainted.

    Args:
        image: mode L, of the photo's shape, though not always of its size; white = repaint.
        name: what to call it in messages.
        soft: whether its edge is a gradient on purpose, which the seam is to follow.
        threshold: of the values in between.
        warnings: what the user should know about how it was read.
    """

    image: Image.Image
    name: str
    soft: bool = False
    threshold: int = THRESHOLD
    warnings: tuple[str, ...] = ()

    def span(self, size: Size) -> Span | None:
        """The rectangle around what is repainted, in pixels of a photo of `size`; None for none."""
        box = self.image.point([255 * (v >= self.threshold) for v in range(256)]).getbbox()
        if box is None:
            return None
        across, down = size[0] / self.image.width, size[1] / self.image.height
        return Span(box[0] * across, box[1] * down, box[2] * across, box[3] * down)

    @property
    def brightest(self) -> int:
        """The largest value, 0..255."""
        return int(self.image.getextrema()[1])  # type: ignore[arg-type]

    def inverted(self) -> Mask:
        """The same with black and white exchanged."""
        return replace(self, image=ImageChops.invert(self.image))

    def joined(self, other: Mask) -> Mask:
        """What either of two masks of one photo repaints."""
        larger, smaller = sorted((self, other), key=lambda mask: -mask.image.width)
        grown = smaller.image.resize(larger.image.size, Image.Resampling.BILINEAR)
        return replace(
            larger,
            image=ImageChops.lighter(larger.image, grown),
            name=f"{self.name} and {other.name}",
            soft=self.soft or other.soft,
            warnings=(*self.warnings, *other.warnings),
        )


def parse_shape(kind: str, text: str) -> Shape:
    """A shape as it is typed: "10,20,64,64", or "10,20 30,40 50,20" for a polygon's corners.

    Raises:
        MaskError: other than that.
    """
    usage = "X,Y X,Y X,Y …" if kind == "polygon" else "X,Y,WIDTH,HEIGHT"
    try:
        numbers = tuple(float(part) for part in re.split(r"[,;\s]+", text.strip()))
    except ValueError:
        numbers = ()
    fits = len(numbers) >= 6 and not len(numbers) % 2 if kind == "polygon" else len(numbers) == 4
    if not fits or not all(abs(number) < 1e6 for number in numbers):
        raise MaskError(f"{text!r} is no {kind}", f"write it as {usage}, in pixels of the photo")
    return Shape(kind, numbers)


def draw_shapes(shapes: Sequence[Shape], photo_name: str, size: Size) -> Mask:
    """A mask that is white inside of the shapes.

    Args:
        shapes: one or more.
        photo_name: for messages.
        size: (width, height) of the photo.

    Raises:
        MaskError: a shape without area, or wholly outside of the photo.
    """
    scale = min(1.0, _LARGEST / max(size))
    drawn = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
    image, told = Image.new("L", drawn, 0), []
    for shape in shapes:
        told += _check_shape(shape, photo_name, size)
        _draw(image, shape, drawn[0] / size[0], drawn[1] / size[1])
    name = "the " + " and the ".join(str(shape) for shape in shapes)
    return Mask(image, name, warnings=tuple(told))


def box_shapes(boxes: Sequence[Box]) -> list[Shape]:
    """Boxes (x, y, width, height) as shapes."""
    return [Shape("box", tuple(float(number) for number in box)) for box in boxes]


def load_mask_file(
    path: Path, photo: Photo, drawn: Drawn = "auto", threshold: int = THRESHOLD
) -> Mask:
    """Read a mask by the rule that the module states.

    Args:
        path: a picture of the photo's shape, in any size.
        photo: what it is for.
        drawn: what it was drawn on, where the photo has an EXIF orientation; "auto" tells by the
            size where that can be told.
        threshold: 1..255, see `THRESHOLD`.

    Raises:
        ImageError: not a readable picture.
        MaskError: its shape is not the photo's.
    """
    file = open_photo(path, beside=_bytes_of(photo.image))
    image, told = _turned(file, photo, drawn)
    _check_shapes(path.name, image.size, photo)
    grey, more = _values(image, path.name)
    if _is_photo(image, photo):
        more = [f"the mask {path.name} looks like the photo itself; paint it black and white"]
    soft = _is_soft(grey)
    if max(grey.size) > _LARGEST:  # no seam is finer, and it stays beside the photo
        scale = _LARGEST / max(grey.size)
        size = (max(1, round(grey.width * scale)), max(1, round(grey.height * scale)))
        grey = grey.resize(size, Image.Resampling.BOX)
    return Mask(grey, path.name, soft, threshold, (*told, *more))


def _bytes_of(image: Image.Image) -> int:
    """What a decoded picture holds, at most."""
    return image.width * image.height * 4


def _values(image: Image.Image, name: str) -> tuple[Image.Image, list[str]]:
    """The mask's values as mode L, and warnings."""
    if image.has_transparency_data:
        seen = image if image.mode in ("RGBA", "LA") else image.convert("RGBA")
        alpha = seen.getchannel("A")
        if alpha.getextrema()[0] != 255:
            return alpha, []
    if image.mode == "P" and image.getextrema()[1] == 1:
        shown = image.convert("RGB").convert("L").getextrema()[1]
        if shown < THRESHOLD:  # type: ignore[operator]
            # An index mask: 0 and 1 are the values, and the palette means nothing.
            image = Image.fromarray(np.asarray(image))
    told = []
    if image.mode not in ("1", "L", "LA") and not image.mode.startswith(("I", "F")):
        share = _coloured_share(image)
        if share > 0.01:
            told.append(
                f"{share:.0%} of the mask {name} is coloured: its brightness decides, and bright "
                "parts are repainted; paint it black and white to be sure"
            )
    return _grey(image), told


def _grey(image: Image.Image) -> Image.Image:
    """Brightness as 0..255, whichever way white is written: 1, 255 or 65,535."""
    if image.mode.startswith(("I", "F")):
        peak = highest(image)
        white = next((each for each in (1.0, 255.0, 65535.0) if peak <= each), peak)
        return scaled_grey(image, white)
    grey = image.convert("L")
    if grey.getextrema()[1] == 1:
        return grey.point([0] + [255] * 255)
    return grey


def _coloured_share(image: Image.Image) -> float:
    small = _sampled(image).convert("RGB")
    values = np.asarray(small).astype(np.int16)
    return float((values.max(axis=2) - values.min(axis=2) > _COLOURED).mean())


def _sampled(image: Image.Image) -> Image.Image:
    """Every so many pixels of a large picture, which is enough to tell what it is like."""
    size = min(image.width, _SAMPLES), min(image.height, _SAMPLES)
    return image if image.size == size else image.resize(size, Image.Resampling.NEAREST)


def _is_photo(image: Image.Image, photo: Photo) -> bool:
    """Whether a mask is the photo, which is a slip of the finger."""
    small = [
        np.asarray(each.convert("RGB").resize((32, 32), Image.Resampling.BOX)).astype(np.int16)
        for each in (_sampled(image), eight_bits(_sampled(photo.image)))
    ]
    apart = float(np.abs(small[0] - small[1]).mean())
    # A dark photo and a mask of a few white pixels are alike, too, though neither shows much.
    return float(small[1].std()) > _BLAND and apart < _ALIKE


def _is_soft(grey: Image.Image) -> bool:
    counts = np.asarray(grey.histogram()[:256])
    lit, between = int(counts[16:].sum()), int(counts[16:240].sum())
    return lit > 0 and between >= _SOFT_SHARE * lit


def _turned(file: Photo, photo: Photo, drawn: Drawn) -> tuple[Image.Image, list[str]]:
    """The mask as it lies on the upright photo, and warnings."""
    image, name = file.image, file.name
    if photo.orientation == 1 or file.orientation != 1:
        return image, []
    fits = {
        which: _same_shape(image.size, size)
        for which, size in (("upright", photo.size), ("stored", photo.stored))
    }
    how = f"{photo.name} is shown turned (EXIF orientation {photo.orientation})"
    if drawn == "stored" or (drawn == "auto" and fits["stored"] and not fits["upright"]):
        told = f"{how}, and the mask {name} was drawn on the unturned picture: it is turned, too"
        return _turn_like(image, photo.orientation), [] if drawn == "stored" else [told]
    if drawn == "auto" and fits["upright"] and fits["stored"]:
        return image, [
            f"{how}, and the shape of the mask {name} does not tell on which side it was drawn: it "
            "is taken as drawn on the picture as it is shown; else add --mask-drawn-on stored"
        ]
    return image, []


def _turn_like(image: Image.Image, orientation: int) -> Image.Image:
    ways = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    return image.transpose(ways[orientation])


def _same_shape(one: Size, other: Size) -> bool:
    (width, height), (wide, high) = one, other
    # A small mask's sides are rounded to whole pixels: one of them either way is no other shape.
    slack = max(SAME_SHAPE * max(width * high, height * wide), wide, high)
    return abs(width * high - height * wide) <= slack


def _check_shapes(name: str, size: Size, photo: Photo) -> None:
    if _same_shape(size, photo.size):
        return
    raise MaskError(
        f"the mask {name} is {size[0]}x{size[1]}, "
        f"the photo {photo.name} {photo.size[0]}x{photo.size[1]}",
        "paint the mask on a copy of the photo, so that both have one shape",
    )


def _check_shape(shape: Shape, name: str, size: Size) -> list[str]:
    """A warning where a part of a shape lies outside of the photo."""
    span = shape.corners
    if span.clipped(size).area <= 0:
        raise MaskError(
            f"the {shape} covers nothing of the photo",
            f"{name} is {size[0]}x{size[1]}; write x,y,width,height in its pixels, counted from "
            "the top left",
        )
    outside = 1 - span.clipped(size).area / span.area
    if outside < 0.10:
        return []
    return [f"{outside:.0%} of the {shape} lies outside of {name}, which is {size[0]}x{size[1]}"]


def _draw(image: Image.Image, shape: Shape, across: float, down: float) -> None:
    draw, span = ImageDraw.Draw(image), shape.corners
    # Pillow draws the last pixel, too.
    corners = (
        span.left * across,
        span.top * down,
        max(span.left * across, span.right * across - 1),
        max(span.top * down, span.bottom * down - 1),
    )
    if shape.kind == "ellipse":
        draw.ellipse(corners, fill=255)
    elif shape.kind == "polygon":
        points = [
            (x * across, y * down)
            for x, y in zip(shape.numbers[0::2], shape.numbers[1::2], strict=True)
        ]
        draw.polygon(points, fill=255)
    else:
        left, top, right, bottom = span.clipped(
            (round(image.width / across), round(image.height / down))
        )
        image.paste(
            255,
            (
                round(left * across),
                round(top * down),
                max(round(left * across) + 1, round(right * across)),
                max(round(top * down) + 1, round(bottom * down)),
            ),
        )
