"""Where the pixels of a photo land in what the model sees, on the token grid, and back again.

It computes places only: it opens no pictures and touches no pixels.

::

    photo ── region ──► part that is used ── resize ──► resized ── crop or pad ──► target
    640 x 360             all, or a box                 455 x 256                 256 x 256
                                                                              16 x 16 tokens
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, NamedTuple

Size = tuple[int, int]
"""(width, height) in pixels, as pictures are spoken of; arrays are (H, W)."""
Box = tuple[int, int, int, int]
"""x, y, width, height in whole pixels of a photo."""

CENTRE = (0.5, 0.5)
_UNNOTICED = 0.05
"""Change of shape by which whole tokens are made, and that nobody sees."""
MOST_LOST = 0.10
"""Share of a photo that may fall away before the user is warned."""


class Span(NamedTuple):
    """A rectangle by its edges, in pixels that need not be whole."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def area(self) -> float:
        """Square pixels; 0 where nothing is inside."""
        return max(0.0, self.right - self.left) * max(0.0, self.bottom - self.top)

    def __str__(self) -> str:
        return f"x {self.left:.0f} to {self.right:.0f}, y {self.top:.0f} to {self.bottom:.0f}"

    def clipped(self, size: Size) -> Span:
        """The part that lies on a picture of `size`."""
        width, height = size
        return Span(
            min(max(self.left, 0.0), width),
            min(max(self.top, 0.0), height),
            max(min(self.right, width), 0.0),
            max(min(self.bottom, height), 0.0),
        )

    def grown(self, margin: float) -> Span:
        """The rectangle with so much more on each side."""
        return Span(
            self.left - margin, self.top - margin, self.right + margin, self.bottom + margin
        )

    def holds(self, other: Span) -> bool:
        """Whether all of `other` is inside, give or take a pixel."""
        return (
            other.left >= self.left - 1
            and other.top >= self.top - 1
            and other.right <= self.right + 1
            and other.bottom <= self.bottom + 1
        )


class Fit(Enum):
    """How a picture of another shape becomes the tokenizer's: `CROP` is Show-o's way."""

    CROP = "crop"
    PAD = "pad"
    STRETCH = "stretch"


class Loss(NamedTuple):
    """What a geometry leaves out.

    Args:
        share: of the photo's area, 0..1.
        tokens: as many tokens as that area would have taken.
        of: tokens that all of the photo would have taken.
    """

    share: float
    tokens: int
    of: int


