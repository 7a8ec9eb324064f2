"""Draws a scene: background, soft contact shadows, sprites. numpy and PIL only.

Knows no words and no tokens. A sprite's box holds its picture and its shadow, so that nothing of an
object lies outside the box and an aligned object fills whole tokens.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from cloud_server.training.scenes.sprites import default_cache_dir, ensure_sprites
from cloud_server.training.scenes.world import Scene, World

PICTURE_SHARE = 0.95  # the rest of the box, at the bottom, is left to the shadow
SHADOW_OPACITY = 0.30

Colour = tuple[int, int, int]

# (height share at which the stop lies, colour); two stops at one height make an edge.
BACKGROUNDS: dict[str, tuple[tuple[float, Colour], ...]] = {
    "meadow": (
        (0.0, (120, 190, 245)), (0.5, (205, 232, 250)), (0.5, (130, 196, 84)), (1.0, (84, 158, 60)),
    ),
    "meadow_night": (
        (0.0, (14, 18, 52)), (0.5, (40, 50, 100)), (0.5, (28, 66, 52)), (1.0, (16, 42, 36)),
    ),
    "beach": (
        (0.0, (110, 190, 248)), (0.375, (200, 232, 250)), (0.375, (40, 140, 196)),
        (0.5, (84, 190, 214)), (0.5, (244, 222, 168)), (1.0, (232, 202, 138)),
    ),
    "beach_sunset": (
        (0.0, (250, 150, 84)), (0.375, (252, 206, 128)), (0.375, (196, 100, 110)),
        (0.5, (228, 140, 116)), (0.5, (214, 160, 116)), (1.0, (180, 122, 96)),
    ),
    "beach_night": (
        (0.0, (12, 14, 46)), (0.375, (38, 46, 98)), (0.375, (18, 34, 84)),
        (0.5, (32, 58, 112)), (0.5, (106, 100, 110)), (1.0, (78, 74, 92)),
    ),
    "desert": (
        (0.0, (150, 208, 240)), (0.5, (240, 232, 206)),
        (0.5, (232, 170, 92)), (1.0, (206, 132, 62)),
    ),
    "desert_sunset": (
        (0.0, (196, 74, 100)), (0.5, (250, 160, 92)), (0.5, (160, 76, 56)), (1.0, (112, 50, 50)),
    ),
    "snow": (
        (0.0, (184, 210, 232)), (0.5, (226, 236, 244)),
        (0.5, (248, 250, 253)), (1.0, (222, 232, 244)),
    ),
    "snow_night": (
        (0.0, (20, 26, 66)), (0.5, (56, 68, 122)), (0.5, (160, 176, 212)), (1.0, (120, 138, 184)),
    ),
    "studio_white": ((0.0, (250, 250, 250)), (1.0, (250, 250, 250))),
    "studio_blue": ((0.0, (110, 160, 226)), (1.0, (110, 160, 226))),
    "studio_pink": ((0.0, (248, 180, 200)), (1.0, (248, 180, 200))),
}  # fmt: skip


class Renderer:
    """Draws scenes of one world; the sprites are scaled once and kept.

    Args:
        world: whose sprites to draw, the inactive ones too.
        cache_dir: where sprite pictures are kept; None means `default_cache_dir()`.
    """

    def __init__(self, world: World, cache_dir: Path | None = None) -> None:
        self.world = world
        self._cache_dir = cache_dir or default_cache_dir()
        self._layers: dict[tuple[str, int], tuple[np.ndarray, np.ndarray]] = {}
        self._ensured = False

    def render(self, scene: Scene) -> np.ndarray:
        """The picture, uint8 [H, W, 3] RGB.

        Raises:
            KeyError: an object or background that the world does not have.
        """
        canvas = background_pixels(scene.background, scene.width, scene.height).copy()
        for thing in scene.objects:
            premultiplied, keep = self.layer(thing.name, thing.size)
            rows = slice(thing.y, thing.y + thing.size)
            columns = slice(thing.x, thing.x + thing.size)
            canvas[rows, columns] = canvas[rows, columns] * keep + premultiplied
        return np.clip(canvas + 0.5, 0, 255).astype(np.uint8)

    def layer(self, name: str, size: int) -> tuple[np.ndarray, np.ndarray]:
        """A sprite as `sprite_layer` gives it, in a box of `size` pixels a side.

        Raises:
            KeyError: an object that the world does not have.
        """
        key = (name, size)
        if key not in self._layers:
            self._layers[key] = sprite_layer(self._picture(name), size)
        return self._layers[key]

    def _picture(self, name: str) -> Image.Image:
        if not self._ensured:
            # one pass over the archive for the whole world, rather than one a sprite
            ensure_sprites(self._cache_dir, [s.hexcode for s in self.world.sprites])
            self._ensured = True
        code = self.world.sprite(name).hexcode
        with Image.open(ensure_sprites(self._cache_dir, [code])[code]) as picture:
            return picture.convert("RGBA")


@lru_cache(maxsize=64)
def background_pixels(name: str, width: int, height: int) -> np.ndarray:
    """The empty background, float32 [H, W, 3] in 0..255; constant along rows, so any width fits.

    Raises:
        KeyError: no background of that name.
    """
    stops = BACKGROUNDS[name]
    heights = np.array([stop for stop, _ in stops], dtype=np.float64)
    heights += np.arange(len(stops)) * 1e-9  # np.interp needs increasing heights at an edge
    rows = (np.arange(height) + 0.5) / height
    colours = np.array([colour for _, colour in stops], dtype=np.float64)
    column: np.ndarray = np.stack(
        [np.interp(rows, heights, colours[:, c]) for c in range(3)], axis=1
    )
    return np.repeat(column[:, None, :], width, axis=1).astype(np.float32)


def sprite_layer(picture: Image.Image, size: int) -> tuple[np.ndarray, np.ndarray]:
    """A sprite with its shadow as (premultiplied colour, share of the canvas kept).

    Args:
        picture: RGBA, any square size.
        size: side of the box in pixels.

    Returns:
        float32 [size, size, 3] in 0..255, and float32 [size, size, 1] in 0..1.
    """
    inner = round(size * PICTURE_SHARE)
    rgba = np.zeros((size, size, 4), dtype=np.float32)
    left = (size - inner) // 2
    rgba[:inner, left : left + inner] = _resize_premultiplied(picture, inner)
    alpha = rgba[..., 3:]
    shadow = _contact_shadow(alpha[..., 0])[..., None]
    keep = (1 - alpha) * (1 - shadow)
    return rgba[..., :3] * 255, keep


def _resize_premultiplied(picture: Image.Image, size: int) -> np.ndarray:
    """float32 [size, size, 4] in 0..1, colour premultiplied so that edges take no fringe."""
    rgba = np.asarray(picture, dtype=np.float32) / 255
    rgba = np.concatenate([rgba[..., :3] * rgba[..., 3:], rgba[..., 3:]], axis=2)
    channels = [
        Image.fromarray(np.ascontiguousarray(rgba[..., c])).resize(
            (size, size), Image.Resampling.LANCZOS
        )
        for c in range(4)
    ]
    resized = np.stack([np.asarray(c) for c in channels], axis=2)
    return np.asarray(np.clip(resized, 0, 1), dtype=np.float32)


def _contact_shadow(alpha: np.ndarray) -> np.ndarray:
    """Darkness [S, S] of a flat ellipse under the sprite's foot, as wide as the foot is."""
    size = alpha.shape[0]
    covered = np.argwhere(alpha > 0.5)
    bottom = int(covered[:, 0].max())
    foot = covered[covered[:, 0] > bottom - size // 5][:, 1]
    centre, half = (foot.min() + foot.max()) / 2, max((foot.max() - foot.min()) / 2, size / 8)
    height = size * 0.055
    middle = min(bottom - height * 0.2, size - 1 - height)
    ys, xs = np.mgrid[:size, :size]
    reach = 1 - ((xs - centre) / (half * 1.1)) ** 2 - ((ys - middle) / height) ** 2
    shadow = SHADOW_OPACITY * np.clip(reach * 1.5, 0, 1)
    return np.asarray(shadow, dtype=np.float32)
