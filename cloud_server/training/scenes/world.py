"""The world of the built-in models: which sprites, which backgrounds, how scenes are laid out.

Knows neither pixels nor words; a pure function of a config and a numpy Generator.

    canvas 256x256                    a scene holds its own truth:
    +----------------------+            objects     ((name, x, y, size), ...)
    |   +----+             |            background  one of the world's names
    |   |96px|   +----+    |            width, height
    |   +----+   |    |    |
    |            +----+    |          most sprites stand on multiples of 16 px, where the image
    +----------------------+          tokenizer gives them the same tokens again and again
"""

from __future__ import annotations

import tomllib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np

from shared_protocol.errors import ConfigError

Split = Literal["train", "test"]

DEFAULT_WORLD = Path(__file__).parents[1] / "configs" / "world.toml"
FREE_PLACE_TRIES = 48
SCENE_TRIES = 10_000


@dataclass(frozen=True)
class Sprite:
    """One kind of object: its everyday name, its picture's hexcode and a coarse kind."""

    name: str
    hexcode: str
    kind: str


@dataclass(frozen=True)
class PlacedSprite:
    """An object in a scene; (x, y) is the top left corner of its square box, in pixels."""

    name: str
    x: int
    y: int
    size: int

    @property
    def centre(self) -> tuple[float, float]:
        """The middle of the box (x, y), in pixels."""
        return self.x + self.size / 2, self.y + self.size / 2


