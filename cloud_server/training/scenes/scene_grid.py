"""Where the objects of a scene lie on the token grid.

Knows scenes and the world's sizes; no words, codes or network.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from cloud_server.training.scenes.world import Scene, World


@dataclass(frozen=True)
class Rectangle:
    """A part of the token grid."""

    top: int
    left: int
    height: int
    width: int

    def index(self) -> tuple[slice, slice]:
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)

    def raster(self, side: int) -> np.ndarray:
        """(height * width,) positions of its cells in the raster order of the whole grid."""
        return np.arange(side * side).reshape(side, side)[self.index()].reshape(-1)

    def holds(self, rows: slice, columns: slice) -> bool:
        """Whether these rows and columns lie wholly inside."""
        tall: bool = self.top <= rows.start and rows.stop <= self.top + self.height
        wide: bool = self.left <= columns.start and columns.stop <= self.left + self.width
        return tall and wide


class SceneGrid:
    """The token grid of a world's pictures.

    Args:
        world: names, backgrounds, sizes in pixels.
        side: of the grid, in tokens.
    """

    def __init__(self, world: World, side: int) -> None:
        self.world, self.side = world, side
        self.things = {
            name: number for number, name in enumerate([*world.names, *world.backgrounds])
        }
        """Objects and backgrounds to their numbers; objects come first."""

    @property
    def objects(self) -> int:
        """How many numbers stand for objects."""
        return len(self.world.names)

    @property
    def object_side(self) -> int:
        """Tokens per side of an object."""
        return -(-self.world.sprite_size // self.world.stride)

    @property
    def object_parts(self) -> int:
        """Tokens of an object; also the number that stands for "background"."""
        return self.object_side**2

    def truth(self, scene: Scene) -> np.ndarray:
        """(side, side, 4) of each token: what it shows, which part of it, its row, its column."""
        rows, columns = np.mgrid[: self.side, : self.side]
        things = np.full_like(rows, self.things[scene.background])
        parts = np.full_like(rows, self.object_parts)
        for thing in scene.objects:
            box = self.box(thing.x, thing.y, thing.size)
            things[box] = self.things[thing.name]
            cells = (rows - box[0].start) * self.object_side + columns - box[1].start
            parts[box] = cells[box].clip(max=self.object_parts - 1)
        return np.stack([things, parts, rows, columns], axis=-1)

    def box(self, x: int, y: int, size: int) -> tuple[slice, slice]:
        """The tokens that a box in pixels mostly covers."""
        stride = self.world.stride
        rows, columns = (
            slice(max(0, round(start / stride)), round((start + size) / stride)) for start in (y, x)
        )
        return rows, columns

    def free_boxes(self, scene: Scene) -> list[tuple[slice, slice]]:
        """Every box of tokens that one more object could fill without covering one of the scene.

        None if an object of the scene stands between two tokens: the tokens of one like it, moved
        by whole tokens, would not show what they show where it is.
        """
        stride, size = self.world.stride, self.object_side
        if any(v % stride for thing in scene.objects for v in (thing.x, thing.y, thing.size)):
            return []
        taken = np.zeros((self.side, self.side), dtype=bool)
        for thing in scene.objects:
            taken[self.box(thing.x, thing.y, thing.size)] = True
        views = np.lib.stride_tricks.sliding_window_view(taken, (size, size))
        free = np.argwhere(~views.any(axis=(2, 3))).tolist()
        return [(slice(top, top + size), slice(left, left + size)) for top, left in free]

    def full(self) -> Rectangle:
        return Rectangle(0, 0, self.side, self.side)

    def window_around(self, scene: Scene, size: int, rng: np.random.Generator) -> Rectangle:
        """A square of `size` tokens around one object, most often the only one inside."""
        thing = scene.objects[int(rng.integers(len(scene.objects)))]
        rows, columns = self.box(thing.x, thing.y, thing.size)
        top, left = (
            int(rng.integers(max(0, part.stop - size), min(part.start, self.side - size) + 1))
            for part in (rows, columns)
        )
        return Rectangle(top, left, size, size)

    def inside(self, scene: Scene, part: Rectangle) -> Scene:
        """The scene with only the objects that lie wholly inside `part`."""
        kept = (t for t in scene.objects if part.holds(*self.box(t.x, t.y, t.size)))
        return replace(scene, objects=tuple(kept))
