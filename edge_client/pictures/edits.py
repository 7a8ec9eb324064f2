"""What an edit of a photo needs: which part the model sees, which tokens it makes, what is lost.

It does not know how a request travels, nor how the result is put back (see `pasting`).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import NamedTuple

from edge_client.pictures.geometry import CENTRE, Fit, Geometry, Size, Span, around
from edge_client.pictures.images import Picture
from edge_client.pictures.mask_files import Mask
from edge_client.pictures.masks import placed
from edge_client.pictures.sources import Source
from shared_protocol.errors import InvalidInputError, MaskError
from shared_protocol.tasks import Extension
from shared_protocol.tokens import MAX_GRID, ImageTokens, TokenMask

MARGIN = 0.5
"""What `--around` shows on each side of the masked part, as a share of its longer side."""
SIDES = ("left", "right", "up", "down")
_NEAR = 1 / 8
"""What is shown around a mask at least, as a share of the crop, for context and the soft edge."""
_PLACES = {"left": 0.0, "top": 0.0, "start": 0.0, "middle": 0.5, "centre": 0.5, "center": 0.5,
           "right": 1.0, "bottom": 1.0, "end": 1.0}  # fmt: skip
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*(px|%|)")
_RATIO = re.compile(r"(\d+(?:\.\d+)?)\s*[:/x]\s*(\d+(?:\.\d+)?)")
_SAME_RATIO = 0.005
_WINDOW = MAX_GRID // 2
"""Tokens of a long photo that are shown beside what is new, where all of them are too many."""


@dataclass(frozen=True)
class Look:
    """Which part of a photo the model is to see.

    Args:
        fit: how another shape becomes the model's square; None = as suits the task.
        around: margin around the masked part, see `MARGIN`; None = look at all of the photo.
        at: where along the longer side the crop lies, 0..1; None = the middle, or at the mask.
    """

    fit: Fit | None = None
    around: float | None = None
    at: float | None = None

    @property
    def place(self) -> tuple[float, float]:
        """The same for both sides."""
        return CENTRE if self.at is None else (self.at, self.at)


class Masked(NamedTuple):
    """A picture, the tokens that are repainted, and warnings."""

    picture: Picture
    tokens: TokenMask
    warnings: list[str]


class Extended(NamedTuple):
    """A source, what the model sees of it, by what it grows, notes, and warnings."""

    source: Source
    picture: Picture
    extension: Extension
    notes: list[str]
    warnings: list[str]


@dataclass(frozen=True)
class Wish:
    """By how much a picture is to grow, as people say it.

    Args:
        sides: side to amount: "8" token columns or rows, "25%" of the picture, "64px" of it.
        to: (width, height) of the shape that is to come out; None = as `sides` say.
    """

    sides: dict[str, str]
    to: tuple[float, float] | None = None


def parse_place(text: str) -> float:
    """Where a window lies along a picture: "left", "middle", "right" or "30%"; 0..1.

    Raises:
        InvalidInputError: other than that.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", text.strip())
    if found and float(found[1]) <= 100:
        return float(found[1]) / 100
    if text.strip().lower() in _PLACES:
        return _PLACES[text.strip().lower()]
    raise InvalidInputError(
        f"{text!r} is no place of a window", "write left, middle, right, top, bottom, or 0% to 100%"
    )


def parse_ratio(text: str) -> tuple[float, float]:
    """A shape such as "16:9".

    Raises:
        InvalidInputError: other than that.
    """
    found = _RATIO.fullmatch(text.strip())
    if found is None or min(float(found[1]), float(found[2])) <= 0:
        raise InvalidInputError(f"{text!r} is no shape", "write it as WIDTH:HEIGHT, such as 16:9")
    return float(found[1]), float(found[2])


def for_inpainting(source: Source, mask: Mask, look: Look) -> Masked:
    """What the model sees of a photo for a mask, and the tokens that are repainted.

    The crop is moved to where the mask is. Where the mask is too small for the token grid, the
    model looks closer.

    Raises:
        MaskError: the mask selects nothing.
    """
    span = mask.span(source.size)
    if source.base is None or span is None:
        picture = source.seen()
        return Masked(picture, *placed(mask, picture, source.bundle.stride))
    geometry = _geometry_for(source, look, span)
    picture = source.seen(geometry)
    try:
        tokens, told = placed(mask, picture, source.bundle.stride)
    except MaskError:
        closer = around(span, source.size, source.target, MARGIN)
        if look != Look() or closer.same_as(geometry):
            raise
        picture = source.seen(closer)
        tokens, told = placed(mask, picture, source.bundle.stride)
    return Masked(picture, tokens, told)


