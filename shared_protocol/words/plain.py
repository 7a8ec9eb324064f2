"""What people type, in the one plain form in which models of a small world were taught.

It does not know which words a model knows, and takes none away that could name something: what
changes are typography, capitals, courtesy, spelling and the mark at the end. Models that read text
as it is typed never see this; a bundle's manifest says which it is.

    typed ─► one typography ─► lower case ─► one spelling ─► no courtesy ─► one mark at the end
"""

from __future__ import annotations

import re
import unicodedata

from shared_protocol.words.spelling import AMERICAN, SHORT

_TYPOGRAPHY = str.maketrans(
    {
        **dict.fromkeys("‘’‚‛′ʼ´`", "'"),
        **dict.fromkeys("“”„‟″«»", '"'),
        **dict.fromkeys("‐‑‒–−", "-"),
        **dict.fromkeys("—―", " - "),
        **dict.fromkeys("\u00ad\u200b\u2060\ufeff", ""),
    }
)
MOST_CHARACTERS = 4_000
"""Longer text is no prompt of any model, and would take a while: leave it as it is."""
_END = " .,;:!?-"
_VERBS = r"(?:draw|paint|sketch|show|make|create|generate|render|give|produce)"
_ORDERS = (
    "count", "describe", "explain", "find", "give", "identify", "list", "name", "say", "show",
    "tell", "write",
)  # fmt: skip
"""How a question begins that is an order; the models were taught such with a full stop."""
_ASKED_TO = rf"(?={_VERBS}\b|(?:{'|'.join(_ORDERS)})\b)"
_BEFORE = tuple(
    re.compile(pattern)
    for pattern in (
        r"(?:hi|hello|hey)(?: there)?[,.!]+ (?=\w)",
        r"(?:please|kindly)\b[,:]? (?=\w)",
        rf"(?:can|could|would|will) you(?:,? (?:please|kindly),?)? {_ASKED_TO}",
        rf"i (?:would like|want) you to {_ASKED_TO}",
    )
)
_BEFORE_PROMPT = (
    *_BEFORE,
    re.compile(r"i (?:would like|want) (?:to (?:see|have) (?=\w)|(?=(?:an?|the|some) ))"),
    re.compile(rf"{_VERBS} (?:me|us) (?=\w)"),
    re.compile(rf"{_VERBS} (?=(?:an?|the|some|one|two|three|four|five|\d+) )"),
)
_AFTER = (
    re.compile(r"(?<!says)(?<!say)(?<!reads)(?<!word)(?<!words)(?<!saying)[, ] ?please$"),
    re.compile(r"[,.!?-]+ ?(?:many )?(?:thanks|thank you)(?: (?:so|very) much| a lot)?$"),
)
_MANNER = (
    (re.compile(r"\s+"), " "),
    (re.compile(r"^ ?[-*•]+ "), ""),
    (re.compile(r" -+ |--+"), ", "),
    (re.compile(r" +(?=[,.;:!?])"), ""),
    (re.compile(r"(?<=[^\W\d])([,;:!?])(?=[^\W\d])"), r"\1 "),
    (re.compile(r",{2,}"), ","),
)
_SAID_FIRST = re.compile(r"(say|tell me|tell us)[,:] ")
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")
_ASKED_WITH_NOT = re.compile(
    r"\b(is|are|was|were|do|does|did|can|has|have)(?:n't| not) "
    r"(there|it|this|that|you|the (?:image|picture|photo|scene))\b"
)
_IS = re.compile(r"\b(what|where|who|how|when|why|there|here|that|it|he|she|which)'s\b")
_SHORT_ENDS = (
    ("n't", " not"),
    ("'re", " are"),
    ("'ve", " have"),
    ("'ll", " will"),
    ("'d", " would"),
)


def plain_prompt(text: str) -> str:
    """A prompt in plain form: lower case, without courtesy and without a mark at the end.

    >>> plain_prompt("  Please draw me a Fox, left of a grey car. Thanks!")
    'a fox, left of a gray car'
    >>> plain_prompt("A card that says “Thank you”")
    'a card that says "thank you"'
    """
    return _plain(text, _BEFORE_PROMPT)


def plain_question(text: str) -> str:
    """A question in plain form, with the mark that a question or an order ends with.

    >>> plain_question("Where's the fox"), plain_question("DESCRIBE THE PICTURE, PLEASE!")
    ('where is the fox?', 'describe the picture.')
    >>> plain_question("Could you tell me if there is a fox?")
    'tell me if there is a fox.'
    >>> plain_question("Tell me: is there a fox")
    'tell me, is there a fox?'
    """
    said = _SAID_FIRST.sub(r"\1, ", _plain(text, _BEFORE), count=1)
    if not any(char.isalnum() for char in said):
        return said
    ordered = said.split(" ", 1)[0] in _ORDERS and not _SAID_FIRST.match(said)
    return f"{said}{'.' if ordered else '?'}"


def spelled(text: str) -> str:
    """The text with one spelling for each word and no short forms.

    Args:
        text: in lower case, with plain apostrophes.

    >>> spelled("what's the colour of the grey aeroplane?")
    'what is the color of the gray airplane?'
    >>> spelled("isn't there a fox?"), spelled("the fox's tail"), spelled("it isn't red")
    ('is there not a fox?', "the fox's tail", 'it is not red')
    """
    text = _WORD.sub(lambda found: AMERICAN.get(found[0], SHORT.get(found[0], found[0])), text)
    text = _ASKED_WITH_NOT.sub(r"\1 \2 not", _IS.sub(r"\1 is", text))
    for short, whole in _SHORT_ENDS:
        text = re.sub(rf"(?<=[a-z]){short}\b", whole, text)
    return text


def _plain(text: str, before: tuple[re.Pattern[str], ...]) -> str:
    """All but the mark at the end; text that has nothing but marks and courtesy stays."""
    tidy = unicodedata.normalize("NFKC", text).translate(_TYPOGRAPHY).lower()
    for pattern, manner in _MANNER:
        tidy = pattern.sub(manner, tidy)
    tidy = tidy.strip()
    said = _unquoted(spelled(tidy)).rstrip(_END)
    while True:
        shorter = said
        for pattern in before:
            shorter = pattern.sub("", shorter, count=1) if pattern.match(shorter) else shorter
        for pattern in _AFTER:
            shorter = pattern.sub("", shorter).rstrip(_END)
        if shorter == said:
            return said or tidy
        said = shorter


def _unquoted(text: str) -> str:
    """Without the quotes around all of it."""
    inner = text[1:-1]
    whole = len(text) > 2 and text[0] == text[-1] and text[0] in "\"'"
    return inner.strip() if whole and text[0] not in inner else text
