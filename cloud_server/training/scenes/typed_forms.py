"""Captions and questions as people type them: capitals, marks, courtesy, spelling, no articles.

Knows English typing, no scenes; what a text says stays the same. Everything is deterministic given
a numpy Generator. The mirror of `shared_protocol.words`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from shared_protocol.words.spelling import BRITISH

_ARTICLE = re.compile(r"\b(?:an?|the) (?=\w)", re.IGNORECASE)
_AMERICAN = {american: british for british, american in BRITISH.items()}
_SPELLED = re.compile(rf"\b({'|'.join(_AMERICAN)})(s?)\b")
_PROMPT_COURTESY = ("please {}", "{}, please", "please draw {}", "could you please draw {}")
_QUESTION_COURTESY = ("please, {}", "{}, please", "hello, {}", "{}, thanks")
_PROMPT_ENDS = ("", ".", "!", "")
_QUESTION_ENDS = ("?", "", ".", "??")
_ARTICLES_DROPPED, _BRITISH, _COURTEOUS = 0.25, 0.3, 0.2
_SENTENCE, _SHOUTED = 0.5, 0.1


def typed_form(text: str, rng: np.random.Generator, *, asks: bool) -> str:
    """One way in which a person may type `text`.

    Args:
        text: not empty.
        rng: the only source of randomness; as many numbers are drawn, whatever the text.
        asks: whether it is a question.

    >>> typed_form("a fox left of a gray car", np.random.default_rng(3), asks=False)
    'Fox left of grey car'
    """
    drop, spell, courteous, case = rng.random(4)
    courtesy = _pick(_QUESTION_COURTESY if asks else _PROMPT_COURTESY, rng)
    end = _pick(_QUESTION_ENDS if asks else _PROMPT_ENDS, rng)
    words = text.rstrip(" .?!")
    if drop < _ARTICLES_DROPPED:
        words = _ARTICLE.sub("", words)
    if spell < _BRITISH:
        words = _SPELLED.sub(lambda found: _AMERICAN[found[1]] + found[2], words)
    if courteous < _COURTEOUS:
        words = courtesy.format(words)
    if case < _SHOUTED:
        words = words.upper()
    elif case < _SHOUTED + _SENTENCE:
        words = f"{words[:1].upper()}{words[1:]}"
    return f"{words}{end}"


def _pick(forms: Sequence[str], rng: np.random.Generator) -> str:
    return forms[int(rng.integers(len(forms)))]
