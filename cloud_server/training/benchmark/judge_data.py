"""Pictures with exact labels for the judge: whole objects, several of a kind, and mere fragments.

Knows scenes and how they are drawn; no network. Half of the pictures may have been through the
image tokenizer, as generated ones have. A fragment, half of an object or less, counts as nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cloud_server.necks.cell_net import STRIDE
from cloud_server.training.recipes.image_tokenizer.scores import decode_pictures
from cloud_server.training.scenes.render import Renderer, background_pixels
from cloud_server.training.scenes.world import PlacedSprite, Scene, World
from cloud_server.training.tokens.token_cache import BlockEncoder
from shared_protocol.tokenizers.compact import CompactTokenizer

NUMBERS = (0.04, 0.30, 0.34, 0.20, 0.12)
"""Share of pictures with 0, 1, 2, … objects, fragments among them."""
TWIN_SHARE, FRAGMENT_SHARE = 0.3, 0.2
LEFT_OF_A_FRAGMENT = (0.15, 0.5)
DECODED_AT_ONCE = 8


@dataclass(frozen=True)
class Labelled:
    """A picture uint8 [H, W, 3] and the scene of its whole objects."""

    picture: np.ndarray
    scene: Scene


def draw(world: World, renderer: Renderer, rng: np.random.Generator) -> Labelled:
    """One picture of the train split's pairs and layouts, at free places half of the time."""
    number = int(rng.choice(len(NUMBERS), p=NUMBERS))
    background = world.backgrounds[int(rng.integers(len(world.backgrounds)))]
    if number == 0:
        scene = Scene((), background, world.width, world.height)
    else:
        free = replace(world, aligned_share=0.5)
        scene = free.sample_scene(rng, "train", _names(world, number, rng), background)
    cut = [thing for thing in scene.objects if rng.random() < FRAGMENT_SHARE]
    picture = renderer.render(scene).copy()
    for thing in cut:
        _cut(picture, thing, scene, rng)
    whole = tuple(thing for thing in scene.objects if thing not in cut)
    return Labelled(picture, replace(scene, objects=whole))


def _names(world: World, number: int, rng: np.random.Generator) -> Sequence[str]:
    names = [world.names[int(i)] for i in rng.choice(len(world.names), number, replace=False)]
    if number > 1 and rng.random() < TWIN_SHARE:
        names[1] = names[0]
    return names


def _cut(picture: np.ndarray, thing: PlacedSprite, scene: Scene, rng: np.random.Generator) -> None:
    """Leave only a side of an object standing."""
    keep = round(thing.size * float(rng.uniform(*LEFT_OF_A_FRAGMENT)))
    start = 0 if rng.random() < 0.5 else keep
    lost = slice(start, start + thing.size - keep)
    part = [slice(0, thing.size), slice(0, thing.size)]
    part[int(rng.integers(2))] = lost
    rows = slice(thing.y + part[0].start, thing.y + part[0].stop)
    columns = slice(thing.x + part[1].start, thing.x + part[1].stop)
    empty = background_pixels(scene.background, scene.width, scene.height)
    picture[rows, columns] = np.clip(empty[rows, columns] + 0.5, 0, 255).astype(np.uint8)


def through_tokens(
    tokenizer: CompactTokenizer, encoder: BlockEncoder, pictures: np.ndarray
) -> np.ndarray:
    """uint8 [N, H, W, 3] -> the same, encoded and decoded."""
    parts = [
        decode_pictures(tokenizer, encoder.encode(pictures[i : i + DECODED_AT_ONCE]))
        for i in range(0, len(pictures), DECODED_AT_ONCE)
    ]
    return np.concatenate(parts)


def labels(items: Sequence[Labelled], world: World) -> tuple[np.ndarray, np.ndarray]:
    """Classes int64 [B, h, w] (0 nothing, -1 beside a centre) and backgrounds int64 [B]."""
    height, width = world.height // STRIDE, world.width // STRIDE
    classes = np.zeros((len(items), height, width), dtype=np.int64)
    for grid, item in zip(classes, items, strict=True):
        cells = [
            (int(y) // STRIDE, int(x) // STRIDE, thing.name)
            for thing in item.scene.objects
            for x, y in [thing.centre]
        ]
        for row, column, _ in cells:
            grid[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2] = -1
        for row, column, name in cells:
            grid[row, column] = 1 + world.names.index(name)
    places = [world.backgrounds.index(item.scene.background) for item in items]
    return classes, np.array(places, dtype=np.int64)


def varied(pictures: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Small changes of tone and some noise, each picture its own; uint8 [B, H, W, 3]."""
    count = len(pictures)
    gain = rng.uniform(0.92, 1.08, (count, 1, 1, 3))
    shift = rng.uniform(-8, 8, (count, 1, 1, 1))
    noise = rng.normal(0, 1, pictures.shape[1:]) * rng.uniform(0, 5, (count, 1, 1, 1))
    return np.clip(pictures * gain + shift + noise, 0, 255).astype(np.uint8)
