"""Lays pictures with lines of text out on a sheet that stays small.

Knows neither cases nor verdicts.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

HEIGHT = 160
"""Of every picture on a sheet, in pixels."""
GAP, LINE, CHARACTER = 6, 12, 6
FONT_SIZE = 10
MAX_BYTES = 200_000
QUALITIES = (85, 75, 65, 50, 35, 20)
RIGHT, WRONG, SAID = "#1a7f37", "#c0392b", "#555555"
"""Colours of what is right, of what is wrong, and of what a model says."""


@dataclass(frozen=True)
class Tile:
    """Pictures side by side above lines of (text, colour)."""

    pictures: tuple[Image.Image, ...]
    lines: tuple[tuple[str, str], ...]

    @property
    def width(self) -> int:
        """In pixels, gaps between the pictures included."""
        return sum(picture.width + GAP for picture in self.pictures)


def checked(checks: dict[str, bool], prefix: str = "") -> list[tuple[str, str]]:
    """A line for every check, in the colour of its result."""
    return [
        (f"{prefix}{check}: {'right' if is_right else 'wrong'}", RIGHT if is_right else WRONG)
        for check, is_right in checks.items()
    ]


def scaled(path: Path, box: Sequence[int] | None = None) -> Image.Image:
    """The picture of a file at the height of a sheet's row.

    Args:
        path: of a picture.
        box: x, y, width, height in its pixels of a red outline.
    """
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    if box is not None:
        x, y, width, height = box
        outline = (x, y, x + width - 1, y + height - 1)
        ImageDraw.Draw(picture).rectangle(outline, outline="red", width=3)
    size = (round(picture.width * HEIGHT / picture.height), HEIGHT)
    return picture.resize(size, Image.Resampling.LANCZOS)


def sheet(tiles: Sequence[Tile], columns: int = 4) -> Image.Image:
    """The tiles in rows, each as high as its highest tile."""
    width = max(max(one.width for one in tiles), HEIGHT)
    columns = min(columns, max(1, 1400 // width), len(tiles))
    wrapped = [_wrapped(one, width) for one in tiles]
    rows = [range(i, min(i + columns, len(tiles))) for i in range(0, len(tiles), columns)]
    heights = [HEIGHT + GAP + LINE * max(len(wrapped[i]) for i in row) + GAP for row in rows]
    image = Image.new("RGB", (columns * width + GAP, sum(heights) + GAP), "white")
    draw, font, top = ImageDraw.Draw(image), ImageFont.load_default(FONT_SIZE), GAP
    for row, height in zip(rows, heights, strict=True):
        for column, index in enumerate(row):
            left = GAP + column * width
            for number, (text, colour) in enumerate(wrapped[index]):
                place = (left, top + HEIGHT + 2 + number * LINE)
                draw.text(place, text, fill=colour, font=font)
            for picture in tiles[index].pictures:
                image.paste(picture, (left, top))
                left += picture.width + GAP
        top += height
    return image


def small_webp(image: Image.Image) -> bytes:
    """The picture in the best quality that stays under the limit, else in the lowest."""
    data = b""
    for quality in QUALITIES:
        buffer = io.BytesIO()
        image.save(buffer, "WEBP", quality=quality, method=6)
        data = buffer.getvalue()
        if len(data) < MAX_BYTES:
            break
    return data


def _wrapped(one: Tile, width: int) -> list[tuple[str, str]]:
    characters = max(12, (width - GAP) // CHARACTER)
    return [
        (line, colour) for text, colour in one.lines for line in textwrap.wrap(text, characters)
    ]
