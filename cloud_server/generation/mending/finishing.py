"""What happens to a window after it was filled: it is mended, and then settled.

It does not know requests or canvases. Which of the three kinds of mending a window gets follows
from what the picture is: all of it new, a hole in it, or an extension of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from cloud_server.generation.mending.findings import Flags
from cloud_server.generation.mending.mender import Draft, Mender
from cloud_server.generation.painting import Ids, Painter
from cloud_server.generation.settling import Price, Settling
from cloud_server.generation.work import begin
from shared_protocol.messages import OnStep

Codes = NDArray[np.int64]
Extent = Literal["whole", "hole", "extension", "part"]
"""How much of a picture a window is: all of it, the only one with the hole, one of an extension, or
one of several of whose picture nothing can be said by looking at it alone."""
PriceOf = Callable[[Ids, Flags, Codes], Price | None]
"""(N,) text ids of a message, what of a window travels (side, side), and its codes (side, side), to
what its codes cost; None where nobody knows."""


@dataclass(frozen=True, eq=False)
class Unfinished:
    """A filled window.

    Attributes:
        draft: the window, what it should show, and how often to mend.
        extent: how much of the picture it is.
        text_ids: of the message, as both ends know them.
        understood: whether `draft.asked` says something.
        known: phrases of what an extended picture shows already.
    """

    draft: Draft
    extent: Extent
    text_ids: Ids
    understood: bool
    known: Sequence[str] = field(default=())


class Progress:
    """Counts steps whose number may grow, and tells somebody.

    Args:
        on_step: told (finished, all).
        total: of steps that are sure to come.
    """

    def __init__(self, on_step: OnStep, total: int) -> None:
        self._on_step, self._total, self._done = on_step, total, 0

    def reach(self, step: int) -> None:
        """So many of the sure steps are done."""
        self._done = step
        self._on_step(step, self._total)

    def add(self, steps: int) -> None:
        """Steps that nobody foresaw are done."""
        self._done += steps
        self._total += steps
        self._on_step(self._done, self._total)

    def go_on(self, step: int) -> None:
        """One more of the sure steps is done; `step` counts those of its kind."""
        if step:
            self._done += 1
            self._on_step(self._done, self._total)


class Finisher:
    """Finishes windows.

    Args:
        painter: paints.
        mender: mends; None where nothing can be looked for.
        price_of: what codes cost to send; None where nobody knows.
        side: of windows, in cells.
    """

    def __init__(
        self, painter: Painter, mender: Mender | None, price_of: PriceOf | None, side: int
    ) -> None:
        self._painter, self._mender = painter, mender
        self._price_of, self._side = price_of, side

    @property
    def sure_steps(self) -> int:
        """Steps that every window takes."""
        return self._painter.policy.settle_passes

    def finish(self, windows: Sequence[Unfinished], progress: Progress) -> list[Codes]:
        """(side, side) codes of each window; each depends on that window alone."""
        mended = [self._mended(window, progress) for window in windows]
        return self._settled(windows, mended, progress)

    def names(self, codes: Codes) -> tuple[str, ...]:
        """Phrases of what a whole window shows."""
        return () if self._mender is None else self._mender.names(codes)

    def _mended(self, window: Unfinished, progress: Progress) -> Codes:
        draft = window.draft
        if self._mender is None or not draft.rounds:
            return draft.codes
        if window.extent == "extension":
            begin("mend")
            return self._mender.without_repeats(draft, window.known, progress.add)
        if not window.understood or window.extent == "part":
            return draft.codes
        begin("mend")
        mend = self._mender.mend if window.extent == "whole" else self._mender.fill_hole
        return mend(draft, progress.add)

    def _settled(
        self, windows: Sequence[Unfinished], codes: Sequence[Codes], progress: Progress
    ) -> list[Codes]:
        policy = self._painter.policy
        if not policy.settle_passes:
            return list(codes)
        begin("settle")
        prices = [
            self._price_of(window.text_ids, window.draft.wanted, each) if self._price_of else None
            for window, each in zip(windows, codes, strict=True)
        ]
        settled = self._painter.settle(
            _rows(codes),
            _rows([window.draft.wanted for window in windows]),
            [window.draft.brush for window in windows],
            Settling(policy.settle_passes, self._side, policy.settle_weight, prices),
            lambda step, _: progress.go_on(step),
        )
        return [row.reshape(self._side, self._side) for row in settled.numpy()]


def _rows(grids: Sequence[NDArray[np.generic]]) -> torch.Tensor:
    """B grids (side, side) as (B, N)."""
    return torch.from_numpy(np.stack([grid.reshape(-1) for grid in grids]))
