"""What the words of a prompt are, one by one: things, places in the picture, what joins them.

It does not know how they are found, nor what they say together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "thing", "other", "it", "relation", "zone", "place", "time", "and", "near", "with", "comma",
    "stop", "which", "noise", "silent", "swallow",
]  # fmt: skip
"""`other` is something that cannot be drawn, `noise` is not understood, `silent` says nothing, and
`swallow` is not understood and speaks of the thing behind it as of something else."""
Mention = Literal["new", "definite", "bare"]


class UnclearError(Exception):
    """A prompt does not say plainly what, or how many, it asks for."""


@dataclass(frozen=True)
class Item:
    """Some words of a prompt.

    Attributes:
        kind: what they are.
        length: how many words.
        word: name of a thing, a zone, a relation, or a time of day.
        clear: they were all understood.
        phrase: how the models were taught to say the thing.
        count: how many of it; 0 where a definite plural does not say.
        mention: how the thing is spoken of.
        bound: a relation to something that was spoken of before.
        ground: a place's number in the world.
    """

    kind: Kind
    length: int
    word: str = ""
    clear: bool = True
    phrase: str = ""
    count: int = 1
    mention: Mention = "new"
    bound: bool = False
    ground: int = -1


@dataclass(frozen=True)
class Words:
    """The words of a prompt, with marks as words of their own."""

    all: tuple[str, ...]

    def at(self, place: int) -> str:
        """The word there, or nothing."""
        return self.all[place] if 0 <= place < len(self.all) else ""

    def says(self, place: int, said: str | tuple[str, ...]) -> int:
        """The number of words of `said` if it stands there, and 0 otherwise."""
        words = tuple(said.split()) if isinstance(said, str) else said
        return len(words) if self.all[place : place + len(words)] == words else 0