@dataclass(frozen=True)
class Scene:
    """The whole truth about one picture."""

    objects: tuple[PlacedSprite, ...]
    background: str
    width: int = 256
    height: int = 256

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready form; `from_dict` is its mirror."""
        boxes = [[o.name, o.x, o.y, o.size] for o in self.objects]
        return {
            "objects": boxes,
            "background": self.background,
            "width": self.width,
            "height": self.height,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Scene:
        """The scene that `to_dict` wrote."""
        objects = tuple(PlacedSprite(*box) for box in data["objects"])
        return cls(objects, data["background"], data["width"], data["height"])


@dataclass(frozen=True)
class World:
    """Sprites, backgrounds and layout rules; the first `active` sprites take part.

    Attributes:
        object_shares: share of scenes with 1, 2, 3, ... objects; sums to 1.
        aligned_share: share of scenes whose every box stands on multiples of `stride`.
        held_out_pair_percent: share of object pairs that only `test` scenes contain.
        held_out_layout_percent: share of (object, place, background) that only `test` contains.
    """

    sprites: tuple[Sprite, ...]
    backgrounds: tuple[str, ...]
    object_shares: tuple[float, ...] = (0.35, 0.35, 0.20, 0.10)
    active: int = 32
    sprite_size: int = 96
    stride: int = 16
    width: int = 256
    height: int = 256
    aligned_share: float = 0.85
    held_out_pair_percent: int = 10
    held_out_layout_percent: int = 10
    names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Refuses, with a `ConfigError`, configs that contradict themselves."""
        if not 1 <= self.active <= len(self.sprites):
            raise ConfigError(f"active={self.active}", f"name 1 to {len(self.sprites)} sprites")
        if abs(sum(self.object_shares) - 1) > 1e-6:
            raise ConfigError(f"object_shares={self.object_shares}", "make them sum to 1")
        if self.width % self.stride or self.height % self.stride:
            raise ConfigError(
                f"canvas {self.width}x{self.height}", f"use multiples of {self.stride}"
            )
        object.__setattr__(self, "names", tuple(s.name for s in self.sprites[: self.active]))

    @classmethod
    def load(cls, path: Path | None = None) -> World:
        """Reads a TOML config; without `path`, the world of the shipped models.

        Raises:
            ConfigError: it cannot be read, lacks a field, has one too many, or contradicts itself.
        """
        path = path or DEFAULT_WORLD
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
            data["sprites"] = tuple(Sprite(**entry) for entry in data["sprites"])
            data["backgrounds"] = tuple(data["backgrounds"])
            data["object_shares"] = tuple(data["object_shares"])
            return cls(**data)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ConfigError(f"{path} is no world: {error!r}", f"see {DEFAULT_WORLD}") from error

    def sprite(self, name: str) -> Sprite:
        """The sprite called `name`, active or not.

        Raises:
            KeyError: no sprite of that name.
        """
        for sprite in self.sprites:
            if sprite.name == name:
                return sprite
        raise KeyError(f"no sprite called {name!r}: see World.names")

    def is_held_out_pair(self, first: str, second: str) -> bool:
        """Whether scenes with both objects belong to `test` alone."""
        return _percentile("pair", *sorted((first, second))) < self.held_out_pair_percent

    def is_held_out_layout(self, scene: Scene) -> bool:
        """Whether a one-object scene (object, coarse place, background) belongs to `test` alone."""
        thing = scene.objects[0]
        place = (str(thing.x // self.stride), str(thing.y // self.stride))
        key = _percentile("layout", thing.name, *place, scene.background)
        return key < self.held_out_layout_percent

    def split_of(self, scene: Scene) -> Split:
        """The only split that may contain `scene`."""
        names = [thing.name for thing in scene.objects]
        if len(names) == 1:
            held_out = self.is_held_out_layout(scene)
        else:
            held_out = any(self.is_held_out_pair(a, b) for a, b in combinations(names, 2))
        return "test" if held_out else "train"

    def sample_scene(
        self,
        rng: np.random.Generator,
        split: Split,
        objects: int | Sequence[str] | None = None,
        background: str | None = None,
    ) -> Scene:
        """A random scene of `split`.

        Args:
            rng: the only source of randomness.
            split: `train` never shows a held-out pair or layout, `test` always shows one.
            objects: how many, or exactly which (their split is then the caller's business unless
                there is one object, whose place follows the split); None draws the number.
            background: one of `backgrounds`; None draws it.

        Raises:
            ValueError: the objects do not fit, or nothing of that split exists.
        """
        # drawn once: rejecting held-out scenes must not change how many have one, two, ... objects
        number = objects if isinstance(objects, int) else self._draw_number(rng)
        given = () if objects is None or isinstance(objects, int) else tuple(objects)
        for _ in range(SCENE_TRIES):
            names = given or self._draw_names(rng, number)
            place = background or self.backgrounds[int(rng.integers(len(self.backgrounds)))]
            placed = self._place(rng, names)
            if placed is None:
                continue
            scene = Scene(placed, place, self.width, self.height)
            if len(given) > 1 or self.split_of(scene) == split:
                return scene
        raise ValueError(
            f"no {split} scene with objects={objects!r} fits {self.width}x{self.height}"
        )

    def _draw_number(self, rng: np.random.Generator) -> int:
        return 1 + int(rng.choice(len(self.object_shares), p=self.object_shares))

    def _draw_names(self, rng: np.random.Generator, number: int) -> tuple[str, ...]:
        picked = rng.choice(self.active, size=number, replace=False)
        return tuple(self.names[int(i)] for i in picked)

    def _place(
        self, rng: np.random.Generator, names: Sequence[str]
    ) -> tuple[PlacedSprite, ...] | None:
        aligned = rng.random() < self.aligned_share
        placed: list[PlacedSprite] = []
        for name in names:
            spots = self._grid() if aligned else self._random_spots(rng)
            free = _free_spots(spots, placed, self.sprite_size)
            if len(free) == 0:
                return None
            x, y = free[int(rng.integers(len(free)))]
            placed.append(PlacedSprite(name, int(x), int(y), self.sprite_size))
        return tuple(placed)

    def _grid(self) -> np.ndarray:
        return _grid_spots(
            self.width - self.sprite_size, self.height - self.sprite_size, self.stride
        )

    def _random_spots(self, rng: np.random.Generator) -> np.ndarray:
        high = (self.width - self.sprite_size + 1, self.height - self.sprite_size + 1)
        return rng.integers(0, high, size=(FREE_PLACE_TRIES, 2))


@cache
def default_world() -> World:
    """The shipped models' world, read once."""
    return World.load(None)


@cache
def _grid_spots(max_x: int, max_y: int, stride: int) -> np.ndarray:
    """Every aligned corner, int64 [N, 2] as (x, y)."""
    xs, ys = np.meshgrid(np.arange(0, max_x + 1, stride), np.arange(0, max_y + 1, stride))
    return np.stack([xs.ravel(), ys.ravel()], axis=1)


def _free_spots(spots: np.ndarray, placed: Sequence[PlacedSprite], size: int) -> np.ndarray:
    """The spots [N, 2] at which a box of `size` overlaps no placed box."""
    free = np.ones(len(spots), dtype=bool)
    for other in placed:
        apart = np.abs(spots - np.array([other.x, other.y])) >= size
        free &= apart.any(axis=1)
    return spots[free]


def _percentile(*words: str) -> int:
    """A stable hash of the words in 0..99, the same on every machine and for ever."""
    return zlib.crc32("|".join(words).encode()) % 100
