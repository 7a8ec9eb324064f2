"""Intermediate pictures: the tokens that came so far, the rest filled up from what is near.

It does not know how they came, nor who looks at them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from shared_protocol.tokens import Codes, Flags

Show = Callable[[int, Codes], None]
"""Told the number of an intermediate picture, from 0, and its (H, W) codes."""


class PartialPictures:
    """Picks, of all that a turn reports, at most so many moments to show.

    Args:
        most: how many.
        known: (H, W) tokens that are not made and are there from the start; None = none.
        show: told each.
    """

    def __init__(self, most: int, known: Flags | None, show: Show) -> None:
        self._most = most
        self._known = known
        self._show = show
        self._shown = 0
        self._share = 0.0

    def on_step(self, done: int, total: int) -> None:
        """How far the work is; a preview follows."""
        self._share = done / total if total else 0.0

    def on_preview(self, codes: Codes, there: Flags) -> None:
        """Tokens as they are now; shown at even distances of the work."""
        if self._known is not None:
            there = there | self._known
        due = self._share * (self._most + 1) >= self._shown + 1
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
