"""What a conversation cost, turn by turn: payload and every byte of the link, both ways.

It does not measure anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from edge_client.client import Interaction
from edge_client.report import table
from shared_protocol.message.anatomy import PartBytes


@dataclass(frozen=True)
class TurnCost:
    """One turn.

    Args:
        what: the task, in a word.
        payload_up, payload_down: bytes of the turn and of its reply.
        wire_up, wire_down: bytes of the link, what frames it and repeated attempts included, the
            opening of links and progress left out.
        progress: bytes of progress and previews, all of them down.
        opening_up, opening_down: bytes of opening a link, if the turn had to.
        seconds: from the question to the answer.
        text_read, image_read: tokens that the model was given.
        text_made, image_made: tokens that it made.
        image_sent: tokens of the picture that travelled for it; none where the cloud had them.
        parts_up, parts_down: what the payload is made of.
    """

    what: str
    payload_up: int
    payload_down: int
    wire_up: int
    wire_down: int
    progress: int = 0
    opening_up: int = 0
    opening_down: int = 0
    seconds: float = 0.0
    text_read: int = 0
    image_read: int = 0
    text_made: int = 0
    image_made: int = 0
    image_sent: int = 0
    parts_up: PartBytes = field(default_factory=PartBytes)
    parts_down: PartBytes = field(default_factory=PartBytes)

    @classmethod
    def of(cls, done: Interaction) -> TurnCost:
        """The cost of an interaction."""
        wire, opening = done.wire, done.opening
        return cls(
            done.task.slug,
            done.uplink.sizes.total,
            done.downlink.sizes.total,
            wire.sent - opening.sent,
            wire.received - opening.received - done.progress,
            done.progress,
            opening.sent,
            opening.received,
            sum(done.milliseconds.values()) / 1000.0,
            *_read_and_made(done),
            0 if done.uplink.counts is None else done.uplink.counts.image_codes,
            done.uplink.sizes,
            done.downlink.sizes,
        )

    @property
    def all_up(self) -> int:
        """Every byte that went up."""
        return self.wire_up + self.opening_up

    @property
    def all_down(self) -> int:
        """Every byte that came down."""
        return self.wire_down + self.progress + self.opening_down

    def __str__(self) -> str:
        wire = f"{self.all_up}/{self.all_down} on the wire"
        return f"{self.payload_up}/{self.payload_down} bytes, {wire}"


NUMBERS = tuple(
    name for name in TurnCost.__dataclass_fields__ if name not in ("what", "parts_up", "parts_down")
)
"""Fields that add up, and that a kept conversation keeps."""


@dataclass(frozen=True)
class Cost:
    """A conversation; `print(cost)` is a table.

    Args:
        turns: in order.
        way: what carries them, in a word.
    """

    turns: tuple[TurnCost, ...]
    way: str

    @property
    def total(self) -> TurnCost:
        """The sum of all turns."""
        return _sum("all", self.turns)

    def __str__(self) -> str:
        heading = ["turn", "", "payload up", "down", "wire up", "down", "progress", "opening", "s"]
        rows = [_row(str(number), turn) for number, turn in enumerate(self.turns, 1)]
        rows.append(_row("all", _sum("", self.turns)))
        return table(heading, rows, left=2) + f"\nover {self.way}"


def _read_and_made(done: Interaction) -> tuple[int, int, int, int]:
    """Tokens of text and picture that went into the model, and that came out of it."""
    request, response = done.request, done.response
    words = len(request.text) + (0 if request.negative is None else len(request.negative))
    known = 0 if request.image is None else int(request.image.codes.size)
    if request.mask is not None:
        known -= request.mask.count
    answer = 0 if response.text is None else len(response.text)
    made = 0
    if response.image is not None:
        made = int(response.image.codes.size) - known
    return words, known, answer, made


def _row(number: str, turn: TurnCost) -> list[str]:
    opening = f"{turn.opening_up}/{turn.opening_down}" if turn.opening_up else ""
    sizes = (turn.payload_up, turn.payload_down, turn.wire_up, turn.wire_down)
    progress = str(turn.progress) if turn.progress else ""
    return [number, turn.what, *map(str, sizes), progress, opening, f"{turn.seconds:.2f}"]


def _sum(what: str, turns: Sequence[TurnCost]) -> TurnCost:
    sums: dict[str, Any] = {name: sum(getattr(turn, name) for turn in turns) for name in NUMBERS}
    return TurnCost(what, **sums)
