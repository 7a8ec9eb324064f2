"""Compares what was found in a picture with what was asked for: what to keep, what is wrong.

It does not know codes, a network, or how anything is mended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
from numpy.typing import NDArray

from cloud_server.generation.mending.layout import Layout, stands, zone_of
from cloud_server.generation.mending.looking import Seen
from cloud_server.prompts.asked import Asked

Flags = NDArray[np.bool_]
_HALF = 3.5
"""Cells from a thing's middle to its end, and a little more."""
_CONSIDERED = 4
"""Copies of one thing that are looked at; the others are dropped."""


@dataclass(frozen=True)
class Findings:
    """What is right and wrong about a picture.

    Attributes:
        kept: for each thing asked for, by number, the copies that stay.
        dropped: the copies that have to go.
        missing: numbers of the things that have too few copies, once for each that lacks.
    """

    kept: Mapping[int, Sequence[Seen]]
    dropped: Sequence[Seen]
    missing: Sequence[int]

    @property
    def is_right(self) -> bool:
        return not self.dropped and not self.missing

    def kept_cells(self, side: int) -> Flags:
        """(side, side) bool: the cells of what stays, as far as they are nearer to it."""
        flags = np.zeros((side, side), dtype=bool)
        for seen in (each for copies in self.kept.values() for each in copies):
            own = _distance(seen, side)
            nearer = [own <= _distance(other, side) for other in self.dropped]
            flags |= np.logical_and.reduce([own <= _HALF, *nearer])
        return flags


def compare(
    found: Mapping[int, Sequence[Seen]], asked: Asked, layout: Layout | None, side: int
) -> Findings:
    """Choose which copies of each thing stay.

    Those that stand as asked if there are such, the ones nearest to where they were meant to be,
    else the surest. Where none stand as asked, one thing stays and the others are wanted anew.

    Args:
        found: for each thing, by number, its copies in the picture.
        asked: the things, and how they should stand.
        layout: where they were meant to be, if anybody meant them to be anywhere.
        side: of the picture, in cells.
    """
    options = [
        list(combinations(found[number][:_CONSIDERED], min(thing.count, len(found[number]))))
        for number, thing in enumerate(asked.things)
    ]
    chosen = max(product(*options), key=lambda some: _merit(some, asked, layout, side))
    kept = {number: list(copies) for number, copies in enumerate(chosen)}
    if not _is_as_asked(chosen, asked, side):
        kept = _one_thing(kept, asked, side)
    dropped = [
        seen
        for number in found
        for seen in found[number]
        if not any(seen is each for each in kept[number])
    ]
    missing = [
        number
        for number, thing in enumerate(asked.things)
        for _ in range(thing.count - len(kept[number]))
    ]
    return Findings(kept, dropped, missing)


def _merit(
    chosen: Sequence[Sequence[Seen]], asked: Asked, layout: Layout | None, side: int
) -> tuple[bool, float]:
    """The better the larger: as asked first, then near to the layout, or sure."""
    right = _is_as_asked(chosen, asked, side)
    if layout is None:
        return right, sum(seen.weight for copies in chosen for seen in copies)
    off = 0.0
    for thing, copies in zip(asked.things, chosen, strict=True):
        meant = [each.centre for each in layout.placed if each.thing == thing]
        off += sum(min(_apart(seen.place, centre) for centre in meant) for seen in copies)
    return right, -off


def _is_as_asked(chosen: Sequence[Sequence[Seen]], asked: Asked, side: int) -> bool:
    """Whether all that is there stands in its zone, and as its relations say."""
    zones = (
        thing.zone in (None, zone_of(*seen.place, side))
        for thing, copies in zip(asked.things, chosen, strict=True)
        for seen in copies
    )
    related = (
        stands(one.place, other.place, relation.word)
        for relation in asked.relations
        for one in chosen[relation.first]
        for other in chosen[relation.second]
    )
    return all(zones) and all(related)


def _one_thing(kept: Mapping[int, list[Seen]], asked: Asked, side: int) -> dict[int, list[Seen]]:
    """The surest thing that stands in its zone; nothing of the others."""
    there = [
        (seen.weight, number, seen)
        for number, copies in kept.items()
        for seen in copies
        if asked.things[number].zone in (None, zone_of(*seen.place, side))
    ]
    only: dict[int, list[Seen]] = {number: [] for number in kept}
    if there:
        _, number, seen = max(there, key=lambda each: each[:2])
        only[number] = [seen]
    return only


def _apart(one: tuple[float, float], other: tuple[float, float]) -> float:
    return float(np.hypot(one[0] - other[0], one[1] - other[1]))


def _distance(seen: Seen, side: int) -> NDArray[np.float64]:
    """(side, side) cells between each cell and a thing's middle, the larger of both ways."""
    rows, columns = np.indices((side, side))
    far: NDArray[np.float64] = np.maximum(abs(rows - seen.row), abs(columns - seen.column))
    return far
