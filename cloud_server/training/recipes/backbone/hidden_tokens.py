"""Which tokens of a picture are hidden, so that the transformer learns to draw them.

Knows scenes and the token grid; no words, codes or network. Four kinds of examples::

    whole       any share of all tokens            the first steps of text to image
    block       any share of one object's tokens   inpainting
    side        any share of one side              outpainting
    half drawn  background known here and there, objects hidden as a whole or already there:
                what masked decoding leaves open after its first, surest tokens; in some, an object
                has begun a second time, where background must come
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from cloud_server.training.scenes.scene_grid import Rectangle, SceneGrid
from cloud_server.training.scenes.world import Scene

_MISSING_SHARE, _WHOLE_SHARE = 0.6, 0.2
"""Of the objects of a half-drawn picture; the others are partly drawn."""
_MOST_HOLES = 3
"""Object-sized holes in the background of a half-drawn picture."""
_COPY_SHARE, _GAPS_SHARE = 0.6, 0.5
"""At most so much of a copy is seen, and at most so much of the object that it copies is hidden."""
_FINISHED_POWER = 3
"""Of the random share of tokens hidden here and there in a picture whose objects are all there."""


@dataclass(frozen=True)
class HidingConfig:
    """Shares of the examples.

    Attributes:
        block: hide one object only.
        side: hide one side of the picture.
        unbegun: look like pictures half drawn.
        finished: share of those in which every object is there already, so that what is left open
            is background.
        copies: show an object of a half-drawn picture begun a second time; no more than `unbegun`,
            of which they are a part. Only whole pictures whose boxes stand on the grid have them,
            the others are half drawn without.
    """

    block: float
    side: float
    unbegun: float
    finished: float
    copies: float = 0.0


@dataclass(frozen=True)
class Hidden:
    """What an example hides.

    Attributes:
        flags: (side, side) bool, True = hidden.
        spoken: the scene that its caption speaks of.
        half_drawn: whether it is an example of that kind.
        shows: (side, side) int64, the number in raster order of the token that each place shows
            where it is not hidden: its own, or, in a copy, that of the object's token; None = all
            their own.
    """

    flags: np.ndarray
    spoken: Scene
    half_drawn: bool = False
    shows: np.ndarray | None = None


class TokenHider:
    """Draws what to hide."""

    def __init__(self, config: HidingConfig, grid: SceneGrid) -> None:
        self._config, self._grid = config, grid

    def draw(self, scene: Scene, part: Rectangle, rng: np.random.Generator) -> Hidden:
        """Hide some tokens of `part` of a scene's picture, at least one."""
        config, side = self._config, self._grid.side
        region = np.zeros((side, side), dtype=bool)
        spoken = self._grid.inside(scene, part)
        draw = rng.random()
        if draw >= 1.0 - config.unbegun and spoken.objects:
            hidden = self._unbegun(scene, rng)
            if draw >= 1.0 - config.copies and part == self._grid.full():
                copied = self._with_copy(scene, hidden, rng)
                if copied is not None:
                    return copied
            region[part.index()] = hidden[part.index()]
            if region.any():
                return Hidden(region, spoken, half_drawn=True)
        if draw < config.block and spoken.objects:
            thing = spoken.objects[int(rng.integers(len(spoken.objects)))]
            region[self._loose_box(thing.x, thing.y, thing.size, rng)] = True
            if rng.random() < 0.5:
                spoken = replace(spoken, objects=(thing,))
        elif draw < config.block + config.side:
            region[_one_side(part, rng)] = True
        else:
            region[part.index()] = True
        inner = np.zeros_like(region)
        inner[part.index()] = region[part.index()]
        return Hidden(thin_out(inner, rng), spoken)

    def _unbegun(self, scene: Scene, rng: np.random.Generator) -> np.ndarray:
        """Holes in the background; objects missing, begun or there.

        In a finished picture every object is begun at least. In any other one is missing.
        """
        finished = rng.random() < self._config.finished
        side, size = self._grid.side, self._grid.object_side
        hidden = rng.random((side, side)) < rng.random() ** (_FINISHED_POWER if finished else 1)
        for _ in range(int(rng.integers(1 if finished else 0, _MOST_HOLES + 1))):
            top, left = rng.integers(0, side - size + 1, size=2)
            hidden[top : top + size, left : left + size] = True
        fates = rng.random(len(scene.objects))
        if finished:
            fates = _MISSING_SHARE + fates * (1.0 - _MISSING_SHARE)
        else:
            fates[int(rng.integers(len(fates)))] = 0.0
        for thing, fate in zip(scene.objects, fates, strict=True):
            box = self._grid.box(thing.x, thing.y, thing.size)
            if fate < _MISSING_SHARE:
                hidden[self._loose_box(thing.x, thing.y, thing.size, rng)] = True
            elif fate < _MISSING_SHARE + _WHOLE_SHARE:
                hidden[box] = False
            else:
                hidden[box] = rng.random(hidden[box].shape) < rng.random()
        return hidden

    def _with_copy(
        self, scene: Scene, hidden: np.ndarray, rng: np.random.Generator
    ) -> Hidden | None:
        """A half-drawn picture in which an object has begun a second time, on background.

        More is seen of the object than of its copy, or nothing would tell which of them is to stay
        where the caption names no places. None if the boxes are off the grid or no place is free.
        """
        thing = scene.objects[int(rng.integers(len(scene.objects)))]
        places = self._grid.free_boxes(scene)
        if not places:
            return None
        rows, columns = places[int(rng.integers(len(places)))]
        source, copy = self._grid.box(thing.x, thing.y, thing.size), (rows, columns)
        hidden = hidden.copy()
        hidden[source] = rng.random(hidden[source].shape) < rng.random() * _GAPS_SHARE
        gone = rng.random(hidden[copy].shape) >= rng.random() * _COPY_SHARE
        begun, left = rng.choice(gone.size, 2, replace=False)
        gone.flat[begun], gone.flat[left] = False, True  # at least one token of each kind
        hidden[copy] = gone
        cells = np.arange(hidden.size).reshape(hidden.shape)
        shows = cells.copy()
        shows[copy] = np.where(gone, cells[copy], cells[source])
        return Hidden(hidden, scene, half_drawn=True, shows=shows)

    def _loose_box(
        self, x: int, y: int, size: int, rng: np.random.Generator
    ) -> tuple[slice, slice]:
        """An object's box, up to one token larger on each side."""
        rows, columns = self._grid.box(x, y, size)
        grow = rng.integers(0, 2, size=4)
        return (
            slice(max(0, rows.start - grow[0]), rows.stop + grow[1]),
            slice(max(0, columns.start - grow[2]), columns.stop + grow[3]),
        )


def _one_side(part: Rectangle, rng: np.random.Generator) -> tuple[slice, slice]:
    """From a quarter to three quarters of a rectangle, at one of its four sides."""
    rows, columns = part.index()
    count = int(rng.integers(part.width // 4, 3 * part.width // 4 + 1))
    direction = int(rng.integers(4))
    if direction == 0:
        return rows, slice(part.left, part.left + count)
    if direction == 1:
        return rows, slice(part.left + part.width - count, part.left + part.width)
    if direction == 2:
        return slice(part.top, part.top + count), columns
    return slice(part.top + part.height - count, part.top + part.height), columns


def thin_out(region: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random part of the region, of a share cos(u pi/2): Show-o's corruption."""
    cells = np.flatnonzero(region)
    count = max(1, round(len(cells) * float(np.cos(rng.random() * np.pi / 2))))
    hidden = np.zeros(region.size, dtype=bool)
    hidden[rng.permutation(cells)[:count]] = True
    return hidden.reshape(region.shape)
