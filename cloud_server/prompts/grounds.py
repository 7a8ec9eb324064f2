"""Finds the places and the times of day in a prompt.

It does not know things; whether a word goes on with a name is asked of who does.
"""

from __future__ import annotations

from collections.abc import Callable

from cloud_server.prompts import tables
from cloud_server.prompts.items import Item, Words
from cloud_server.prompts.lexicon import Lexicon, function_words, meanings, phrases
from cloud_server.prompts.taught import TaughtWorld
from shared_protocol.words.everyday import ADJECTIVES

_MOST_BETWEEN = 4
_BEFORES = phrases(tables.SURFACE, tables.SIDEWAYS, tables.FRONT)


class GroundFinder:
    """Looks for the places of a world.

    Args:
        world: what the models were taught.
    """

    def __init__(self, world: TaughtWorld) -> None:
        self._places = Lexicon(world.places)
        self._befores = world.befores
        times = {time: time for time in world.times}
        same = {said: time for said, time in tables.SAME_TIME.items() if time in world.times}
        self._times = meanings(times | same)

    def place_at(self, words: Words, place: int, goes_on: Callable[[int], bool]) -> Item | None:
        """The place that is named there, with its preposition if there is one.

        Args:
            words: the prompt.
            place: where in it to look.
            goes_on: whether the word there goes on with a name, as in "beach umbrella".
        """
        before = _BEFORES.at(words, place)
        if before:
            found = self._named(words, place + before[0], before[1], goes_on)
            return _longer(found, before[0]) if found else None
        return self._named(words, place, "", goes_on)

    def time_at(self, words: Words, place: int, goes_on: Callable[[int], bool]) -> Item | None:
        """The time of day that is named there."""
        start = place + (words.at(place) in tables.TIME_BEFORE)
        start += words.at(start) in tables.ARTICLES
        found = self._times.at(words, start)
        if not found or goes_on(start + found[0]):
            return None
        return Item("time", start + found[0] - place, found[1])

    def starts_at(self, words: Words, place: int) -> bool:
        """Whether a place or a time is named there in so many words."""
        return bool(self._places.at(words, place) or self._times.at(words, place))

    def _named(
        self, words: Words, place: int, before: str, goes_on: Callable[[int], bool]
    ) -> Item | None:
        start = place + (words.at(place) in tables.ARTICLES)
        clear, time = True, ""
        for _ in range(_MOST_BETWEEN):
            if found := self._places.at(words, start):
                end = start + found[0]
                fits = self._may_stand(words.all[start:end], before)
                end += words.at(end) in tables.SCENERY
                if not fits or goes_on(end):
                    return None
                return Item("place", end - place, time, clear, ground=found[1])
            if said := self._times.at(words, start):
                time, start = said[1], start + said[0]
            elif words.at(start) in ADJECTIVES and words.at(start) not in function_words():
                clear, start = False, start + 1
            else:
                return None
        return None

    def _may_stand(self, named: tuple[str, ...], before: str) -> bool:
        """Whether a preposition, or none, stands before these words for a place."""
        return (before or tables.SURFACE[0]) in self._befores[named]


def _longer(item: Item, more: int) -> Item:
    return Item(item.kind, item.length + more, item.word, item.clear, ground=item.ground)
