"""Mends a window that was just filled: paints out what is too much, paints in what lacks.

It does not know requests, canvases, or how many windows a picture has::

    whole picture  look for every thing ─► as asked? ─► done
                     │ all but what stays is painted as an empty scene
                     │ what lacks is painted into its box, or where there is room
                     └─ look again, so many rounds at most
    a hole         look for every thing ─► one of them in the hole, none lacking? ─► done
                     └─ paint the hole anew, told which thing and where, so many rounds at most
    an extension   look for what the picture has already ─► none again in what is new? ─► done
                     └─ paint those out, so many rounds at most
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cloud_server.generation.masked_decoding import NoiseSource
from cloud_server.generation.mending.findings import Findings, Flags, compare
from cloud_server.generation.mending.layout import Layout, Placed, zone_of
from cloud_server.generation.mending.looking import Onlooker, Seen
from cloud_server.generation.mending.wording import Wording
from cloud_server.generation.painting import Brush, Painter, unknown_where
from cloud_server.prompts.asked import Asked, Thing

EMPTY_STEPS = 6
"""Steps that paint out what has to go; the scene behind is even."""
THING_STEPS = 8
THING_GUIDANCE = 1.0
ROUND_STEPS = EMPTY_STEPS + THING_STEPS
_BOX = 7
"""Cells a side that a thing is painted into: its own six, and one for where it stands."""
_SEED_STEP = 0xC2B2AE3D
"""Between the seeds of a window's rounds; odd, so that 2**32 rounds differ."""
_FEW = 0.5
"""Share of a box that must be free to be painted."""

_LEAST_HOLE = 9
"""Cells of a hole in which a thing can be told."""
_SEPARATED = re.compile(r", | and ")

Codes = NDArray[np.int64]
Tick = Callable[[int], None]


@dataclass(frozen=True, eq=False)
class Draft:
    """A filled window and what it should show.

    Attributes:
        codes: (side, side).
        wanted: (side, side) bool: what may be painted over.
        asked: what the prompt asks for.
        layout: where things were meant to be, if they were.
        brush: what the window was painted with.
        seed: of the window.
        rounds: at most so many.
        steps: that the window was filled in.
    """

    codes: Codes
    wanted: Flags
    asked: Asked
    layout: Layout | None
    brush: Brush
    seed: int
    rounds: int
    steps: int = THING_STEPS


