"""Requests for pictures while their canvases are being filled, window by window.

It does not know a network, noise, or how a window is filled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cloud_server.generation.masked_decoding import REFERENCE, DecodingPolicy
from cloud_server.generation.mending.finishing import Extent
from cloud_server.generation.mending.layout import Layout
from cloud_server.generation.painting import no_words
from cloud_server.generation.windows import UNKNOWN, IntGrid, Window
from cloud_server.generation.work import PictureWork
from cloud_server.prompts.asked import Asked

_SEED_STEP = 0x9E3779B9
"""Between the seeds of a request's windows; odd, so that 2**32 windows differ."""


def window_seed(seed: int, index: int) -> int:
    """The seed of a request's `index`-th window; the first one's is the request's own."""
    return (seed + index * _SEED_STEP) % (1 << 64)


@dataclass(eq=False)
class Job:
    """One generation request while its canvas is being filled."""

    request: PictureWork
    canvas: IntGrid
    windows: list[Window]
    waves: list[list[int]]
    shape: tuple[int, ...]
    layout: Layout | None
    known: tuple[str, ...]
    asked: Asked | None

    def result(self) -> IntGrid:
        return self.canvas[: self.shape[0], : self.shape[1]].copy()


@dataclass(frozen=True, eq=False)
class Place:
    """One window of a job."""

    job: Job
    index: int

    @property
    def codes(self) -> IntGrid:
        return self.job.canvas[self.job.windows[self.index].area]

    @property
    def seed(self) -> int:
        return window_seed(self.job.request.seed, self.index)

    @property
    def extent(self) -> Extent:
        if self.job.request.kind == "outpaint":
            return "extension"
        if len(self.job.windows) > 1:
            return "part"
        return "whole" if self.job.request.kind == "t2i" else "hole"

    def show(self, row: NDArray[np.int64]) -> None:
        """Tell whoever watches what the picture would be if this window ended with `row`."""
        watch = self.job.request.watch
        if watch is not None:
            canvas = self.job.canvas.copy()
            cells = canvas[self.job.windows[self.index].area]
            cells[...] = np.where(cells == UNKNOWN, row.reshape(cells.shape), cells)
            watch(canvas[: self.job.shape[0], : self.job.shape[1]])

    def fill(self, row: NDArray[np.int64]) -> None:
        cells = self.codes
        cells[...] = np.where(cells == UNKNOWN, row.reshape(cells.shape), cells)


def negative_of(request: PictureWork) -> NDArray[np.int64]:
    """Prompt ids of the pass that guidance leads away from; mostly none."""
    ids = request.negative_ids
    return no_words() if ids is None else ids.astype(np.int64)


def start_codes(request: PictureWork, side: int) -> IntGrid:
    """The canvas a request starts from: (H, W) codes, `UNKNOWN` where to generate."""
    if request.codes is None:
        return np.full(request.grid or (side, side), UNKNOWN, dtype=np.int64)
    codes = request.codes.astype(np.int64)
    if request.mask is not None:
        codes[request.mask] = UNKNOWN
    if request.extension is None:
        return codes
    return request.extension.place(codes.astype(np.int32), UNKNOWN).astype(np.int64)


def least_known(request: PictureWork, side: int, policy: DecodingPolicy, usual: float) -> float:
    """The least share of known cells in a window of a request.

    Show-o's script extends in one window, whatever its offset; under its policy so does an
    extension in one direction of a picture that is as wide as a window, up to all but one cell.
    """
    extension, codes = request.extension, request.codes
    if policy is not REFERENCE or extension is None or codes is None or request.mask is not None:
        return usual
    across = codes.shape[0] if extension.left or extension.right else codes.shape[1]
    added = max(extension.sides)
    alone = sum(extension.sides) == added and across == side
    return 1.0 / (side * side) if alone and added < side else usual


def watcher(places: Sequence[Place]) -> Callable[[torch.Tensor], None] | None:
    """Shows the codes of every step to those that watch; None where nobody does."""
    if all(place.job.request.watch is None for place in places):
        return None

    def show(codes: torch.Tensor) -> None:
        for place, row in zip(places, codes.cpu().numpy(), strict=True):
            place.show(row)

    return show
