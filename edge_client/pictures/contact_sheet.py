"""Many pictures on one, each with a caption, so that results can be judged at a glance.

It does not know where the pictures come from; `images` opens them.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from edge_client.pictures.geometry import Fit
from edge_client.pictures.images import load_picture
from shared_protocol.tokenizers.image import Pixels

TILE = 256
MARGIN = 16
CAPTION = 54
_CHARACTERS = 44
_INK = (30, 30, 30)


@dataclass(frozen=True)
class Tile:
    """A picture and what to write under it.

    Args:
        path: the picture.
        caption: cut to three lines.
        span: tiles that it is wide, for pictures that were extended.
    """

    path: Path
    caption: str
    span: int = 1


def contact_sheet(rows: Sequence[Sequence[Tile]]) -> Pixels:
    """All rows of tiles below each other: (H, W, 3) uint8.

    Raises:
        ImageError: a picture cannot be read.
    """
    columns = max(sum(tile.span for tile in row) for row in rows)
    size = (MARGIN + columns * (TILE + MARGIN), MARGIN + len(rows) * (TILE + CAPTION + MARGIN))
    sheet = Image.new("RGB", size, (250, 250, 250))
    for line, row in enumerate(rows):
        left, top = MARGIN, MARGIN + line * (TILE + CAPTION + MARGIN)
        for tile in row:
            _place(sheet, tile, left, top)
            left += tile.span * (TILE + MARGIN)
    return np.asarray(sheet)


def _place(sheet: Image.Image, tile: Tile, left: int, top: int) -> None:
    width = tile.span * (TILE + MARGIN) - MARGIN
    picture = load_picture(tile.path, TILE, width, Fit.PAD)
    sheet.paste(Image.fromarray(picture.pixels), (left, top))
    lines = textwrap.wrap(tile.caption, _CHARACTERS * tile.span, max_lines=3, placeholder=" …")
    font = ImageFont.load_default(size=12)
    ImageDraw.Draw(sheet).multiline_text((left, top + TILE + 4), "\n".join(lines), _INK, font)
