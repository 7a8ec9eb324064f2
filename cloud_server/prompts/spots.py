"""Finds the relations and the parts of the picture in a prompt.

It does not know things or places.
"""

from __future__ import annotations

from dataclasses import replace

from cloud_server.prompts import tables
from cloud_server.prompts.items import Item, Words
from cloud_server.prompts.lexicon import meanings, phrases

_OPEN = meanings(
    {said: word for word, row in tables.RELATIONS.items() for said in row}
    | {said.format(side): side for side in tables.SIDES for said in tables.SIDE_RELATIONS}
)
_OWN = meanings({said.format(side): side for side in tables.SIDES for said in tables.OWN_SIDES})
_DANGLING = meanings({said: word for word, row in tables.DANGLING.items() for said in row})
_BEFORE = phrases(tables.ZONE_BEFORE)
_DIRECTIONS = ("to", "toward", "towards", *tables.SIDES)
_AFTER = phrases(tables.ZONE_AFTER)
_OF_PICTURE = phrases(tables.OF_PICTURE)


def relation_at(words: Words, place: int) -> Item | None:
    """How something stands to something else; bound where that was spoken of before."""
    plain = _plain_relation_at(words, place)
    if plain or words.at(place) not in tables.EXACTLY:
        return plain
    found = _plain_relation_at(words, place + 1)
    return replace(found, length=found.length + 1) if found else None


def _plain_relation_at(words: Words, start: int) -> Item | None:
    if own := _OWN.at(words, start):
        return Item("relation", own[0], own[1], bound=True)
    found = _OPEN.at(words, start)
    if found:
        bound = words.at(start + found[0]) in tables.PRONOUNS
        return Item("relation", found[0] + bound, found[1], bound=bound)
    if found := _DANGLING.at(words, start):
        return Item("relation", found[0], found[1])
    return None


def zone_at(words: Words, place: int) -> Item | None:
    """The part of the picture that is named there."""
    before = _BEFORE.length_at(words, place)
    start = place + before
    start += words.at(start) in ("the", "a")
    found = _name_at(words, start)
    if found is None:
        return None
    length, zone = found
    end = start + length
    tail = _AFTER.length_at(words, end)
    end += tail
    end += _OF_PICTURE.length_at(words, end)
    turned = _is_turned(words.at(place - 1)) and words.at(place) in _DIRECTIONS
    if turned:
        return Item("noise", end - place, clear=False)
    if words.at(end) == "of":  # "at the top of the tree": no part of the picture
        return Item("noise", end + 1 - place, clear=False)
    if words.at(start) in ("upper", "lower") and length + tail < 2:
        return None
    clear = not (words.at(start + length) == "corner" and " " not in zone)
    return Item("zone", end - place, zone, clear)


def _is_turned(word: str) -> bool:
    """Whether a side behind this word says where something goes or looks."""
    return word in tables.TURNED or (word.endswith("ing") and word not in tables.BEING)


def _name_at(words: Words, place: int) -> tuple[int, str] | None:
    """Number of words of a zone's name, and the zone."""
    first, second = words.at(place), words.at(place + 1)
    if first in tables.CENTERED:
        return 1, "center"
    pair = joined(_axis(first), _axis(second)) if _axis(second) else None
    if pair:
        return 2, pair
    return (1, _axis(first)) if _axis(first) else None


def joined(one: str, other: str) -> str | None:
    """The zone that two zones make together, such as `top` and `left`; None if they do not."""
    down = [part for part in (one, other) if part in ("top", "bottom")]
    across = [part for part in (one, other) if part in ("left", "right")]
    if not one or not other or len(down) > 1 or len(across) > 1:
        return one if one == other else None
    return " ".join([*down, *across]) or "center"


def _axis(word: str) -> str:
    if word in tables.MIDDLE:
        return "center"
    return tables.DOWN.get(word) or tables.ACROSS.get(word) or ""
