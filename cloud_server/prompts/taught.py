"""What a bundle's models were taught to draw, and the words for it.

It does not know prompts: a bundle's file of words brings the lists, and this makes them searchable.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloud_server.prompts.tables import (
    ARTICLES,
    BACKDROPS,
    BACKGROUND,
    FRONT,
    IRREGULAR,
    SIDEWAYS,
    SURFACE,
)
from shared_protocol.errors import CheckpointError
from shared_protocol.words.known import MOST_BYTES

Words = tuple[str, ...]


@dataclass(frozen=True)
class Noun:
    """A word for a thing.

    Attributes:
        name: what the world calls it.
        phrases: what the models were taught to say for it, by the adjectives in it.
        plural: several of it are spoken of.
        bunch: its name is a plural, but it is one thing, such as grapes.
    """

    name: str
    phrases: Mapping[frozenset[str], str]
    plural: bool = False
    bunch: bool = False


@dataclass(frozen=True)
class Ground:
    """A place at all its times of day: the time, or nothing, to the canonical words."""

    at: Mapping[str, str]


@dataclass(frozen=True)
class TaughtWorld:
    """Words to what they mean; all of them in lower case and without articles.

    Attributes:
        nouns: the things, in singular and plural.
        grounds: the places.
        places: words for a place to its number in `grounds`.
        befores: what may stand before these words.
        times: the times of day that some place has.
    """

    nouns: Mapping[Words, Noun]
    grounds: Sequence[Ground]
    places: Mapping[Words, int]
    befores: Mapping[Words, frozenset[str]]
    times: frozenset[str]

    def usual_phrase(self, name: str) -> str | None:
        """How a thing is called where pictures are described; None if there is no such thing."""
        noun = self.nouns.get(tuple(name.split()))
        return None if noun is None else noun.phrases.get(frozenset())

    def phrases_of_places(self) -> tuple[str, ...]:
        """The canonical words of every place at every time of day."""
        return tuple(
            dict.fromkeys(phrase for ground in self.grounds for phrase in ground.at.values())
        )

    @classmethod
    def load(cls, path: Path) -> TaughtWorld | None:
        """Read it from a bundle's file of words; None if that does not say what can be drawn.

        Raises:
            CheckpointError: the file cannot be read, or says it wrongly.
        """
        try:
            if path.stat().st_size > MOST_BYTES:
                raise ValueError(f"it is larger than {MOST_BYTES:,} bytes")
            told = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(told, dict):
                raise ValueError("no words")
            if "things" not in told and "places" not in told:
                return None
            return cls.of(told["things"], told["places"])
        except (OSError, ValueError, RecursionError, LookupError, TypeError) as error:
            raise CheckpointError(f"cannot read {path}: {error!r}", "install it again") from error

    @classmethod
    def of(cls, things: Any, places: Any) -> TaughtWorld:
        """The world of a file's lists.

        Args:
            things: a name to the phrases with an article that the models were taught for it.
            places: canonical words of a place at a time to `wordings` and `times`.

        Raises:
            ValueError, LookupError, TypeError: they are something else.
        """
        _check(things, places)
        nouns: dict[Words, Noun] = {}
        for name, phrases in things.items():
            for words, noun in _nouns(name, phrases):
                nouns.setdefault(words, noun)
        grounds, wordings = _grounds(places)
        known: dict[Words, int] = {}
        befores: dict[Words, frozenset[str]] = {}
        for number, said in enumerate(wordings):
            for words, before in _place_words(said):
                known.setdefault(words, number)
                befores[words] = befores.get(words, frozenset()) | before
        times = frozenset(time for ground in grounds for time in ground.at if time)
        return cls(nouns, grounds, known, befores, times)


def _check(things: Any, places: Any) -> None:
    if not isinstance(things, dict) or not isinstance(places, dict):
        raise TypeError("things or places are no table")
    named = [*things.values(), *([name] for name in things)]
    named += [said["wordings"] for said in places.values()]
    for texts in [*named, *(said["times"] for said in places.values())]:
        if type(texts) is not list or not all(isinstance(text, str) for text in texts):
            raise TypeError("a list holds something else than words")
        if not texts:
            raise ValueError("a list is empty")
    if not all(text.split() for texts in named for text in texts):
        raise ValueError("something goes by no word")


def _nouns(name: str, phrases: Sequence[str]) -> Iterator[tuple[Words, Noun]]:
    """A thing's words in singular and plural, with what they mean."""
    bunch = " of " in phrases[0] and phrases[0].lower().endswith(f" of {name.lower()}")
    known: dict[Words, dict[frozenset[str], str]] = {}
    for phrase in phrases:
        adjectives, words = _parts(phrase, name)
        known.setdefault(words, {})[frozenset(adjectives)] = phrase
    own = tuple(name.lower().split())
    known.setdefault(own, {frozenset(): phrases[0]})
    for words, said in known.items():
        said.setdefault(frozenset(), phrases[0])
        itself = bunch and words == own
        yield words, Noun(name, said, bunch=itself)
        if "of" in words and len(words) == 3:
            yield (words[2], words[0]), Noun(name, said)
        if not itself:
            for plural in _plurals(words):
                yield plural, Noun(name, said, plural=True)


