"""Lays out what a prompt asks for: a box for every thing, and the words that say where they are.

It does not know ids, codes or a network. A model that draws all cells of a step at once begins a
thing in several places if nothing says where it belongs; told the places, it seldom does::

    "a fox left of a balloon" ─ boxes by the seed, as asked ─► "a fox at the bottom left and a
                                                                balloon at the top, on a beach"
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from cloud_server.prompts.asked import Asked, Relation, Thing

MOST_THINGS = 4
"""More do not fit a picture side by side."""
_BOX = 3 / 8
"""Side of a thing's box, as a share of the picture's."""
_NEAR = (0.40625, 0.59375)
"""Shares of a picture where left ends and right begins."""
_TRIES = 600


@dataclass(frozen=True)
class Placed:
    """One thing in its box, in cells."""

    thing: Thing
    top: int
    left: int
    side: int

    @property
    def centre(self) -> tuple[float, float]:
        """(row, column) of the middle, in cells: that of the first cell is (0, 0)."""
        half = (self.side - 1) / 2
        return self.top + half, self.left + half


@dataclass(frozen=True)
class Layout:
    """Where things go, and what to draw them from.

    Attributes:
        placed: every thing once, a thing that was asked for twice twice; from left to right.
        place: where the scene is.
        text: says all of it.
    """

    placed: tuple[Placed, ...]
    place: str
    text: str


def lay_out(asked: Asked, places: Sequence[str], side: int, seed: int) -> Layout | None:
    """A layout that fits what was asked; the same for the same seed.

    Args:
        asked: of a prompt that was understood whole.
        places: to choose from where the prompt names none.
        side: of the picture, in cells.
        seed: of the request.

    Returns:
        None where the things do not fit, or nothing is known of places.
    """
    things = [thing for thing in asked.things for _ in range(thing.count)]
    if not 0 < len(things) <= MOST_THINGS or not (asked.place or places):
        return None
    rng = np.random.default_rng((seed & (2**64 - 1), len(things)))
    place = asked.place or places[int(rng.integers(len(places)))]
    box = round(side * _BOX)
    for _ in range(_TRIES):
        corners = rng.integers(0, side - box + 1, size=(len(things), 2)).tolist()
        placed = [
            Placed(thing, top, left, box)
            for thing, (top, left) in zip(things, corners, strict=True)
        ]
        if _is_free(placed) and _is_as_asked(placed, asked, side):
            ordered = tuple(sorted(placed, key=lambda each: (each.left, each.top)))
            return Layout(ordered, place, describe(ordered, place, side))
    return None


def describe(placed: Sequence[Placed], place: str, side: int) -> str:
    """What is where, as pictures are described.

    >>> describe([Placed(Thing("fox", "a fox"), 0, 0, 6)], "on a beach", 16)
    'a fox at the top left, on a beach'
    """
    parts = [f"{each.thing.phrase} at the {zone_of(*each.centre, side)}" for each in placed]
    joined = " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else parts[0]
    return f"{joined}, {place}"


def zone_of(row: float, column: float, side: int) -> str:
    """The ninth of a picture that a cell is in.

    >>> zone_of(2, 8, 16), zone_of(7.5, 7.5, 16), zone_of(15, 0, 16)
    ('top', 'center', 'bottom left')
    """
    down = _third((row + 0.5) / side, ("top", "", "bottom"))
    across = _third((column + 0.5) / side, ("left", "", "right"))
    return f"{down} {across}".strip() or "center"


def stands(first: tuple[float, float], second: tuple[float, float], word: str) -> bool:
    """Whether the larger offset of two centres (row, column) is in the direction of `word`."""
    down, right = first[0] - second[0], first[1] - second[1]
    if abs(right) >= abs(down):
        return word == ("left" if right < 0 else "right")
    return word == ("above" if down < 0 else "below")


def _third(share: float, names: tuple[str, str, str]) -> str:
    return names[0] if share < _NEAR[0] else names[2] if share > _NEAR[1] else names[1]


def _is_free(placed: Sequence[Placed]) -> bool:
    """Whether no two boxes overlap."""
    return all(
        max(abs(one.top - other.top), abs(one.left - other.left)) >= one.side
        for number, one in enumerate(placed)
        for other in placed[:number]
    )


def _is_as_asked(placed: Sequence[Placed], asked: Asked, side: int) -> bool:
    zones = (each.thing.zone in (None, zone_of(*each.centre, side)) for each in placed)
    return all(zones) and all(_holds(relation, placed, asked, side) for relation in asked.relations)


def _holds(relation: Relation, placed: Sequence[Placed], asked: Asked, side: int) -> bool:
    """Whether all of the one stand clearly so to all of the other."""
    pairs = [
        (one, other)
        for one in _all_of(asked.things[relation.first], placed)
        for other in _all_of(asked.things[relation.second], placed)
    ]
    return all(_stands_clearly(one, other, relation.word, side) for one, other in pairs)


def _all_of(thing: Thing, placed: Sequence[Placed]) -> Iterator[Placed]:
    return (each for each in placed if each.thing is thing)


def _stands_clearly(one: Placed, other: Placed, word: str, side: int) -> bool:
    """Whether boxes and zones say so; a model is told no more of the places than the zones."""
    down, right = (
        _number(mine, side) - _number(others, side)
        for mine, others in zip(one.centre, other.centre, strict=True)
    )
    along, across = (right, down) if word in ("left", "right") else (down, right)
    said = abs(along) > abs(across) and (along < 0) == (word in ("left", "above"))
    return said and stands(one.centre, other.centre, word)


def _number(middle: float, side: int) -> int:
    """Which third of the picture a row or column is in, from 0."""
    share = (middle + 0.5) / side
    return int(share >= _NEAR[0]) + int(share > _NEAR[1])
