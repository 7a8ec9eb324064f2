"""Turns a prompt into items, from its first word to its last.

It does not know what the items say together. At each place the longest that fits is taken.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from cloud_server.prompts import tables
from cloud_server.prompts.grounds import GroundFinder
from cloud_server.prompts.items import Item, Kind, UnclearError, Words
from cloud_server.prompts.lexicon import Lexicon, phrases
from cloud_server.prompts.nouns import NounFinder
from cloud_server.prompts.spots import relation_at, zone_at
from cloud_server.prompts.taught import TaughtWorld

_WORD = re.compile(r"'s\b|\d+(?:[.,]\d+)+|[^\W_]+(?:-[^\W_]+)*(?:'(?!s\b)[^\W_]+)*|[^\w\s]|_")
_ORDERS = phrases(tables.ORDERS)
_SHOWS = phrases(tables.SHOWS)
_LISTED = phrases(tables.LISTED)
_SWALLOWING = phrases(tables.SWALLOWING)
_NOT_SHOWN = phrases(tables.NOT_SHOWN)
_PARTS = tables.SPLIT_AT_HYPHENS
_WHOLE = frozenset(("night-time", "day-time", "day-light", "close-up"))
_SIDE_ENDS = phrases(tables.SIDE_ENDS)


def _joins() -> Lexicon[Kind]:
    rows: tuple[tuple[Kind, tuple[str, ...]], ...] = (
        ("and", tables.TIGHT), ("near", tables.NEAR), ("with", tables.WITH),
        ("stop", tables.STOPS), ("comma", tables.COMMAS), ("which", tables.WHICH),
    )  # fmt: skip
    known: dict[tuple[str, ...], Kind] = {}
    for kind, row in rows:
        known |= {tuple(text.split()): kind for text in row}
    return Lexicon(known)


_JOINS = _joins()


def words_of(text: str) -> Words:
    """The words of a prompt in plain form, without what only says that all was said.

    Raises:
        UnclearError: it says what is not to be drawn, or leaves a choice.
    """
    split: list[str] = []
    for word in _WORD.findall(text):
        parts = word.split("-")
        apart = len(parts) > 1 and all(part in _PARTS for part in parts)
        split += parts if apart else [word.replace("-", "") if word in _WHOLE else word]
    words, kept, place = Words(tuple(split)), [], 0
    while place < len(split):
        if listed := _LISTED.length_at(words, place):
            place += listed
            continue
        if split[place] in tables.REFUSED:
            raise UnclearError("it says what is not to be drawn, or leaves a choice")
        kept.append(split[place])
        place += 1
    return Words(tuple(kept))


class Scanner:
    """Reads the words of one world and of everyday English.

    Args:
        world: what the models were taught.
    """

    def __init__(self, world: TaughtWorld) -> None:
        self._grounds = GroundFinder(world)
        self._nouns = NounFinder(world, self._grounds)

    def items(self, words: Words) -> Iterator[Item]:
        """What the words are, in their order.

        Raises:
            UnclearError: it is not plain how many of a thing are meant.
        """
        place, swallowed = 0, False
        while place < len(words.all):
            item = self._at(words, place)
            place += item.length
            if swallowed and item.kind == "thing":
                item = Item("other", item.length, clear=False)
            swallowed = item.kind == "swallow"
            yield item

    def _at(self, words: Words, place: int) -> Item:
        found = [
            _silent_at(words, place),
            relation_at(words, place),
            self._side_of_thing(words, place),
            zone_at(words, place),
            self._grounds.place_at(words, place, lambda at: self._goes_on(words, at)),
            self._grounds.time_at(words, place, lambda at: self._goes_on(words, at)),
            _join_at(words, place),
        ]
        longest = max((item for item in found if item), key=lambda item: item.length, default=None)
        thing = self._nouns.at(words, place)
        if thing and (longest is None or _says_more(thing, longest)):
            return thing
        return longest or _single(words, place)

    def _goes_on(self, words: Words, place: int) -> bool:
        """Whether the name of a place goes on there, as in "beach umbrella"."""
        return bool(self._nouns.noun_at(words, place)) or self._nouns.goes_on(words, place)

    def _side_of_thing(self, words: Words, place: int) -> Item | None:
        """ "to the fox's left", where the fox was spoken of before."""
        if words.at(place) not in ("to", "on", "at"):
            return None
        start = place + 1 + (words.at(place + 1) in tables.ARTICLES)
        found = self._nouns.noun_at(words, start)
        if not found or words.at(start + found[0]) != "'s":
            return None
        end = start + found[0] + 1
        if words.at(end) not in tables.SIDES:
            return None
        length = end + 1 + _SIDE_ENDS.length_at(words, end + 1) - place
        return Item("relation", length, words.at(end), phrase=found[1].name, bound=True)


def _says_more(thing: Item, other: Item) -> bool:
    """Whether a name is to be preferred; "beach sunset" names no thing."""
    grounded = thing.kind != "thing" and other.kind in ("place", "time")
    return thing.length > other.length and not grounded


def _silent_at(words: Words, place: int) -> Item | None:
    """What only says that something is to be drawn, or is there."""
    length = _ORDERS.length_at(words, place) or int(words.at(place) in tables.BEING)
    picture = _picture_at(words, place)
    if picture and picture.length > length:
        return picture
    silent = words.at(place) in tables.SILENT
    return Item("silent", length or 1) if length or silent else None


def _picture_at(words: Words, place: int) -> Item | None:
    """ "a picture of", "in the image", "a cartoon of"."""
    start = place + (words.at(place) in ("in", "on"))
    start += words.at(start) in (*tables.ARTICLES, "this", "my")
    styled = words.at(start) in tables.STYLES
    if not styled and words.at(start) not in tables.PICTURES:
        return None
    links = _SHOWS.length_at(words, start + 1)
    if styled and not links:
        return None
    return Item("noise" if styled else "silent", start + 1 + links - place, clear=not styled)


def _join_at(words: Words, place: int) -> Item | None:
    found = _JOINS.at(words, place)
    return Item(found[1], found[0]) if found else None


def _single(words: Words, place: int) -> Item:
    """A word that fits nothing else; the longest of those that speak of another thing."""
    if words.at(place) in tables.PRONOUNS:
        return Item("it", 1)
    if apart := _NOT_SHOWN.length_at(words, place):
        return Item("noise", apart, clear=False)
    if swallowing := _SWALLOWING.length_at(words, place):
        return Item("swallow", swallowing, clear=False)
    return Item("noise", 1, clear=False)
