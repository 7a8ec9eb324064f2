"""Training crops for the image tokenizer: scenes drawn on the fly, photographs of a folder.

Knows no network. A batch is a pure function of (seed, step), so a resumed run sees what an
uninterrupted one would have seen. Crops of scenes start at multiples of the token stride, so what
stands on the grid in the scene stands on the grid in the crop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from cloud_server.training.scenes.render import Renderer
from cloud_server.training.scenes.world import Scene, World
from shared_protocol.errors import InvalidInputError

PHOTO_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
PHOTO_SIDE = 256
PHOTOS_HELD_OUT = 32
OBJECT_CROP_SHARE = 0.85


def load_photos(folder: Path | None, limit: int | None = None) -> np.ndarray:
    """Every picture under `folder`, shorter side scaled to 256 and the centre cut out.

    Args:
        folder: searched recursively, in sorted order; None gives no photographs.
        limit: how many to read at most.

    Returns:
        uint8 [N, 256, 256, 3].

    Raises:
        InvalidInputError: a folder is named and holds no pictures, or one that cannot be read.
    """
    if folder is None:
        return np.zeros((0, PHOTO_SIDE, PHOTO_SIDE, 3), dtype=np.uint8)
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in PHOTO_SUFFIXES)[:limit]
    if not paths:
        raise InvalidInputError(
            f"no pictures under {folder}", f"name a folder with {sorted(PHOTO_SUFFIXES)}"
        )
    return np.stack([read_photo(path) for path in paths])


def read_photo(path: Path) -> np.ndarray:
    """One picture, uint8 [256, 256, 3]: shorter side scaled to 256 and the centre cut out.

    Raises:
        InvalidInputError: it cannot be read.
    """
    try:
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
    except (OSError, Image.DecompressionBombError) as error:
        raise InvalidInputError(f"cannot read {path}: {error}", "remove or repair it") from error
    scale = PHOTO_SIDE / min(picture.size)
    size = tuple(max(PHOTO_SIDE, round(side * scale)) for side in picture.size)
    if size != picture.size:
        picture = picture.resize((size[0], size[1]), Image.Resampling.BICUBIC)
    left, top = (picture.width - PHOTO_SIDE) // 2, (picture.height - PHOTO_SIDE) // 2
    return np.asarray(picture.crop((left, top, left + PHOTO_SIDE, top + PHOTO_SIDE)))


def world_of_candidates(world: World) -> World:
    """The same world with the sprites that are not active yet."""
    rest = world.sprites[world.active :]
    return replace(world, sprites=rest, active=len(rest)) if rest else world


@dataclass(frozen=True)
class CropSource:
    """Draws batches of crops.

    Attributes:
        world / renderer: the scenes of most crops; only its `train` split is drawn.
        candidates: a world of further sprites.
        photos: uint8 [N, 256, 256, 3]; the last PHOTOS_HELD_OUT are never used here.
        crop: side in pixels, a multiple of the stride.
        photo_share / candidate_share: shares of crops; photos count only if there are any.
    """

    world: World
    candidates: World
    renderer: Renderer
    photos: np.ndarray
    crop: int
    photo_share: float
    candidate_share: float
    seed: int

    def batch(self, step: int, size: int) -> np.ndarray:
        """The crops of a step, uint8 [size, crop, crop, 3]."""
        rng = np.random.default_rng((self.seed, step))
        return np.stack([self._crop(rng) for _ in range(size)])

    def _crop(self, rng: np.random.Generator) -> np.ndarray:
        kind = rng.random()
        photos = len(self.photos) - PHOTOS_HELD_OUT
        if photos > 0 and kind < self.photo_share:
            return random_window(self.photos[int(rng.integers(photos))], self.crop, rng)
        is_candidate = kind > 1 - self.candidate_share
        world = self.candidates if is_candidate else self.world
        scene = world.sample_scene(rng, "train")
        x, y = object_window(scene, self.crop, world.stride, rng)
        return self.renderer.render(scene)[y : y + self.crop, x : x + self.crop]


def random_window(picture: np.ndarray, crop: int, rng: np.random.Generator) -> np.ndarray:
    """A window anywhere in [H, W, 3], mirrored half of the time."""
    y = int(rng.integers(picture.shape[0] - crop + 1))
    x = int(rng.integers(picture.shape[1] - crop + 1))
    window = picture[y : y + crop, x : x + crop]
    return window[:, ::-1] if rng.random() < 0.5 else window


def object_window(
    scene: Scene, crop: int, stride: int, rng: np.random.Generator
) -> tuple[int, int]:
    """Corner (x, y) of a window on the grid, most often around one of the objects."""
    limits = (scene.width - crop, scene.height - crop)
    if rng.random() >= OBJECT_CROP_SHARE:
        return tuple_of_two([int(rng.integers(n // stride + 1)) * stride for n in limits])
    thing = scene.objects[int(rng.integers(len(scene.objects)))]
    slack = crop - thing.size
    corner = [
        int(np.clip((start - int(rng.integers(slack + 1))) // stride * stride, 0, limit))
        for start, limit in zip((thing.x, thing.y), limits, strict=True)
    ]
    return tuple_of_two(corner)


def tuple_of_two(values: Sequence[int]) -> tuple[int, int]:
    """(x, y) of a two-element sequence."""
    x, y = values
    return x, y
