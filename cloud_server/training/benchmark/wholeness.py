"""Finds objects that are not drawn whole: how much of each is unlike its sprite, at the best place.

The judge names what a picture shows and is content with half of it; this compares with the drawing
itself. It knows sprites, backgrounds and pixels; it does not look for objects that nobody named.

`python -m cloud_server.training.benchmark.wholeness` says how many objects of held-out scenes count
as whole after the image tokenizer alone: no picture made of tokens can do better.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from cloud_server.training.recipes.image_tokenizer.scores import reconstruct
from cloud_server.training.scenes.render import Renderer, background_pixels
from cloud_server.training.scenes.world import World
from shared_protocol.bundles.find import load_bundle
from shared_protocol.tokenizers.compact import CompactTokenizer, load_compact

MOST_OFF = 0.1
"""Share of an object's area that may be off in one that counts as whole."""
_OFF = 60.0
"""Levels of 255 that one of a pixel's three may differ by, softened over `_SOFT` pixels a side."""
_SOFT, _COARSE, _NEAR, _FINE = 5, 4, 4, 2
"""Pixels: of the softening; between places that are tried first; around the best of them, and
between places that are tried there."""
_SOLID = 0.6
"""Of the background that an object hides at least where its area is."""
_WILD = 80.0
"""Levels above which a pixel is as wrong as it can be, so that a lost half is not fled from."""
PICTURES, SEED = 200, 41


def share_off(
    picture: npt.NDArray[np.uint8], name: str, background: str, renderer: Renderer
) -> float:
    """How much of an object's area is unlike its sprite, at the place where that fits best.

    Args:
        picture: (H, W, 3) uint8 RGB, both sides at least those of a sprite.
        name: of a sprite of the renderer's world.
        background: that shows through where the sprite has holes and edges.

    Returns:
        0 (all of it is as drawn) to 1 (none).

    Raises:
        KeyError: an object or background that the world does not have.
    """
    side = renderer.world.sprite_size
    height, width = picture.shape[:2]
    colour, keep = (_planes(part) for part in renderer.layer(name, side))
    behind = _planes(background_pixels(background, width, height))
    shown = _planes(picture)
    top, left = _coarse_place(shown, behind, colour, keep)
    solid = keep[0] < 1 - _SOLID
    soft = _softened(shown)
    off = 1.0
    for y in _around(top, height - side):
        for x in _around(left, width - side):
            box = np.s_[:, y : y + side, x : x + side]
            wrong = (soft[box] - _softened(behind[box] * keep + colour)).abs().amax(0) > _OFF
            off = min(off, float(wrong[solid].float().mean()))
    return off


def _coarse_place(shown: Tensor, behind: Tensor, colour: Tensor, keep: Tensor) -> tuple[int, int]:
    """Top and left of the place where the sprite fits best, in pixels."""
    few = np.s_[:, ::_COARSE, ::_COARSE]
    side = colour[few].shape[1]
    shown_at, behind_at = (
        whole[few].unfold(1, side, 1).unfold(2, side, 1) for whole in (shown, behind)
    )
    drawn = behind_at * keep[few][:, None, None] + colour[few][:, None, None]
    wrong = (shown_at - drawn).abs().amax(0).clamp(max=_WILD)
    solid = keep[few][0] < 1 - _SOLID
    best = int(wrong[..., solid].mean(-1).argmin())
    row, column = divmod(best, wrong.shape[1])
    return row * _COARSE, column * _COARSE


def _around(place: int, most: int) -> range:
    return range(max(0, place - _NEAR), min(most, place + _NEAR) + 1, _FINE)


def _planes(pixels: npt.NDArray[np.generic]) -> Tensor:
    return torch.from_numpy(np.asarray(pixels, dtype=np.float32)).permute(2, 0, 1)


def _softened(planes: Tensor) -> Tensor:
    blurred: Tensor = avg_pool2d(planes, _SOFT, 1, _SOFT // 2, count_include_pad=False)
    return blurred


def tokenised_scenes(
    world: World, renderer: Renderer, tokenizer: CompactTokenizer, count: int, seed: int
) -> Iterator[list[float]]:
    """Of each held-out scene `share_off` of its objects, after the image tokenizer."""
    rng = np.random.default_rng((seed, 0))
    for _ in range(count):
        scene = world.sample_scene(rng, "test")
        _, (picture,) = reconstruct(tokenizer, renderer.render(scene)[None])
        names = [thing.name for thing in scene.objects]
        yield [share_off(picture, name, scene.background, renderer) for name in names]


def main(words: Sequence[str] | None = None) -> int:
    """Print how many objects of tokenised scenes count as whole; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=PICTURES, help=f"scenes [{PICTURES}]")
    parser.add_argument("--seed", type=int, default=SEED, help=f"of the scenes [{SEED}]")
    parser.add_argument("--cache", type=Path, help="folder for downloads (default: $UNIMIC_CACHE)")
    given = parser.parse_args(words)
    world = World.load(None)
    tokenizer = load_compact(load_bundle().path("image_tokenizer"))
    found = tokenised_scenes(
        world, Renderer(world, given.cache), tokenizer, given.count, given.seed
    )
    off = np.array([share for scene in found for share in scene])
    whole = float((off <= MOST_OFF).mean())
    said = f"{whole:.1%} of {len(off)} objects of tokenised scenes are whole (seed {given.seed})\n"
    sys.stdout.write(said)
    return 0


if __name__ == "__main__":
    sys.exit(main())
