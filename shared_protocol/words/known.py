"""The words that a bundle's models know: which of a text's words they lack, and their articles.

It does not know the models: a bundle brings the list. Words that name no thing (`everyday`) are
nobody's lack; everything else that is made of letters and is not in the list is named.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from shared_protocol.errors import CheckpointError
from shared_protocol.files import read_regular
from shared_protocol.words.everyday import ADJECTIVES, OTHERS
from shared_protocol.words.plain import plain_prompt

MOST_NAMED = 5
MOST_BYTES = 1 << 20
_WORD = re.compile(r"[^\W\d_]+(?:['-][^\W\d_]+)*")
_ENDINGS = (
    ("men", "man"), ("ies", "y"), ("ves", "f"), ("es", ""), ("s", ""),
)  # fmt: skip
_VERB_ENDINGS = (
    ("ied", "y"), ("ed", ""), ("ed", "e"), ("ing", ""), ("ing", "e"), ("ily", "y"), ("ly", ""),
)  # fmt: skip
_COMPARED = (("ier", "y"), ("iest", "y"), ("er", ""), ("er", "e"), ("est", ""), ("est", "e"))
_LINKING = """
and or with without on in at by to from above below under over beneath behind beside near before
against between than plus as there is are holding wearing eating riding facing watching
"""
_LINKS = frozenset(_LINKING.split())
"""Words behind which a thing begins, and needs an article."""
_VIEWING = "left right front top side middle center picture photo image painting drawing scene view"
_VIEWS = frozenset(_VIEWING.split())
"""Words that make such a one of the "of" behind them; a slice of pizza has its article."""
_POINTING = """
about above after ahead all alone another any apart away both double due each east eight eleven
enough every far fifteen five four half in just least left less many more most much nine no none
north on one opposite other over several seven six some south ten then three through together
twelve twenty two under unlike very west
"""
_BETWEEN = ADJECTIVES - frozenset(_POINTING.split())
"""Words that may stand between an article and its thing."""
_ZONE = re.compile(
    r"\b(at|in|on|to) (?=(?:left|right) of\b|(?:(?:top|bottom|upper|lower)(?: left| right)?|left|"
    r"right|center|middle)(?: corner| side)?(?: (?:on|in|at)\b|,|$))"
)
"""Before a place in the picture, which is the left or the center; "on top of" stays."""
_MARKS = ",;:."
_THINGS = frozenset(("building", "buildings", "clothing", "leaves", "clothes", "bearing"))
"""They look like forms of verbs, and are things in a picture."""


class KnownWords:
    """A list of words.

    Args:
        words: in lower case and singular; of things, places, colours, and all else that the models
            were taught.
        phrases: word to the phrase with an article that they were taught, such as "an owl".
    """

    def __init__(self, words: Iterable[str], phrases: Mapping[str, str] | None = None) -> None:
        self._words = frozenset(words)
        self._phrases = dict(phrases or {})

    @classmethod
    def load(cls, path: Path) -> KnownWords:
        """Read what `content` gives, as JSON.

        Raises:
            CheckpointError: it cannot be read, or holds something else.
        """
        try:
            told = json.loads(read_regular(path, MOST_BYTES))
            words, phrases = told["words"], told["phrases"]
            said = [*words, *phrases, *phrases.values()]
            if type(words) is not list or not all(isinstance(word, str) for word in said):
                raise ValueError("no words")
        except (OSError, ValueError, RecursionError, LookupError, TypeError) as error:
            raise CheckpointError(f"cannot read {path}: {error}", "install it again") from error
        except AttributeError as error:
            raise CheckpointError(f"{path} holds no words", "install it again") from error
        return cls(words, phrases)

    def content(self) -> dict[str, Any]:
        """What a file of them holds."""
        return {"words": sorted(self._words), "phrases": dict(sorted(self._phrases.items()))}

    def unknown(self, text: str) -> tuple[str, ...]:
        """The words of `text` that name things beyond the list, each once.

        >>> KnownWords(["fox", "beach"]).unknown("Two tall foxes and a dragon, running on a beach.")
        ('dragon',)
        """
        said = (word.removesuffix("'s") for word in _WORD.findall(plain_prompt(text)))
        return tuple(dict.fromkeys(word for word in said if not self._is_fine(word)))

    def with_articles(self, text: str) -> str:
        """A prompt in plain form with the articles that were left out before known things.

        Anything in doubt stays: compounds, plurals, things beyond the list.

        >>> known = KnownWords((), {"fox": "a fox", "balloon": "a balloon", "beach": "a beach"})
        >>> known.with_articles("fox left of red balloon on beach")
        'a fox left of a red balloon on a beach'
        >>> known.with_articles("the fox with two balloons, balloon animal at top left")
        'the fox with two balloons, balloon animal at the top left'
        """
        words = _ZONE.sub(r"\1 the ", text).split()
        said: list[str] = []
        for number, word in enumerate(words):
            said.append(word)
            phrase = self._phrases.get(word.rstrip(_MARKS))
            if phrase and (word[-1] in _MARKS or _ends_before(words[number + 1 :])):
                _put_article(said, phrase)
        return " ".join(said)

    def _is_fine(self, word: str) -> bool:
        if len(word) == 1 or self._knows(word):
            return True
        parts = re.split("['-]", word)
        return len(parts) > 1 and all(self._is_fine(part) for part in parts)

    def _knows(self, word: str) -> bool:
        if any(form in self._words for form in _forms(word, _ENDINGS)):
            return True
        if word in _THINGS:
            return False
        everyday = _forms(word, _ENDINGS + _VERB_ENDINGS)
        return any(form in ADJECTIVES or form in OTHERS for form in everyday) or any(
            form in ADJECTIVES for form in _forms(word, _COMPARED)
        )


def unknown_warning(words: tuple[str, ...], bundle: str) -> tuple[str, ...]:
    """What to tell the user of words that the models of a bundle do not know; nothing of none.

    >>> unknown_warning(("dragon", "kitchen"), "builtin")
    ('the builtin models do not know: dragon, kitchen',)
    """
    if not words:
        return ()
    more = len(words) - MOST_NAMED
    named = ", ".join(words[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
    return (f"the {bundle} models do not know: {named}",)


def _ends_before(rest: list[str]) -> bool:
    """Whether a thing's name is over where these words follow."""
    return not rest or rest[0].rstrip(_MARKS) in OTHERS | ADJECTIVES


def _put_article(said: list[str], phrase: str) -> None:
    """Give the last word of `said` its article, before the adjectives, if it has none."""
    start = len(said) - 1
    while start and said[start - 1] in _BETWEEN:
        start -= 1
    if not _begins_after(said[:start]):
        return
    if start == len(said) - 1:
        said[start:] = [*phrase.split()[:-1], said[start]]
    elif " of " not in phrase:
        said.insert(start, "an" if said[start][0] in "aeiou" else "a")


def _begins_after(said: list[str]) -> bool:
    """Whether a thing that follows these words needs an article."""
    if not said or said[-1][-1] in _MARKS or said[-1] in _LINKS:
        return True
    return len(said) > 1 and said[-1] == "of" and said[-2] in _VIEWS


def _forms(word: str, endings: Iterable[tuple[str, str]]) -> Iterator[str]:
    """The word, and what it may be an inflection of."""
    yield word
    for ending, instead in endings:
        if word.endswith(ending) and len(word) - len(ending) >= 2:
            stem = word.removesuffix(ending)
            yield stem + instead
            if not instead and len(stem) > 2 and stem[-1] == stem[-2]:
                yield stem[:-1]  # running, bigger