class Mender:
    """Mends windows.

    Args:
        painter: paints.
        onlooker: looks.
        wording: says what to paint.
        noise: a source of random draws for seeds.
    """

    def __init__(
        self,
        painter: Painter,
        onlooker: Onlooker,
        wording: Wording,
        noise: Callable[[Sequence[int]], NoiseSource],
    ) -> None:
        self._painter, self._onlooker = painter, onlooker
        self._wording, self._noise = wording, noise

    def mend(self, draft: Draft, tick: Tick) -> Codes:
        """The window with what was asked for, each thing once, as far as that can be had.

        Args:
            draft: the window.
            tick: called with the number of steps that were made, after each round.

        Returns:
            (side, side) codes; equal drafts give equal ones.
        """
        codes = draft.codes
        for number in range(draft.rounds):
            findings = self.look(codes, draft)
            if findings.is_right and not self._has_strays(codes, draft, findings):
                break
            codes = self._round(codes, draft, findings, _seed_of(draft.seed, number))
            tick(ROUND_STEPS)
        return codes

    def fill_hole(self, draft: Draft, tick: Tick) -> Codes:
        """The window with one of the things that were asked for in its hole, and none lacking.

        The last try is returned if none succeeds; a hole that is too small for a thing is left as
        it is.
        """
        codes = draft.codes
        if draft.wanted.sum() < _LEAST_HOLE:
            return codes
        for number in range(draft.rounds):
            wanted = self._lacking_in_hole(codes, draft)
            if wanted is None:
                break
            brush = self._thing(wanted, draft.wanted, draft.asked.place, draft)
            seed = _seed_of(draft.seed, number)
            codes = self._paint(draft.codes, draft.wanted, brush, draft.steps, seed)
            tick(draft.steps)
        return codes

    def _lacking_in_hole(self, codes: Codes, draft: Draft) -> Thing | None:
        """The thing to paint into the hole; None where all is well."""
        found = [self._onlooker.find(codes, thing.phrase) for thing in draft.asked.things]
        for thing, copies in zip(draft.asked.things, found, strict=True):
            if len(copies) < thing.count:
                return thing
        inside = [[seen for seen in copies if _is_in(draft.wanted, seen)] for copies in found]
        if not any(inside):
            return draft.asked.things[0]
        crowded = (
            thing
            for thing, copies in zip(draft.asked.things, inside, strict=True)
            if len(copies) > thing.count
        )
        return next(crowded, None)

    def names(self, codes: Codes) -> tuple[str, ...]:
        """Phrases of the things that the model sees in a whole window."""
        said = self._onlooker.answer(codes, self._wording.which)
        return tuple(dict.fromkeys(part for part in _SEPARATED.split(said) if part))

    def without_repeats(self, draft: Draft, known: Sequence[str], tick: Tick) -> Codes:
        """The window without copies, where it is new, of what the picture has already.

        Args:
            draft: the window; of its things so many copies are right as were asked for.
            known: phrases of what is in the rest of the picture.
            tick: see `mend`.
        """
        codes = draft.codes
        for number in range(draft.rounds):
            stays, goes = self._sorted_out(codes, draft, known)
            if not goes:
                break
            cells = draft.wanted & Findings({0: goes}, stays, ()).kept_cells(len(codes))
            seed = _seed_of(draft.seed, number)
            codes = self._paint(codes, cells, self._empty(codes, draft), EMPTY_STEPS, seed)
            tick(EMPTY_STEPS)
        return codes

    def _sorted_out(
        self, codes: Codes, draft: Draft, known: Sequence[str]
    ) -> tuple[list[Seen], list[Seen]]:
        """What stays and what goes of the things that are seen in a window."""
        counts = {thing.phrase: thing.count for thing in draft.asked.things}
        stays: list[Seen] = []
        goes: list[Seen] = []
        for phrase in dict.fromkeys([*known, *counts]):
            found = self._onlooker.find(codes, phrase)
            new = [seen for seen in found if _is_in(draft.wanted, seen)]
            elsewhere = max(len(found) - len(new), int(phrase in known))
            room = max(0, counts.get(phrase, 0) - elsewhere)
            stays += [seen for seen in found if not any(seen is each for each in new[room:])]
            goes += new[room:]
        return stays, goes

    def look(self, codes: Codes, draft: Draft) -> Findings:
        """What is in the window, against what was asked for."""
        found = {
            number: self._onlooker.find(codes, thing.phrase)
            for number, thing in enumerate(draft.asked.things)
        }
        return compare(found, draft.asked, draft.layout, len(codes))

    def _has_strays(self, codes: Codes, draft: Draft, findings: Findings) -> bool:
        """Whether the model counts more than was asked for."""
        if not draft.asked.complete or not draft.wanted.all():
            return False
        said = self._onlooker.answer(codes, self._wording.how_many)
        return said.isdecimal() and int(said) > sum(len(some) for some in findings.kept.values())

    def _round(self, codes: Codes, draft: Draft, findings: Findings, seed: int) -> Codes:
        side = len(codes)
        stays = findings.kept_cells(side)
        place = _place(draft)
        codes = self._paint(
            codes, draft.wanted & ~stays, self._empty(codes, draft), EMPTY_STEPS, seed
        )
        for number in findings.missing:
            box = self._box_for(draft, number, stays)
            if box is not None:
                thing = draft.asked.things[number]
                brush = self._thing(thing, box, place, draft)
                codes = self._paint(
                    codes, box & draft.wanted, brush, THING_STEPS, seed + number + 1
                )
                stays = stays | box
        return codes

    def _paint(self, codes: Codes, cells: Flags, brush: Brush, steps: int, seed: int) -> Codes:
        if not cells.any():
            return codes
        row = torch.from_numpy(codes.reshape(1, -1))
        filled = self._painter.fill(
            unknown_where(row, cells), [brush], steps, self._noise([seed % (1 << 64)])
        )
        return filled.numpy().reshape(codes.shape)

    def _empty(self, codes: Codes, draft: Draft) -> Brush:
        """What paints a thing out: the scene behind it alone, without guidance."""
        place = _place(draft)
        if place is None:
            said = self._onlooker.answer(codes, self._wording.behind)
            return Brush(self._wording.prompt(said), 0.0)
        return Brush(self._wording.empty(place), 0.0)

    def _thing(self, thing: Thing, box: Flags, place: str | None, draft: Draft) -> Brush:
        """What paints a thing into a box."""
        if place is None:
            return draft.brush
        row, column = np.argwhere(box).mean(0)
        zone = zone_of(float(row), float(column), len(box))
        text = f"{thing.phrase} at the {zone}, {place}"
        away = draft.brush.negative_ids
        return Brush(self._wording.prompt(text), THING_GUIDANCE, negative_ids=away)

    def _box_for(self, draft: Draft, number: int, stays: Flags) -> Flags | None:
        """Where a thing that lacks goes: where it was meant to be, else where there is room."""
        side, thing = len(stays), draft.asked.things[number]
        free = draft.wanted & ~stays
        boxes = [_box(side, *each.centre) for each in _meant(draft.layout, thing)]
        boxes += [
            _box(side, float(row), float(column))
            for row in range(_BOX // 2, side - _BOX // 2)
            for column in range(_BOX // 2, side - _BOX // 2)
            if thing.zone in (None, zone_of(row, column, side))
        ]
        room = [float((box & free).sum()) / _BOX**2 for box in boxes]
        best = int(np.argmax(room)) if room else -1
        return boxes[best] if room and room[best] > _FEW else None


def _place(draft: Draft) -> str | None:
    """Where the scene is, as far as anybody said it."""
    return draft.asked.place if draft.layout is None else draft.layout.place


def _is_in(flags: Flags, seen: Seen) -> bool:
    """Whether the middle of a thing lies in a part of the window."""
    return bool(flags[round(seen.row), round(seen.column)])


def _meant(layout: Layout | None, thing: Thing) -> list[Placed]:
    return [] if layout is None else [each for each in layout.placed if each.thing == thing]


def _box(side: int, row: float, column: float) -> Flags:
    """(side, side) bool: a box around a cell, inside the window."""
    flags = np.zeros((side, side), dtype=bool)
    top, left = (
        min(max(0, round(middle - (_BOX - 1) / 2)), max(0, side - _BOX)) for middle in (row, column)
    )
    flags[top : top + _BOX, left : left + _BOX] = True
    return flags


def _seed_of(seed: int, number: int) -> int:
    return (seed + (number + 1) * _SEED_STEP) % (1 << 64)
