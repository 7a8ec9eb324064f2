"""The cells that a person paints on: a picture's tokens, carried on over all of the picture.

It does not know sessions. A model sees a square; cells outside of it belong to the square that is
moved there, so that all of a wide photo can be painted on.

::

    ┌──┬──┬──┬──┬──┬──┐
    │  │▒▒│▒▒│▒▒│▒▒│  │   ▒ the window: tokens that the model has of this picture
    │  │▒▒│▒▒│▒▒│▒▒│  │   the rest: cells of the same size
    └──┴──┴──┴──┴──┴──┘
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_client.gateway.refused import RefusedError
from edge_client.pictures.sources import Source
from shared_protocol.tokens import Flags, TokenMask

_SLACK = 1e-3
"""Share of a cell that may stand over a picture's edge without a cell of its own."""
_ALL = 0.999


@dataclass(frozen=True)
class Lattice:
    """Cells over a picture.

    Args:
        left, top: where the first cell begins, in pixels of the picture; 0 or less.
        width, height: of a cell, in the same pixels.
        columns, rows: how many.
        window: (column, row, columns, rows) of the cells that are the model's tokens.
        size: (width, height) of the picture.
    """

    left: float
    top: float
    width: float
    height: float
    columns: int
    rows: int
    window: tuple[int, int, int, int]
    size: tuple[int, int]

    @classmethod
    def of(cls, source: Source) -> Lattice:
        """The cells of a picture."""
        geometry, stride = source.usual, source.bundle.stride
        across, down = (stride * each for each in geometry.pixels_each)
        corner = geometry.to_photo(0, 0)
        count = geometry.target[0] // stride, geometry.target[1] // stride
        before, total = [], []
        for axis, each in enumerate((across, down)):
            ahead = max(0, math.ceil(corner[axis] / each - _SLACK))
            rest = geometry.source[axis] - corner[axis] - count[axis] * each
            before.append(ahead)
            total.append(ahead + count[axis] + max(0, math.ceil(rest / each - _SLACK)))
        return cls(
            corner[0] - before[0] * across,
            corner[1] - before[1] * down,
            across,
            down,
            total[0],
            total[1],
            (before[0], before[1], *count),
            geometry.source,
        )

    def flags(self, packed: bytes) -> Flags:
        """(rows, columns) from one bit a cell, row by row, the first in the highest bit.

        Raises:
            RefusedError: they are not as many, or none is set.
        """
        cells = self.rows * self.columns
        if len(packed) != (cells + 7) // 8:
            raise RefusedError(
                f"cells has {len(packed)} bytes: the picture has {self.columns}x{self.rows} cells, "
                f"which are {(cells + 7) // 8}",
                "cells",
            )
        bits = np.unpackbits(np.frombuffer(packed, np.uint8), count=cells).astype(bool)
        if not bits.any():
            raise RefusedError("no cell is marked: mark what is to be repainted", "cells")
        found: Flags = bits.reshape(self.rows, self.columns)
        return found

    def where(self, flags: Flags) -> TokenMask | npt.NDArray[np.uint8]:
        """What is to be repainted: the very tokens, or (height, width) pixels where they are moved.

        Args:
            flags: (rows, columns).
        """
        x, y, wide, high = self.window
        inside = flags[y : y + high, x : x + wide]
        if inside.sum() == flags.sum():
            return TokenMask(inside)
        width, height = self.size
        columns = ((np.arange(width) + 0.5 - self.left) / self.width).astype(int)
        rows = ((np.arange(height) + 0.5 - self.top) / self.height).astype(int)
        shown = flags[rows.clip(0, self.rows - 1)[:, None], columns.clip(0, self.columns - 1)]
        return np.where(shown, 255, 0).astype(np.uint8)

    def packed(self, shown: npt.NDArray[np.uint8]) -> bytes:
        """The mirror of `flags` for a mask of the picture's shape: a cell is marked from half on.

        Args:
            shown: (h, w), 255 = repaint; of any size.
        """
        high, wide = shown.shape
        sums = np.pad(np.cumsum(np.cumsum(shown / 255.0, 0), 1), ((1, 0), (1, 0)))
        across, down = self._edges(wide, high)
        areas = sums[down[1:, None], across[1:]] - sums[down[:-1, None], across[1:]]
        areas -= sums[down[1:, None], across[:-1]] - sums[down[:-1, None], across[:-1]]
        whole = np.diff(down)[:, None] * np.diff(across)
        marked = (areas >= 0.5 * whole) & (whole > 0)
        if not marked.any():
            # Thinner than a cell everywhere: what it touches.
            marked = areas > 0
        return np.packbits(marked).tobytes()

    def told(self) -> dict[str, Any]:
        """For the page."""
        return {
            "left": self.left,
            "top": self.top,
            "width": self.width,
            "height": self.height,
            "columns": self.columns,
            "rows": self.rows,
            "window": list(self.window),
        }

    def _edges(self, wide: int, high: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Borders of the columns and rows in a picture of this size."""
        across = self.left + self.width * np.arange(self.columns + 1)
        down = self.top + self.height * np.arange(self.rows + 1)
        return (
            np.round(across * wide / self.size[0]).astype(int).clip(0, wide),
            np.round(down * high / self.size[1]).astype(int).clip(0, high),
        )


def extension_of(source: Source) -> dict[str, Any]:
    """The columns and rows by which a picture is continued, and the size of one of them."""
    size, stride, geometry = source.size, source.bundle.stride, source.geometry
    if geometry is not None and geometry.seen.area >= _ALL * size[0] * size[1]:
        across, down = (stride * each for each in geometry.pixels_each)
        columns, rows = geometry.target[0] // stride, geometry.target[1] // stride
    else:
        least = min(source.bundle.grid)
        columns, rows = (max(least, round(side / min(size) * least)) for side in size)
        across, down = size[0] / columns, size[1] / rows
    return {"width": across, "height": down, "columns": columns, "rows": rows}
