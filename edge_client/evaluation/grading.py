"""Whether an answer is right: exact match with an accepted one, or POPE's yes and no.

It does not know tables or servers.
"""

from __future__ import annotations

import re

from shared_protocol.cases import Case

RULE = "rule"
"""Name in a case's truth of how its answers are judged; without it by exact match."""
YES_OR_NO = "yes or no"
_MARKS = re.compile(r"[^\w\s]")
_DENIALS = {"no", "not"}


def is_right(case: Case, answer: str | None) -> bool:
    """Whether a case accepts an answer; False where it accepts none at all.

    >>> fox = Case("a", "vqa", "a fox?", "a.png", answers=("yes",))
    >>> is_right(fox, "Yes."), is_right(fox, "yes, there is a fox")
    (True, False)
    """
    if case.truth.get(RULE) == YES_OR_NO:
        said = yes_or_no(answer or "")
        return said in {yes_or_no(accepted) for accepted in case.answers}
    return plain(answer) in {plain(accepted) for accepted in case.answers}


def yes_or_no(answer: str) -> str:
    """POPE's rule: the first sentence denies if it has "no" or "not", else it affirms.

    >>> yes_or_no("No, there is none."), yes_or_no("There is a fox. Not a cat.")
    ('no', 'yes')
    """
    words = plain(answer.split(".")[0]).split()
    return "no" if _DENIALS & set(words) else "yes"


def plain(text: str | None) -> str:
    """Words in lower case, one blank between them.

    >>> plain(" Two  Foxes. ")
    'two foxes'
    """
    return " ".join(_MARKS.sub(" ", (text or "").casefold()).split())