def for_question(source: Source, look: Look) -> tuple[Picture, list[str]]:
    """What the model sees of a picture for a question, and warnings.

    Of tokens that are more than the model sees at once, one window is shown.
    """
    native, stride = source.bundle.grid, source.bundle.stride
    wide = source.tokens is not None and source.tokens.shape != native
    if wide and look.fit is None and source.usual.same_as(source.geometry):
        assert source.tokens is not None, "asked above"
        return _window(source.seen(), source.tokens, native, look)
    plain = look == Look() or source.base is None
    picture = source.seen(None if plain else _plain(source, look))
    remedy = "--fit pad shows all of it, --window left|right|top|bottom another part"
    told = picture.lost(stride, remedy)
    return picture, told


def for_outpainting(source: Source, wish: Wish, look: Look) -> Extended:
    """What the model sees of a picture that is to grow, and by how many tokens.

    The whole photo is scaled to whole tokens, 16 on its shorter side; of one that is too long for
    that, the part beside the new one.

    Raises:
        InvalidInputError: nothing to add, or more than fits.
    """
    warnings: list[str] = []
    if look.fit is Fit.CROP and source.base is not None:
        source, warnings = _cropped(source, look)
    stride = source.bundle.stride
    geometry = source.geometry if source.base is None else _scaled(source, wish, look)
    picture = source.seen(geometry)
    extension, notes = _extension(wish, picture.geometry, stride)
    height, width = picture.grid(stride)
    high, wide = extension.canvas(height, width)
    if max(high, wide) > MAX_GRID:
        across, down = picture.geometry.pixels_each
        raise InvalidInputError(
            f"the extended picture would have {wide}x{high} tokens, each {stride * across:.0f}x"
            f"{stride * down:.0f} pixels of the photo, and at most {MAX_GRID} fit on a side",
            _room(MAX_GRID - width, MAX_GRID - height),
        )
    loss = picture.geometry.loss(stride)
    if loss.share > 0.01:
        notes.append(f"the model sees {1 - loss.share:.0%} of it, beside what is new; all is kept")
    return Extended(source, picture, extension, notes, [*warnings, *picture.told(stride)])


def _room(columns: int, rows: int) -> str:
    """What to do where an extension does not fit."""
    if min(columns, rows) < 0:
        return "cut the photo to a shape that is less long first"
    return f"add at most {columns} columns and {rows} rows, or cut the photo first"


def _geometry_for(source: Source, look: Look, span: Span) -> Geometry:
    """What shows a masked part: the tokens that there are if they do, else a fresh look."""
    if look.around is not None:
        return around(span, source.size, source.target, look.around)
    known = source.geometry if source.tokens is not None else None
    near = span.grown(_NEAR * min(source.size)).clipped(source.size)
    if look == Look() and known is not None and known.seen.holds(near):
        return known
    fresh = _plain(source, look)
    return fresh.showing(near) if fresh.fit is Fit.CROP and look.at is None else fresh


def _plain(source: Source, look: Look) -> Geometry:
    return Geometry(source.size, source.target, look.fit or Fit.CROP, at=look.place)


def _window(
    picture: Picture, tokens: ImageTokens, native: tuple[int, int], look: Look
) -> tuple[Picture, list[str]]:
    (height, width), (high, wide) = tokens.shape, native
    across, down = look.place
    top, left = round((height - high) * down), round((width - wide) * across)
    if top < 0 or left < 0:
        raise InvalidInputError(
            f"{picture.name} has {width}x{height} tokens, and the model looks at {wide}x{high}",
            "extend it first",
        )
    seen = ImageTokens(tokens.codes[top : top + high, left : left + wide], tokens.codebook_size)
    told = (
        f"the answer is about columns {left}..{left + wide - 1}, rows {top}..{top + high - 1} of "
        f"the {width}x{height} tokens of {picture.name}, since the model looks at {wide}x{high} at "
        "once; --window left|right|top|bottom looks elsewhere"
    )
    stride = picture.pixels.shape[0] // height
    pixels = picture.pixels[
        top * stride : (top + high) * stride, left * stride : (left + wide) * stride
    ]
    size = wide * stride, high * stride
    shown = Picture(picture.name, pixels, Geometry(size, size), picture.notes, seen)
    return shown, [told]


def _cropped(source: Source, look: Look) -> tuple[Source, list[str]]:
    """A source of the square part of a photo, for those who ask for it."""
    photo = source.photo
    assert photo is not None, "asked of photos only"
    plain = Geometry(photo.size, source.target, at=look.place)
    told = source.seen(plain).lost(source.bundle.stride, "without --fit crop all of it is kept")
    area = tuple(round(side) for side in plain.seen)
    image = photo.image.crop(area)  # type: ignore[arg-type]
    name = f"{source.name} (cropped)"
    cut = replace(photo, name=name, image=image, size=image.size, orientation=1, path=None)
    return Source(name, source.bundle, cut), told


