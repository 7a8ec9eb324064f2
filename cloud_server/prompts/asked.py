"""What a prompt asks for, once it is read.

It does not know how prompts are read, nor who draws.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Zone = str
"""A ninth of the picture: `top left`, `top`, `top right`, `left`, `center`, ... `bottom right`."""
Side = Literal["left", "right", "above", "below"]


@dataclass(frozen=True)
class Thing:
    """Something to draw.

    Attributes:
        name: what the world calls it, such as "balloon".
        phrase: with its article and as near to what was said as the models were taught, such as
            "a red balloon"; it speaks of one also where several are asked for.
        count: how many of it.
        zone: where the prompt wants it; None where it does not say.
    """

    name: str
    phrase: str
    count: int = 1
    zone: Zone | None = None


@dataclass(frozen=True)
class Relation:
    """The thing of index `first` is `word` of the thing of index `second`."""

    first: int
    word: Side
    second: int


@dataclass(frozen=True)
class Asked:
    """All that a prompt asks for.

    Attributes:
        things: in the order in which they were named.
        relations: only those that are beyond doubt.
        place: its canonical words, such as "on a beach at night"; None where none was said.
        complete: every word was understood, so that other words made from this lose nothing.
    """

    things: tuple[Thing, ...]
    relations: tuple[Relation, ...] = ()
    place: str | None = None
    complete: bool = False
