"""Intermediate pictures: the tokens that came so far, the rest filled up from what is near.

It does not know how they came, nor who looks at them.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from shared_protocol.session.previews import PREVIEW_CODES
from shared_protocol.tokens import Codes, Flags

MOST_REPORTS = 15
"""Reports, each with a preview, that a turn can bring."""
Show = Callable[[int, Codes], None]
"""Told the number of an intermediate picture, from 0, and its (H, W) codes."""


class PartialPictures:
    """Picks, of all previews of a turn, at most so many to show.

    Args:
        most: how many.
        known: (H, W) tokens that are not made and are there from the start; None = none.
        expected: previews that the turn will bring, as far as that is known.
        show: told each.
    """

    def __init__(self, most: int, known: Flags | None, expected: int, show: Show) -> None:
        self._most = most
        self._known = known
        self._expected = max(1, expected)
        self._show = show
        self._seen = 0
        self._shown = 0

    def on_step(self, done: int, total: int) -> None:
        """Previews come with reports of progress, which say nothing more."""

    def on_preview(self, codes: Codes, there: Flags) -> None:
        """Tokens as they are now; shown at even distances of the way."""
        self._seen += 1
        if self._known is not None:
            there = there | self._known
        due = self._seen * (self._most + 1) >= (self._shown + 1) * self._expected
        if self._shown < self._most and due and there.any():
            self._show(self._shown, filled(codes, there))
            self._shown += 1


def filled(codes: Codes, there: Flags) -> Codes:
    """(H, W) codes in which what is missing is as the nearest token that is there.

    Raises:
        ValueError: nothing is there.
    """
    rows, columns = np.nonzero(there)
    if not rows.size:
        raise ValueError("no token is there")
    down, across = np.mgrid[: codes.shape[0], : codes.shape[1]]
    apart = (down[..., None] - rows) ** 2 + (across[..., None] - columns) ** 2
    nearest = apart.argmin(axis=2)
    found: Codes = codes[rows[nearest], columns[nearest]]
    return found


def expected_previews(tokens: int, steps: int) -> int:
    """Previews of a turn that makes so many tokens in so many steps."""
    return min(MOST_REPORTS, steps, math.ceil(tokens / PREVIEW_CODES))