def _scaled(source: Source, wish: Wish, look: Look) -> Geometry:
    """The geometry of all of a photo, by whole tokens; of a long one, of the part that fits."""
    if look.fit in (Fit.PAD, Fit.STRETCH):
        return Geometry(source.size, source.target, look.fit)
    size, stride = source.size, source.bundle.stride
    known = source.geometry if source.tokens is not None else None
    if known is not None and known.seen.area >= 0.999 * size[0] * size[1]:
        return known
    least = min(source.bundle.grid)
    counts = [max(least, round(side / min(size) * least)) for side in size]
    target = counts[0] * stride, counts[1] * stride
    plain = Geometry(size, target, Fit.STRETCH)
    for axis, (before, after) in enumerate((("left", "right"), ("up", "down"))):
        fits = counts[axis] <= MAX_GRID - _asked(wish, axis, plain, stride)
        if fits or counts[axis] <= _WINDOW:
            continue
        ends = [bool(_number(wish.sides.get(side, "0"))) for side in (before, after)]
        across_only = not any(
            _number(wish.sides.get(s, "0")) for s in SIDES if s not in (before, after)
        )
        if wish.to is None and any(ends) and not all(ends) and across_only:
            return _end_of(size, target, axis, ends[1], (_WINDOW, stride))
    return plain


def _end_of(size: Size, target: Size, axis: int, last: bool, window: tuple[int, int]) -> Geometry:
    """The geometry of one end of a long photo: `window` = (tokens, stride) of it."""
    count, stride = window
    side = min(size[axis], round(size[axis] * count * stride / target[axis]))
    start = size[axis] - side if last else 0
    region = (start, 0, side, size[1]) if axis == 0 else (0, start, size[0], side)
    shown = (count * stride, target[1]) if axis == 0 else (target[0], count * stride)
    return Geometry(size, shown, Fit.STRETCH, region)


def _asked(wish: Wish, axis: int, geometry: Geometry, stride: int) -> int:
    sides = SIDES[:2] if axis == 0 else SIDES[2:]
    return sum(_tokens(wish.sides.get(side, "0"), side, geometry, stride) for side in sides)


def _number(amount: str) -> float:
    found = _AMOUNT.fullmatch(str(amount).strip())
    return float(found[1]) if found else 0.0


def _tokens(amount: str, side: str, geometry: Geometry, stride: int) -> int:
    """An amount in whole tokens, never less than asked."""
    found = _AMOUNT.fullmatch(str(amount).strip())
    if found is None or (not found[2] and "." in found[1]):
        raise InvalidInputError(
            f"--{side} {amount} is no amount",
            f"write 8 (tokens of {stride} pixels), 25% (of the picture) or 64px (of its pixels)",
        )
    number, axis = float(found[1]), 0 if side in SIDES[:2] else 1
    if not found[2]:
        return int(number)
    each = stride * geometry.pixels_each[axis]
    pixels = number if found[2] == "px" else number / 100 * geometry.source[axis]
    return math.ceil(pixels / each - 1e-6)


def _extension(wish: Wish, geometry: Geometry, stride: int) -> tuple[Extension, list[str]]:
    """The tokens to add, and what that comes to in the photo's pixels."""
    across, down = (stride * each for each in geometry.pixels_each)
    width, height = geometry.source
    if wish.to is not None:
        left, right, up, down_ = _to_shape(wish.to, (width, height), (across, down))
    else:
        left, right, up, down_ = (
            _tokens(wish.sides.get(side, "0"), side, geometry, stride) for side in SIDES
        )
    if max(left, right, up, down_) > MAX_GRID or not any((left, right, up, down_)):
        raise InvalidInputError(
            f"cannot extend by {left}, {right}, {up}, {down_} tokens (left, right, up, down)",
            f"add 1 to {MAX_GRID} on some side, such as --right 8 ({8 * across:.0f} pixels of the "
            f"photo), --right 25%, --right {round(4 * across)}px, or --to 16:9",
        )
    extension = Extension(left, right, up, down_)
    grown = width + round((left + right) * across), height + round((up + down_) * down)
    told = (
        f"extended by {left + right} columns and {up + down_} rows of {across:.0f}x{down:.0f} "
        f"pixels: {grown[0]}x{grown[1]}"
    )
    return extension, [told]


def _to_shape(
    to: tuple[float, float], size: Size, each: tuple[float, float]
) -> tuple[int, int, int, int]:
    """Tokens to add for a shape: at both ends of one side, as even as they can be."""
    (width, height), ratio = size, to[0] / to[1]
    if abs(width / height / ratio - 1) < _SAME_RATIO:
        raise InvalidInputError(
            f"the picture is {width}x{height}, which has the shape {to[0]:g}:{to[1]:g} already",
            "name another shape, or sides such as --right 25%",
        )
    if width / height < ratio:
        more = max(1, round((height * ratio - width) / each[0]))
        return more // 2, more - more // 2, 0, 0
    more = max(1, round((width / ratio - height) / each[1]))
    return 0, 0, more // 2, more - more // 2
