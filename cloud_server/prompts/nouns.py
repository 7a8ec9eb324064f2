"""Finds the things in a prompt, how many of them, and how they are to look.

It does not know what the things do or where they are. A word that goes on with a name makes another
thing of it: a fox terrier is no fox.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cloud_server.prompts import tables
from cloud_server.prompts.grounds import GroundFinder
from cloud_server.prompts.items import Item, Mention, UnclearError, Words
from cloud_server.prompts.lexicon import (
    Lexicon,
    function_words,
    is_noun,
    is_number,
    meanings,
    names_something,
    phrases,
)
from cloud_server.prompts.taught import Noun, TaughtWorld

_MOST_BETWEEN = 6
_AMOUNTS = meanings(tables.AMOUNTS | tables.NUMBERS)
_UNSURE = phrases(tables.UNSURE)
_SHOWS = phrases(tables.SHOWS)
_ONE = frozenset(("a", "an", "another", "one", "single", "yet"))
_LINKS = frozenset(text.split()[0] for text in tables.SWALLOWING)


@dataclass(frozen=True)
class _Amount:
    """How many are spoken of.

    Attributes:
        length: number of words.
        count: 0 where it is not said.
        sure: it is said plainly, or not at all.
        clear: all of its words were understood.
        mention: how the thing is spoken of.
    """

    length: int = 0
    count: int = 0
    sure: bool = True
    clear: bool = True
    mention: Mention = "bare"


class NounFinder:
    """Looks for the things of a world.

    Args:
        world: what the models were taught.
        grounds: finds its places.
    """

    def __init__(self, world: TaughtWorld, grounds: GroundFinder) -> None:
        self._nouns = Lexicon(world.nouns)
        self._world = world
        self._grounds = grounds

    def at(self, words: Words, place: int) -> Item | None:
        """The thing that is named there, or something else that has a name.

        Raises:
            UnclearError: it is one of the world's, and it is not plain how many of it.
        """
        amount = self._amount(words, place)
        start = place + amount.length
        found = self._noun(words, start, amount.count)
        if found is None:
            return _something_else(words, place, start)
        noun, begin, end = found
        named = " ".join(words.all[place:end])
        if any(named.endswith(other) for other in tables.NOT_OF_A_KIND):
            return Item("other", end - place, clear=False)
        if end == place + 1 and _is_verb(words, place):
            return None
        phrase, clear = _phrase(noun, words.all[start:begin])
        if not noun.plural and amount.count > 1 and begin > start:
            raise UnclearError("a two story house is one house")
        count = _count(noun, amount, words.at(place))
        return Item(
            "thing", end - place, noun.name, clear and amount.clear, phrase, count, amount.mention
        )

    def goes_on(self, words: Words, place: int) -> bool:
        """Whether the word there goes on with the name before it."""
        word = words.at(place)
        if not word or self._grounds.starts_at(words, place):
            return False
        return names_something(word)

    def noun_at(self, words: Words, place: int) -> tuple[int, Noun] | None:
        """Number of words of a thing's name, and the thing; "snow man" is a snowman."""
        if found := self._nouns.at(words, place):
            return found
        pair = (words.at(place) + words.at(place + 1),)
        split = words.at(place + 1) and pair in self._world.nouns
        return (2, self._world.nouns[pair]) if split else None

    def _noun(self, words: Words, start: int, count: int) -> tuple[Noun, int, int] | None:
        """The thing behind at most a few adjectives, and where its noun begins and ends."""
        place = start
        while place < len(words.all) and place - start <= _MOST_BETWEEN:
            found = self.noun_at(words, place)
            if found is None:
                if _ends(words.at(place)):
                    return None
                place += 1
                continue
            end = place + found[0]
            if words.at(end) == "'s" and count > 1:
                return found[1], place, end + 1
            if not self.goes_on(words, end) and not self.noun_at(words, end):
                return found[1], place, end
            following = self.noun_at(words, end)
            if following and following[1].name == found[1].name:
                raise UnclearError("the same thing again and again")
            place = end
        return None

    def _amount(self, words: Words, place: int) -> _Amount:
        word = words.at(place)
        if word in tables.POINTERS:
            more = self._amount(words, place + 1) if word != "that" else _Amount()
            more = more if more.count != 1 and more.mention == "new" else _Amount()
            return _Amount(1 + more.length, more.count, more.sure, mention="definite")
        if word in tables.OWNERS:
            return _Amount(1, 0, clear=False, mention="new")
        if word in tables.ROUGH:
            return _Amount(1 + _counted(words, place + 1).length, 0, sure=False)
        unsure = _UNSURE.length_at(words, place)
        known = _counted(words, place)
        if unsure <= known.length or self._is_taught(words, place + known.length):
            return known
        more = _counted(words, place + unsure)
        return _Amount(unsure + more.length, 0, sure=False)

    def _is_taught(self, words: Words, place: int) -> bool:
        """Whether a name like "bunch of grapes" stands there."""
        found = self._nouns.at(words, place)
        return found is not None and "of" in words.all[place : place + found[0]]


def _counted(words: Words, place: int) -> _Amount:
    word = words.at(place)
    if is_number(word):
        count = int(word) if word.isdecimal() and len(word) < 4 else 0
        return _Amount(1, count, 0 < count <= tables.MOST, mention="new")
    found = _AMOUNTS.at(words, place)
    return _Amount(found[0], found[1], mention="new") if found else _Amount()


def _ends(word: str) -> bool:
    """Whether no name can go on with this word."""
    return not word or word in function_words() or word in _LINKS or is_number(word)


def _is_verb(words: Words, place: int) -> bool:
    return words.at(place) in tables.NEVER_VERBS and words.at(place - 1) in tables.IS


def _something_else(words: Words, place: int, start: int) -> Item | None:
    """Something with a name that the world does not have, or a picture; None if none is there."""
    end = start
    while not _ends(words.at(end)) and end - start <= _MOST_BETWEEN:
        end += 1
        if words.at(end - 1) in tables.PICTURES | tables.STYLES and _SHOWS.at(words, end):
            return Item("noise", end + _SHOWS.length_at(words, end) - place, clear=False)
    named = any(is_noun(word) for word in words.all[start:end])
    if end == start or not (named or start > place):
        return None
    return Item("other", end - place, clear=False)


def _phrase(noun: Noun, before: Sequence[str]) -> tuple[str, bool]:
    """The taught phrase that says most of these adjectives, and whether it says all of them."""
    said = frozenset(before)
    known = [adjectives for adjectives in noun.phrases if adjectives <= said]
    best = max(known, key=len)
    return noun.phrases[best], best == said


def _count(noun: Noun, amount: _Amount, first: str) -> int:
    """How many of a thing, 0 where a definite plural does not say.

    Raises:
        UnclearError: it is not plain.
    """
    if noun.bunch and amount.count <= 1 and (amount.sure or first == "some"):
        return 1
    if not amount.sure or noun.bunch:
        raise UnclearError("so many of it is no number")
    if not noun.plural:
        return amount.count or 1
    unsaid = not amount.count and amount.mention != "definite"
    if unsaid or (amount.count == 1 and first in _ONE):
        raise UnclearError("one of several, or several of no number")
    return amount.count