@dataclass(frozen=True)
class Geometry:
    """Photo to target and back.

    Args:
        source: (width, height) of the photo, upright.
        target: (width, height) that the tokenizer takes.
        fit: see `Fit`.
        region: box of the photo that is used; None = all of it.
        at: (across, down), 0..1: where the crop lies in the room that there is; 0 = left or top.
    """

    source: Size
    target: Size
    fit: Fit = Fit.CROP
    region: Box | None = None
    at: tuple[float, float] = CENTRE

    @property
    def used(self) -> Box:
        """The part of the photo that is resized."""
        return self.region or (0, 0, *self.source)

    @property
    def resized(self) -> Size:
        """(width, height) before cropping or padding; the longer side truncates as torchvision's.

        >>> Geometry((4032, 3024), (256, 256)).resized
        (341, 256)
        """
        (width, height), (wide, high) = self.used[2:], self.target
        if self.fit is Fit.STRETCH:
            return self.target
        by_width = (width * high <= height * wide) == (self.fit is Fit.CROP)
        if by_width:
            return wide, max(1, int(wide * height / width))
        return max(1, int(high * width / height)), high

    @property
    def corner(self) -> tuple[int, int]:
        """(x, y) of the target's corner in the resized picture; negative where it is padded."""
        (width, height), (wide, high), (across, down) = self.resized, self.target, self.at
        return round((width - wide) * across), round((height - high) * down)

    @property
    def pixels_each(self) -> tuple[float, float]:
        """(across, down): pixels of the photo for one of the target."""
        return self.used[2] / self.resized[0], self.used[3] / self.resized[1]

    @property
    def inside(self) -> Box:
        """The part of the target that shows the photo, in its pixels: all of it but padding."""
        (x, y), (width, height), (wide, high) = self.corner, self.resized, self.target
        left, top = max(0, -x), max(0, -y)
        return left, top, min(wide, width - x) - left, min(high, height - y) - top

    @property
    def seen(self) -> Span:
        """The part of the photo that the target shows, in the photo's pixels."""
        left, top, width, height = self.inside
        return Span(*self.to_photo(left, top), *self.to_photo(left + width, top + height)).clipped(
            self.source
        )

    def to_photo(self, x: float, y: float) -> tuple[float, float]:
        """A place in the target, in the photo's pixels.

        >>> Geometry((640, 360), (256, 256)).to_photo(0, 0)
        (140.65934065934067, 0.0)
        """
        across, down = self.pixels_each
        return (
            self.used[0] + (x + self.corner[0]) * across,
            self.used[1] + (y + self.corner[1]) * down,
        )

    def to_target(self, x: float, y: float) -> tuple[float, float]:
        """A place in the photo, in the target's pixels; the mirror of `to_photo`."""
        across, down = self.pixels_each
        return (
            (x - self.used[0]) / across - self.corner[0],
            (y - self.used[1]) / down - self.corner[1],
        )

    def token_of(self, x: float, y: float, stride: int) -> tuple[int, int] | None:
        """(row, column) of the token that shows a place in the photo; None if none does."""
        across, down = self.to_target(x, y)
        left, top, width, height = self.inside
        if not (left <= across < left + width and top <= down < top + height):
            return None
        return int(down) // stride, int(across) // stride

    def loss(self, stride: int) -> Loss:
        """What of the photo the target does not show; tokens of `stride` target pixels."""
        width, height = self.source
        share = max(0.0, 1.0 - self.seen.area / (width * height))
        across, down = self.pixels_each
        of = max(1, round(width / across * height / down / stride**2))
        return Loss(share, round(share * of), of)

    def of_size(self, size: Size) -> Geometry:
        """The same way for the same picture in another size, such as a mask's."""
        if size == self.source:
            return self
        across, down = size[0] / self.source[0], size[1] / self.source[1]
        region = self.region
        if region is not None:
            left, top = round(region[0] * across), round(region[1] * down)
            wide = min(max(1, round(region[2] * across)), size[0] - left)
            high = min(max(1, round(region[3] * down)), size[1] - top)
            region = left, top, wide, high
        return replace(self, source=size, region=region)

    def showing(self, wanted: Span) -> Geometry:
        """The same, its crop moved as little as it takes to show `wanted` (photo pixels).

        Where that is larger than the crop, its middle is shown.
        """
        if self.seen.holds(wanted):
            return self
        left, top = (
            self._moved(wanted.left, wanted.right, 0),
            self._moved(wanted.top, wanted.bottom, 1),
        )
        return replace(self, at=(left, top))

    def _moved(self, low: float, high: float, axis: int) -> float:
        """Where the crop is to lie along an axis, 0..1, so that low..high of the photo is shown."""
        room = self.resized[axis] - self.target[axis]
        if room <= 0:
            return self.at[axis]
        each, side, start = self.pixels_each[axis], self.target[axis], self.used[axis]
        first, last = (low - start) / each, (high - start) / each
        corner = float(self.corner[axis])
        if last - first > side:
            corner = (first + last - side) / 2
        else:
            corner = min(max(corner, last - side), first)
        return min(max(corner, 0.0), room) / room

    def same_as(self, other: Geometry | None) -> bool:
        """Whether both bring the same pixels to the same places."""
        if other is None:
            return False
        facts = [
            (each.source, each.target, each.used, each.resized, each.corner)
            for each in (self, other)
        ]
        return facts[0] == facts[1]

    def metadata(self) -> dict[str, Any]:
        """What a `.umic` file says of it; the keys are in FILE.md."""
        told: dict[str, Any] = {
            "photo_size": list(self.source),
            "resized": list(self.resized),
            "corner": list(self.corner),
            "fit": self.fit.value,
        }
        return told if self.region is None else {**told, "region": list(self.region)}

    @classmethod
    def from_metadata(cls, told: Mapping[str, Any], target: Size) -> Geometry | None:
        """The mirror of `metadata`; None where a file says nothing, or nothing that adds up."""
        try:
            source, resized, corner = (
                _whole(told[key], 2) for key in ("photo_size", "resized", "corner")
            )
            region = _whole(told["region"], 4) if "region" in told else None
            if min(source) < 1 or (region is not None and not _is_inside(region, source)):
                return None
            plain = cls(source, target, Fit(told["fit"]), region)  # type: ignore[arg-type]
            room = [each - side for each, side in zip(plain.resized, target, strict=True)]
            across, down = (c / r if r else 0.5 for c, r in zip(corner, room, strict=True))
            found = replace(plain, at=(across, down))
        except (KeyError, ValueError, TypeError, OverflowError):
            return None
        in_range = all(0.0 <= share <= 1.0 for share in found.at)
        return found if in_range and (found.resized, found.corner) == (resized, corner) else None

    def __str__(self) -> str:
        size = f"{self.target[0]}x{self.target[1]}"
        if self.source == self.target and self.region is None:
            return "as it is"
        if self.fit is Fit.STRETCH and self.region is None:
            across, down = self.pixels_each
            verb = "scaled" if abs(across / down - 1) < _UNNOTICED else "stretched"
            return f"{verb} to {size}"
        grown = self.resized[0] > self.used[2]
        steps = [] if self.resized == self.used[2:] else ["enlarged" if grown else "resized"]
        if self.region is not None:
            x, y, width, height = self.region
            steps.insert(0, f"cut to {width}x{height} at {x},{y}")
        if self.resized != self.target:
            centred = "centre-cropped" if self.at == CENTRE else "cropped"
            steps.append(centred if self.fit is Fit.CROP else "padded with white")
        return f"{' and '.join(steps)} to {size}"


def around(box: Span, source: Size, target: Size, margin: float) -> Geometry:
    """The geometry that shows a masked part and some of what is around it, as large as possible.

    Args:
        box: the masked part, in the photo's pixels.
        source: (width, height) of the photo.
        target: (width, height) that the tokenizer takes.
        margin: what is shown on each side, as a share of the part's longer side.

    The square is never smaller than the target in the photo's own pixels, where the photo has as
    many: what is there already is not enlarged.
    """
    side = max(box.right - box.left, box.bottom - box.top) * (1 + 2 * margin)
    side = max(side, min(max(target), *source), 1)
    if side >= min(source):
        return Geometry(source, target).showing(box)
    whole = max(1, round(side))
    left = round((box.left + box.right - whole) / 2)
    top = round((box.top + box.bottom - whole) / 2)
    left = min(max(left, 0), source[0] - whole)
    top = min(max(top, 0), source[1] - whole)
    return Geometry(source, target, region=(left, top, whole, whole))


def _whole(values: Any, count: int) -> tuple[int, ...]:
    found = tuple(int(value) for value in values)
    if len(found) != count:
        raise ValueError(f"{values!r} are not {count} whole numbers")
    return found


def _is_inside(region: tuple[int, ...], source: tuple[int, ...]) -> bool:
    left, top, width, height = region
    inside = left >= 0 and top >= 0 and left + width <= source[0] and top + height <= source[1]
    return inside and width > 0 and height > 0
