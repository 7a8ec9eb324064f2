"""What a PromQL expression names: series with the labels that it matches, and labels it groups by.

Enough of the grammar for that: comments, strings, durations, matchers, groupings and functions are
told apart; whether the expression computes anything sensible is not looked at.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_TOKEN = re.compile(
    r"""(?P<space>\s+|\#[^\n]*)
    |(?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|`[^`]*`)
    |(?P<range>\[[^\]]*\])
    |(?P<number>(?:0x[0-9a-f]+|\d+(?:\.\d+)?(?:e[+-]?\d+)?|\.\d+)(?:ms|[smhdwy])*(?![\w:]))
    |(?P<name>[A-Za-z_:][A-Za-z0-9_:]*)
    |(?P<sign>=~|!~|!=|==|<=|>=|[-+*/%^<>=(){},@])""",
    re.VERBOSE | re.IGNORECASE,
)
_GROUPING = frozenset(("by", "without", "on", "ignoring", "group_left", "group_right"))
_WORDS = frozenset(("and", "or", "unless", "bool", "offset", "inf", "nan", "start", "end", "atan2"))


@dataclass
class Named:
    """What an expression names.

    Attributes:
        series: each with the labels in its braces.
        grouped: labels of groupings.
    """

    series: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    grouped: set[str] = field(default_factory=set)


def named_in(expression: str) -> Named:
    """What an expression names; raises `ValueError` for what is no expression."""
    tokens = _tokens(expression)
    found, place = Named(), 0
    while place < len(tokens):
        kind, text = tokens[place]
        following = tokens[place + 1][1] if place + 1 < len(tokens) else ""
        word = text.lower()
        if kind == "name" and word in _GROUPING and following == "(":
            end = tokens.index(("sign", ")"), place)
            found.grouped |= {text for kind, text in tokens[place:end] if kind == "name"} - {text}
            place = end
        elif text == "{" or (kind == "name" and _is_series(word, following, tokens[place + 1 :])):
            place = _series(tokens, place, found)
        place += 1
    return found


def _is_series(word: str, following: str, rest: list[tuple[str, str]]) -> bool:
    if word in _WORDS or word in _GROUPING:
        return False
    aggregates = bool(rest) and rest[0][1].lower() in ("by", "without")  # sum by (x) (…)
    return following != "(" and not aggregates


def _series(tokens: list[tuple[str, str]], place: int, found: Named) -> int:
    """Note the series that begins here; returns its last place."""
    name = "" if tokens[place][1] == "{" else tokens[place][1]
    opens = place if not name else place + 1
    if opens >= len(tokens) or tokens[opens][1] != "{":
        found.series.append((name, ()))
        return place
    end = tokens.index(("sign", "}"), opens)
    inside = tokens[opens + 1 : end]
    labels = [text for kind, text in inside if kind == "name"]
    if not name:  # {"unimic_x", …} or {__name__="unimic_x"}
        strings = [text[1:-1] for kind, text in inside if kind == "string"]
        if not strings:
            raise ValueError("a series without a name")
        name, labels = strings[0], [label for label in labels if label != "__name__"]
    found.series.append((name, tuple(labels)))
    return end


def _tokens(expression: str) -> list[tuple[str, str]]:
    found, place, open_ = [], 0, []
    while place < len(expression):
        match = _TOKEN.match(expression, place)
        if match is None:
            raise ValueError(f"{expression[place : place + 20]!r} is no PromQL")
        kind, text = str(match.lastgroup), match.group()
        place = match.end()
        if text in ("(", "{"):
            open_.append({"(": ")", "{": "}"}[text])
        if text in (")", "}") and (not open_ or open_.pop() != text):
            raise ValueError(f"{text} closes nothing in {expression!r}")
        if kind not in ("space", "range"):
            found.append((kind, text))
    if open_:
        raise ValueError(f"{expression!r} is not closed")
    return found
