"""Plain coloured shapes in the places of the sprite pictures, for runs without a network.

Knows hexcodes and files only. A cache folder filled by it serves the renderer like a real one, but
nothing trained on it knows the real world: for smoke runs and tests alone.
"""

from __future__ import annotations

import colorsys
from pathlib import Path

from PIL import Image, ImageDraw

from cloud_server.training.scenes.sprites import SPRITES
from cloud_server.training.scenes.world import World

SIDE = 256
SHAPES = 4


def write_stand_ins(cache_dir: Path, world: World) -> int:
    """One shape for every sprite of the world, active or not; returns how many were written.

    Pictures that are there already, real ones too, stay.
    """
    folder = cache_dir / SPRITES.folder
    folder.mkdir(parents=True, exist_ok=True)
    written = 0
    for number, sprite in enumerate(world.sprites):
        path = folder / f"{sprite.hexcode}.webp"
        if not path.exists():
            stand_in(number, len(world.sprites)).save(path, "WEBP", lossless=True)
            written += 1
    return written


def stand_in(number: int, total: int) -> Image.Image:
    """RGBA: an ellipse, a box, a triangle or a ring, of a colour and an inner colour of its own."""
    hue = number / total
    outer, inner = (
        tuple(round(255 * part) for part in colorsys.hsv_to_rgb(turned % 1, 0.8, 0.9))
        for turned in (hue, hue + 0.4)
    )
    picture = Image.new("RGBA", (SIDE, SIDE), (0, 0, 0, 0))
    draw = ImageDraw.Draw(picture)
    low, high = SIDE // 10, SIDE - SIDE // 10
    shape = number % SHAPES
    if shape == 2:
        draw.polygon([(SIDE // 2, low), (high, high), (low, high)], fill=outer)
    elif shape == 1:
        draw.rectangle((low, low, high, high), fill=outer)
    else:
        draw.ellipse((low, low, high, high), fill=outer)
    hole = (0, 0, 0, 0) if shape == 3 else inner
    draw.ellipse((SIDE * 2 // 5, SIDE * 2 // 5, SIDE * 3 // 5, SIDE * 3 // 5), fill=hole)
    return picture
