"""Phrases to what they mean, found by the longest that stands at a place in a prompt.

It does not know what the phrases are; `tables` holds them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from typing import Final, Generic, TypeVar

from cloud_server.prompts import tables
from cloud_server.prompts.items import Words
from shared_protocol.words.everyday import ADJECTIVES
from shared_protocol.words.known import KnownWords

Meaning = TypeVar("Meaning")

_EVERYDAY: Final = KnownWords(())
_VERB_ENDS: Final = ("s", "ing", "ed", "ly", "en")


class Lexicon(Generic[Meaning]):
    """A table of phrases.

    Args:
        phrases: each to its meaning.
    """

    def __init__(self, phrases: Mapping[tuple[str, ...], Meaning]) -> None:
        self._phrases = phrases
        self._longest = max((len(words) for words in phrases), default=0)

    def at(self, words: Words, place: int) -> tuple[int, Meaning] | None:
        """Length and meaning of the longest phrase that stands there."""
        for length in range(min(self._longest, len(words.all) - place), 0, -1):
            found = self._phrases.get(words.all[place : place + length])
            if found is not None:
                return length, found
        return None

    def length_at(self, words: Words, place: int) -> int:
        """Only the length; 0 where none stands."""
        found = self.at(words, place)
        return found[0] if found else 0


def phrases(*rows: Iterable[str]) -> Lexicon[str]:
    """A lexicon of texts that mean themselves."""
    return Lexicon({tuple(text.split()): text for row in rows for text in row})


def meanings(table: Mapping[str, Meaning]) -> Lexicon[Meaning]:
    """A lexicon of texts and their meanings."""
    return Lexicon({tuple(text.split()): meaning for text, meaning in table.items()})


def is_number(word: str) -> bool:
    """Whether it is a number in digits."""
    return word.isascii() and word[:1].isdecimal()


@cache
def function_words() -> frozenset[str]:
    """Words that no name of a thing holds: one that follows such a name does not go on with it."""
    rows = (
        tables.TIGHT, tables.NEAR, tables.WITH, tables.STOPS, tables.COMMAS, tables.WHICH,
        *tables.RELATIONS.values(), *tables.DANGLING.values(), tables.AMOUNTS, tables.UNSURE,
        tables.NUMBERS,
    )  # fmt: skip
    first = {text.split()[0] for row in rows for text in row}
    sets = (
        tables.SILENT, tables.POINTERS, tables.OWNERS, tables.ROUGH, tables.BEING, tables.EXACTLY,
        tables.PRONOUNS, tables.DOWN, tables.ACROSS, tables.MIDDLE, tables.CENTERED,
        tables.OTHER_FUNCTION_WORDS,
    )  # fmt: skip
    extra = {"just", "only", "simply", "also", "too", "then", "please", "together", "side", "each",
             "there", "here"}  # fmt: skip
    links = {text.split()[0] for text in tables.SWALLOWING} - {"of"}
    return frozenset(first.union(extra, links, *sets))


def names_something(word: str) -> bool:
    """Whether a word is none that everybody knows, and so may go on with the name of a thing."""
    if word in function_words() or is_number(word):
        return False
    if word in tables.NO_VERBS:
        return True
    everyday = _is_everyday(word)
    if word.endswith("ing") and len(word) > 5:
        return False
    return not (everyday and (word in ADJECTIVES or word.endswith(_VERB_ENDS)))


def is_noun(word: str) -> bool:
    """Whether it names something beyond everyday words."""
    return word not in function_words() and not _is_everyday(word)


@lru_cache(maxsize=4096)
def _everyday_letters(word: str) -> bool:
    return not _EVERYDAY.unknown(word)


def _is_everyday(word: str) -> bool:
    # Longer than any word of a table: not worth remembering, and nobody's everyday word.
    return len(word) <= 24 and _everyday_letters(word)