def _parts(phrase: str, name: str) -> tuple[Words, Words]:
    """Adjectives and noun of a phrase: "a red car" is ("red",) and ("car",)."""
    words = tuple(phrase.lower().split())
    words = words[1:] if words[0] in ARTICLES and len(words) > 1 else words
    own = tuple(name.lower().split())
    if words[-len(own) :] == own and "of" not in words:
        return words[: -len(own)], own
    return (), words


def _plurals(words: Words) -> Iterator[Words]:
    """
    >>> list(_plurals(("slice", "of", "pizza"))), list(_plurals(("fox",)))
    ([('slices', 'of', 'pizza')], [('foxes',)])
    """
    place = words.index("of") - 1 if "of" in words[1:] else len(words) - 1
    for plural in _plural_forms(words[place]):
        yield (*words[:place], plural, *words[place + 1 :])


def _plural_forms(word: str) -> tuple[str, ...]:
    if word in IRREGULAR:
        return IRREGULAR[word]
    if word.endswith("man"):
        return (f"{word[:-3]}men",)
    if word.endswith("y") and word[-2:-1] not in tuple("aeiou"):
        return (f"{word[:-1]}ies",)
    if word.endswith(("s", "x", "z", "ch", "sh")):
        return (f"{word}es",)
    return (f"{word}s",)


def _grounds(places: Mapping[str, Any]) -> tuple[list[Ground], list[Words]]:
    """The places, and the wordings of each; what is worded alike is one place at several times."""
    alike: dict[Words, dict[str, str]] = {}
    for canonical, said in places.items():
        at = alike.setdefault(tuple(said["wordings"]), {})
        for time in said["times"]:
            at[time.split()[-1].lower() if time else ""] = canonical
    return [Ground(at) for at in alike.values()], list(alike)


def _place_words(wordings: Words) -> Iterator[tuple[Words, frozenset[str]]]:
    """Words for a place without preposition and article, and what may stand before them."""
    for wording in wordings:
        before, words = _without_preposition(tuple(wording.lower().split()))
        yield words, before
        if words[-1] != BACKGROUND:
            continue
        for backdrop in BACKDROPS:
            yield (*words[:-1], backdrop), before
            yield (backdrop, "is", *words[:-1]), before
            yield (backdrop, *words[:-1]), before


def _without_preposition(words: Words) -> tuple[frozenset[str], Words]:
    """Which kind of prepositions a wording takes, and the rest; several kinds for a wall."""
    kinds = (SURFACE, SIDEWAYS, (*FRONT, *SURFACE))
    found = max(
        ((tuple(said.split()), kind) for kind in kinds for said in kind),
        key=lambda pair: len(pair[0]) if words[: len(pair[0])] == pair[0] else 0,
    )
    before, kind = found
    rest = words[len(before) :] if words[: len(before)] == before else words
    rest = rest[1:] if rest[:1] and rest[0] in ARTICLES else rest
    return frozenset(kind), rest or words
