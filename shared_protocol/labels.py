"""Labels of a picture as values: which set of names, the likeliest of it, and how likely in 6 bits.

It does not know bytes, nor who looks at a picture; importing it is cheap. A probability travels as
a level from 0 to 63, p = sin^2(pi * level / 126): finer steps where it is near 0 or 1, where a
point counts more. The level rises with the probability, so that order is kept, and the error is at
most 1.25 points (of 100), 0.36 below 2 % and above 98 %.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from shared_protocol.errors import InvalidInputError

MAX_LABELS = 1 << 16
"""Most names of a set."""
MAX_NAME = 200
"""Longest name, in characters."""
MAX_TOP, USUAL_TOP = 255, 5
"""Labels of one reply: the most, and how many unless a request says so."""
LEVELS = 64
_HALF_TURN = math.pi / (2 * (LEVELS - 1))


@dataclass(frozen=True)
class LabelSet:
    """Which names the numbers of labels stand for.

    Args:
        fingerprint: SHA-256 of the names, 32 bytes.
        count: of the names, 1..MAX_LABELS.
    """

    fingerprint: bytes
    count: int

    @classmethod
    def of(cls, names: Sequence[str]) -> LabelSet:
        """The set of these names, in order.

        Raises:
            InvalidInputError: too few or too many of them, one that is empty or too long, or twice.
        """
        if not 1 <= len(names) <= MAX_LABELS:
            raise InvalidInputError(f"a set of {len(names)} labels", f"use 1..{MAX_LABELS}")
        wrong = next((name for name in names if not 1 <= len(name) <= MAX_NAME), None)
        if wrong is not None:
            raise InvalidInputError(
                f"a label of {len(wrong)} characters", f"labels have 1..{MAX_NAME}"
            )
        if len(set(names)) != len(names):
            raise InvalidInputError("a label is there twice", "give each another name")
        digest = hashlib.sha256(len(names).to_bytes(4, "big"))
        for name in names:
            data = name.encode("utf-8", "replace")
            digest.update(len(data).to_bytes(4, "big") + data)
        return cls(digest.digest(), len(names))


@dataclass(frozen=True)
class LabelWish:
    """What both ends know of a row of labels before it comes.

    Args:
        most: how many labels are asked for.
        names: whether the row says the names, and of which set they are.
        held: the set whose names the receiver has; None = of none, or nobody's business.
    """

    most: int
    names: bool = False
    held: LabelSet | None = None


@dataclass(frozen=True)
class Ranking:
    """The likeliest labels of a picture, the likeliest first.

    Args:
        of: which names their numbers stand for.
        numbers: of the labels, each below `of.count`, none twice.
        levels: how likely each is, 0..63, see `probability_of`; none above the one before.
        names: of the labels; none where they did not travel.

    Raises:
        InvalidInputError: something of that does not hold.
    """

    of: LabelSet
    numbers: tuple[int, ...]
    levels: tuple[int, ...]
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        size = len(self.numbers)
        if len(self.levels) != size or len(self.names) not in (0, size) or not size:
            raise InvalidInputError(f"{size} labels with {len(self.levels)} probabilities")
        if len(set(self.numbers)) != size:
            raise InvalidInputError("a label is named twice")
        if not all(0 <= number < self.of.count for number in self.numbers):
            raise InvalidInputError(f"a label is outside 0..{self.of.count - 1}")
        if not all(0 <= level < LEVELS for level in self.levels):
            raise InvalidInputError(f"the level of a label is outside 0..{LEVELS - 1}")
        if list(self.levels) != sorted(self.levels, reverse=True):
            raise InvalidInputError("labels do not stand in the order of their probabilities")

    def told(self, wish: LabelWish) -> Ranking:
        """As it travels to whoever has this wish.

        Raises:
            InvalidInputError: it holds another number of labels, or lacks names that are wanted.
        """
        most = min(wish.most, self.of.count)
        if len(self.numbers) != most:
            raise InvalidInputError(f"{len(self.numbers)} labels answer a wish for {most}")
        if wish.names and not self.names:
            raise InvalidInputError("the names of labels are wanted, and there are none")
        return self if wish.names else replace(self, names=())

    @property
    def probabilities(self) -> tuple[float, ...]:
        """0..1, as far as six bits say."""
        return tuple(map(probability_of, self.levels))


def level_of(probability: float) -> int:
    """The level of a probability from 0 to 1.

    >>> [level_of(p) for p in (0.0, 0.01, 0.5, 0.93, 1.0)]
    [0, 4, 32, 52, 63]
    """
    return round(math.asin(math.sqrt(min(1.0, max(0.0, probability)))) / _HALF_TURN)


def probability_of(level: int) -> float:
    """What a level stands for; the mirror of `level_of`.

    >>> [round(probability_of(level), 3) for level in (0, 4, 32, 63)]
    [0.0, 0.01, 0.512, 1.0]
    """
    return math.sin(level * _HALF_TURN) ** 2
