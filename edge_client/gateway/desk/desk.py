"""The rounds of a person at the page: pictures that were opened or made, each with what it came of.

It does not know how they are made. A round never changes: to go back is to go on from an earlier
one, and two that go on from the same are branches.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edge_client.gateway.refused import RefusedError
from edge_client.gateway.work.session_pool import Seat
from edge_client.pictures.sources import Source
from edge_client.session.cost import TurnCost

MOST_ROUNDS = 100
MOST_TURNS = 400
MOST_PIXELS = 48_000_000
"""Of all photos that are kept in full size."""


@dataclass(eq=False)
class Round:
    """A picture.

    Args:
        name: under which it can be asked for.
        before: the round that it was made from; None for one that was opened or drawn anew.
        task: "open", "t2i", "inpaint" or "outpaint".
        text: its prompt, or the name of its file.
        source: the picture with its tokens.
        sizes: bytes of it in pixel formats, at the size that the model sees.
        warnings: what the user should know.
        seat: the session that has its tokens; None = nobody yet.
        options: what it was made with.
        views: what was shown of it, by size.
    """

    name: str
    before: str | None
    task: str
    text: str
    source: Source
    sizes: Mapping[str, int | None]
    warnings: tuple[str, ...] = ()
    seat: Seat | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    views: dict[int, tuple[bytes, str]] = field(default_factory=dict, repr=False)
    created: float = field(default_factory=time.time)


@dataclass(frozen=True)
class TurnTaken:
    """A turn that was answered.

    Args:
        number: from 1.
        task: "t2i", "inpaint", "outpaint" or "vqa".
        text: prompt or question.
        about: the round that it was about.
        made: the round that it made; None for an answer.
        answer: in words; None for a picture.
        cost: in bytes.
        pictures: what its pictures would have cost in pixel formats, (up, down) by format.
        warnings: what the user should know.
    """

    number: int
    task: str
    text: str
    about: str | None
    made: str | None
    answer: str | None
    cost: TurnCost
    pictures: Mapping[str, tuple[int, int] | None]
    warnings: tuple[str, ...] = ()


class Desk:
    """Keeps rounds and turns, the last ones; safe to use from several threads."""

    def __init__(self) -> None:
        self._rounds: dict[str, Round] = {}
        self._turns: list[TurnTaken] = []
        self._count = 0
        self._sent: set[str] = set()
        self._lock = threading.Lock()

    def round(self, name: str) -> Round:
        """The round of this name.

        Raises:
            RefusedError: it is not kept.
        """
        with self._lock:
            found = self._rounds.get(name)
        if found is None:
            raise RefusedError(
                "this round is not kept any more: open the picture again", "round", "not_found", 404
            )
        return found

    @property
    def rounds(self) -> list[Round]:
        """All that are kept, in the order in which they were made."""
        with self._lock:
            return list(self._rounds.values())

    @property
    def turns(self) -> list[TurnTaken]:
        """All that are kept, in order."""
        with self._lock:
            return list(self._turns)

    def add(self, made: Round) -> Round:
        """Keep a round; of too many, the oldest go."""
        with self._lock:
            self._rounds[made.name] = made
            while len(self._rounds) > MOST_ROUNDS or self._pixels() > MOST_PIXELS:
                oldest = next(iter(self._rounds))
                if oldest == made.name:
                    break
                del self._rounds[oldest]
        return made

    def note(  # noqa: PLR0913 - all that is said of a turn
        self,
        task: str,
        text: str,
        about: Round | None,
        made: Round | None,
        cost: TurnCost,
        warnings: tuple[str, ...] = (),
        answer: str | None = None,
    ) -> TurnTaken:
        """Keep a turn.

        Each picture is counted once in pixel formats, too: up before the first turn about one
        that was opened, down where one is made.
        """
        with self._lock:
            first = about is not None and about.task == "open" and about.name not in self._sent
            if about is not None:
                self._sent.add(about.name)
            self._count += 1
            turn = TurnTaken(
                self._count,
                task,
                text,
                None if about is None else about.name,
                None if made is None else made.name,
                answer,
                cost,
                _pictures(about if first else None, made),
                warnings,
            )
            self._turns = [*self._turns, turn][-MOST_TURNS:]
        return turn

    def clear(self) -> None:
        """Let go of everything."""
        with self._lock:
            self._rounds.clear()
            self._turns.clear()
            self._sent.clear()
            self._count = 0

    def _pixels(self) -> int:
        """Pixels of the photos, each counted once."""
        photos = {id(r.source.base): r.source.base for r in self._rounds.values()}
        return sum(p.image.width * p.image.height for p in photos.values() if p is not None)


def new_name() -> str:
    """A name for a round, which nobody can guess."""
    return f"round_{secrets.token_hex(12)}"


def _pictures(sent: Round | None, made: Round | None) -> dict[str, tuple[int, int] | None]:
    names = dict.fromkeys(name for each in (sent, made) if each is not None for name in each.sizes)
    found: dict[str, tuple[int, int] | None] = {}
    for name in names:
        up, down = (0 if each is None else each.sizes[name] for each in (sent, made))
        found[name] = None if up is None or down is None else (up, down)
    return found
