"""Which image tokens a message leaves out, to bytes and back: a number, or a mask.

It does not know images or tasks. The part starts with a varint n:

```
 n = 0   a mask follows, coded like any mask of the grid
 n > 0   the first n tokens of the even order are left out, of those that are not masked
```
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from shared_protocol.coding.bits import read_varint, write_varint
from shared_protocol.coding.mask_codec import MaskPrior, decode_mask, encode_mask
from shared_protocol.errors import BadMessageError
from shared_protocol.tokens import MAX_GRID, Flags


def even_order(height: int, width: int) -> npt.NDArray[np.int64]:
    """(H, W) int64, Bayer's threshold matrix of 64x64, cut: all below any level lies evenly.

    >>> even_order(4, 4).argsort(axis=None)[:8].tolist()
    [0, 10, 2, 8, 5, 15, 7, 13]
    """
    matrix = np.zeros((1, 1), dtype=np.int64)
    while matrix.shape[0] < MAX_GRID:
        matrix = np.block([[4 * matrix, 4 * matrix + 2], [4 * matrix + 3, 4 * matrix + 1]])
    return matrix[:height, :width]


def first_even(count: int, free: Flags) -> Flags:
    """The first `count` positions of the even order among the free ones, (H, W) bool.

    Args:
        count: at most as many as are free.
        free: (H, W) bool, positions that may be left out.
    """
    order = np.where(free, even_order(*free.shape), np.iinfo(np.int64).max)
    flags = np.zeros(free.size, dtype=bool)
    flags[order.ravel().argsort(kind="stable")[:count]] = True
    return flags.reshape(free.shape)


def encode_dropped(dropped: Flags, mask: Flags | None, prior: MaskPrior | None) -> bytes:
    """The shorter coding of the (H, W) tokens that are left out, none of them under `mask`."""
    count = int(dropped.sum())
    if count and np.array_equal(first_even(count, _free(dropped, mask)), dropped):
        return write_varint(count)
    return write_varint(0) + encode_mask(dropped, prior)


def decode_dropped(
    data: bytes, grid: tuple[int, int], mask: Flags | None, prior: MaskPrior | None
) -> Flags:
    """The (H, W) tokens that `encode_dropped` coded.

    Raises:
        BadMessageError: one of its subclasses; `data` marks no such tokens.
    """
    free = _free(np.zeros(grid, dtype=bool), mask)
    count, end = read_varint(data, 0, int(free.sum()))
    if count == 0:
        return decode_mask(data[end:], grid, prior)
    if end != len(data):
        raise BadMessageError(f"{len(data) - end} bytes follow the number of dropped tokens")
    return first_even(count, free)


def _free(like: Flags, mask: Flags | None) -> Flags:
    return np.ones_like(like) if mask is None else ~mask
