"""Geometry of growing and repairing token grids: canvases and the windows that fill them.

Does not know what a token means, how a window is filled, or that a network exists.

A backbone reads square windows of one native side W. Any grid, however long or patchy, is
filled window by window::

      canvas 16 x 32, known columns 0..15            windows, in order
      ┌────────────────┬────────────────┐            1: columns  8..23  (8 known, 8 new)
      │     known      │     wanted     │            2: columns 16..31  (8 known, 8 new)
      └────────────────┴────────────────┘

Differs from Show-o's extrapolation: because that handles one direction per call, cannot mix
horizontal and vertical ones and fails for `down`; here any set of wanted cells is covered. For
one direction and W/2 new columns the windows are the same as Show-o's.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared_protocol.errors import InvalidInputError

BoolGrid = NDArray[np.bool_]
IntGrid = NDArray[np.int64]

UNKNOWN = -1
"""The code of a cell that is still to be generated."""


@dataclass(frozen=True)
class Window:
    """The top left corner and side of one square window inside a canvas."""

    top: int
    left: int
    side: int

    @property
    def area(self) -> tuple[slice, slice]:
        """Index of the window's cells in a (H, W) grid."""
        return slice(self.top, self.top + self.side), slice(self.left, self.left + self.side)


def pad_to_side(codes: IntGrid, side: int) -> IntGrid:
    """Add `UNKNOWN` cells below and to the right until both sides are at least `side`.

    >>> pad_to_side(np.array([[7, 7]]), 2).tolist()
    [[7, 7], [-1, -1]]
    """
    height, width = codes.shape
    missing = ((0, max(0, side - height)), (0, max(0, side - width)))
    return np.pad(codes, missing, constant_values=UNKNOWN)


def plan_windows(unknown: BoolGrid, side: int, min_known_share: float = 0.5) -> list[Window]:
    """Order square windows so that together they cover every unknown cell of a canvas.

    Greedy: of all windows in which at least `min_known_share` of the cells are known by then, take
    the one with most unknown cells; among equals the one whose middle is nearest to the middle of
    its unknown cells, so that context lies on all sides. Where no window has that much context
    (an empty canvas, a hole larger than a window), the one with most known cells is taken.

    Args:
        unknown: (H, W), True where a cell is to be generated; H and W at least `side`.
        side: native side of the backbone, in tokens.
        min_known_share: least share of known cells per window, 0 to 1 (exclusive).
    """
    if min(unknown.shape) < side:
        raise InvalidInputError(
            f"canvas {unknown.shape} is smaller than a window of {side}", "pad it"
        )
    return list(_greedy_windows(unknown.copy(), side, min_known_share))


def in_waves(windows: Sequence[Window], unknown: BoolGrid) -> list[list[int]]:
    """Group ordered windows by what they wait for: those of one wave do not see each other's cells.

    Filling a wave at a time gives what filling the windows one by one gives.

    Args:
        windows: of `plan_windows`.
        unknown: (H, W), True where a cell is to be generated.

    Returns:
        Indices of the windows, wave by wave; each window waits for the waves before its own.

    >>> left, right = Window(0, 0, 4), Window(0, 4, 4)
    >>> in_waves([left, right], np.array([[True] * 2 + [False] * 4 + [True] * 2] * 4))
    [[0, 1]]
    """
    missing, known_after = unknown.copy(), np.zeros(unknown.shape, dtype=np.int64)
    waves: list[list[int]] = []
    for index, window in enumerate(windows):
        # The latest wave that fills a cell of this window: it has to be done before.
        wave = int(known_after[window.area].max())
        waves += [[]] * (wave == len(waves))
        waves[wave] = [*waves[wave], index]
        known_after[window.area][missing[window.area]] = wave + 1
        missing[window.area] = False
    return waves


def _greedy_windows(unknown: BoolGrid, side: int, min_known_share: float) -> Iterator[Window]:
    while unknown.any():
        window = _best_window(unknown, side, min_known_share)
        yield window
        unknown[window.area] = False


def _best_window(unknown: BoolGrid, side: int, min_known_share: float) -> Window:
    # All windows at once from an integral image: a canvas of 64 x 64 has 2,401 windows of 16, each
    # of which would be summed again for every choice.
    counts = _window_sums(unknown.astype(np.int64), side)  # (H-side+1, W-side+1)
    known_share = 1.0 - counts / (side * side)
    useful = counts > 0
    allowed = useful & (known_share >= min_known_share)
    # Enough context first, progress second: a window with few known cells is drawn as a picture of
    # its own, and a seam shows where it meets the rest.
    if allowed.any():
        best = np.where(allowed, counts, -1)
    else:
        best = np.where(useful, side * side - counts, -1)
    candidates = np.argwhere(best == best.max())
    top, left = min(candidates.tolist(), key=lambda corner: _off_centre(unknown, corner, side))
    return Window(top, left, side)


def _window_sums(values: IntGrid, side: int) -> IntGrid:
    """Sum of every side x side window, by way of an integral image."""
    total = np.pad(values.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    sums: IntGrid = (
        total[side:, side:] - total[:-side, side:] - total[side:, :-side] + total[:-side, :-side]
    )
    return sums


def _off_centre(unknown: BoolGrid, corner: list[int], side: int) -> float:
    """Squared distance between a window's middle and the middle of its unknown cells."""
    cells = np.argwhere(unknown[Window(corner[0], corner[1], side).area])
    offset = cells.mean(0) - (side - 1) / 2
    return float(offset @ offset)
