"""Reads what a generated caption or question says: held-out wording, background, relation, zone.

The mirror of `language`, whose tables it reads; knows no pixels and draws nothing. It understands
only what `language` writes, not English.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Literal

from cloud_server.training.scenes import word_lists
from cloud_server.training.scenes.language import split_background
from cloud_server.training.scenes.word_lists import HELD_OUT

Wording = Literal["trained", "held out"]

QUESTIONS: dict[str, tuple[str, ...]] = {
    "presence": word_lists.PRESENCE,
    "count": word_lists.COUNT,
    "relation": word_lists.RELATION,
    "relation_check": word_lists.RELATION_CHECK,
    "where": word_lists.WHERE,
    "at": word_lists.AT,
    "background": word_lists.BACKGROUND,
    "time": word_lists.TIME,
    "identity": word_lists.IDENTITY,
    "listing": word_lists.LISTING,
    "describe": word_lists.DESCRIBE,
}
"""Kind of question -> its wordings."""
ZONES = ("top left", "top right", "bottom left", "bottom right", "center",
         "top", "bottom", "left", "right")  # fmt: skip
"""Longer names first."""


def question_wording(question: str, kind: str) -> Wording:
    """Whether a question is worded in a way that training never shows.

    >>> question_wording("is there a fox?", "presence")
    'trained'
    >>> question_wording("what is on the left side of the fox?", "relation")
    'held out'
    """
    _, held_out = _halves(QUESTIONS[kind])
    unseen = any(_pattern(wording).fullmatch(question) for wording in held_out)
    unseen |= kind.startswith("relation") and _says_held_out(question, _relation_tables())
    return "held out" if unseen else "trained"


def caption_wording(caption: str) -> Wording:
    """The same for a caption.

    >>> caption_wording("A picture of a fox on the sand by the sea.")
    'trained'
    >>> caption_wording("a fox by the sea")
    'held out'
    """
    text = _plain(caption)
    _, frames = _halves(word_lists.CAPTION_FRAMES)
    tables = [*_relation_tables(), *_place_tables(), word_lists.JOINERS]
    singles = [wording.split("{")[0].strip() for wording in word_lists.SINGLE_PLACES]
    unseen = any(_pattern(frame).fullmatch(text) for frame in frames)
    unseen |= _says_held_out(text, [*tables, singles])
    return "held out" if unseen else "trained"


def names_background(caption: str, background: str) -> bool:
    """Whether a caption says where the scene is."""
    place, time = split_background(background)
    if time is None:
        colour = place.removeprefix("studio_")
        phrases = [wording.format(colour=colour) for wording in word_lists.STUDIO_WORDINGS]
    else:
        phrases = [*word_lists.PLACES[place][0], word_lists.PLACES[place][1]]
    return any(_says(_plain(caption), phrase) for phrase in phrases if phrase != HELD_OUT)


def relation_in(caption: str) -> str | None:
    """The relation that a caption of two objects states: left, right, above or below.

    >>> relation_in("a fox to the left of a car on a beach"), relation_in("a fox and a car")
    ('left', None)
    """
    for relation, wordings in word_lists.RELATION_WORDINGS.items():
        if any(_says(_plain(caption), wording) for wording in wordings if wording != HELD_OUT):
            return relation
    return None


def zone_in(caption: str) -> str | None:
    """The ninth of the picture where a caption of one object puts it.

    What a relation says is no place in the picture, though it may be worded like one.

    >>> zone_in("a fox at the bottom left on a beach"), zone_in("a fox on a beach")
    ('bottom left', None)
    >>> zone_in("a fox on the right of a house on a beach")
    """
    if relation_in(caption) is not None:
        return None
    for zone in ZONES:
        for wording in word_lists.SINGLE_PLACES:
            if wording != HELD_OUT and _says(_plain(caption), wording.format(zone=zone)):
                return zone
    return None


def _plain(caption: str) -> str:
    return f"{caption[:1].lower()}{caption[1:]}".rstrip(".")


def _says(text: str, phrase: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(phrase)}(?!\w)", text) is not None


def _says_held_out(text: str, tables: Iterable[Sequence[str]]) -> bool:
    """Whether a held-out phrase occurs, other than inside of a longer trained one."""
    for table in tables:
        trained, held_out = _halves(tuple(table))
        for phrase in held_out:
            longer = (other for other in trained if _says(other, phrase))
            if _says(text, phrase) and not any(_says(text, other) for other in longer):
                return True
    return False


def _relation_tables() -> list[tuple[str, ...]]:
    return list(word_lists.RELATION_WORDINGS.values())


def _place_tables() -> list[tuple[str, ...]]:
    colours = ("white", "blue", "pink")
    studios = [
        tuple(wording.format(colour=colour) for wording in word_lists.STUDIO_WORDINGS)
        for colour in colours
    ]
    return [*(phrases for phrases, _ in word_lists.PLACES.values()), *studios]


@cache
def _halves(wordings: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(trained, held out) wordings of a table."""
    if HELD_OUT not in wordings:
        return wordings, ()
    border = wordings.index(HELD_OUT)
    return wordings[:border], wordings[border + 1 :]


@cache
def _pattern(wording: str) -> re.Pattern[str]:
    """A wording as a pattern, its fields as any words."""
    return re.compile(re.sub(r"\\\{\w+\\\}", ".+", re.escape(wording)))
