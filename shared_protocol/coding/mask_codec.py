"""Token masks to bytes and back: a rectangle, a context-modelled bitmap, or plain bits.

It does not know images or tasks, only an (H, W) grid of flags.

A mask is one range-coded stream. Its first symbol is the mode:

```
 RECTANGLE  pair of rows, pair of columns, both uniform: 2 bytes at 16x16
 CONTEXT    every flag in raster order, its probability from the flags around it:

              . B C D .      flags that are coded already; outside the grid they are 0.
            A E F G H I      Each pattern has a count of ones and of all, which starts from the
            J K x            prior and adapts as the flags go by.
 RAW        every flag at one bit
```
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import msgpack
import numpy as np
import numpy.typing as npt

from shared_protocol.coding.range_coder import RangeDecoder, RangeEncoder
from shared_protocol.errors import CheckpointError
from shared_protocol.files import read_regular, write_atomically
from shared_protocol.tokens import Flags

TEMPLATE = (
    (-2, -1), (-2, 0), (-2, 1),
    (-1, -2), (-1, -1), (-1, 0), (-1, 1), (-1, 2),
    (0, -2), (0, -1),
)  # fmt: skip
"""(row, column) offsets of the neighbours, the highest bit of a pattern first."""
PATTERNS = 1 << len(TEMPLATE)
UNIT = 16
"""What one flag adds to a count."""
MAX_COUNT = 1 << 12
"""A pattern's counts are halved beyond this."""
_MARGIN = 2
_MAX_FILE = 1 << 16


class MaskMode(IntEnum):
    """How a mask is coded; the numbers are fixed on the wire."""

    RECTANGLE = 0
    CONTEXT = 1
    RAW = 2


_MODE_FREQUENCIES = {MaskMode.RECTANGLE: 6, MaskMode.CONTEXT: 9, MaskMode.RAW: 1}
_MODE_TOTAL = sum(_MODE_FREQUENCIES.values())


@dataclass(frozen=True, eq=False)
class MaskPrior:
    """What the counts of each pattern start from.

    Args:
        ones: (PATTERNS,) int32 count of ones, 1 .. totals-1, in units of 1/UNIT flag.
        totals: (PATTERNS,) int32 count of flags, up to `MAX_COUNT`.

    Raises:
        CheckpointError: counts that cannot be coded.
    """

    ones: npt.NDArray[np.int32]
    totals: npt.NDArray[np.int32]

    def __post_init__(self) -> None:
        right_shape = self.ones.shape == self.totals.shape == (PATTERNS,)
        if not right_shape or not bool(
            ((self.ones >= 1) & (self.ones < self.totals) & (self.totals <= MAX_COUNT)).all()
        ):
            raise CheckpointError("the mask prior has counts that cannot be coded")


BitCoder = Callable[[int, int, int, int], int]
"""(row, column, ones, total) -> the flag there, written or read with probability ones / total."""


def encode_mask(flags: Flags, prior: MaskPrior | None = None) -> bytes:
    """The shortest coding of an (H, W) mask."""
    return min((_stream(flags, mode, prior) for mode in _modes(flags)), key=len)


def write_mask(encoder: RangeEncoder, flags: Flags, prior: MaskPrior | None = None) -> None:
    """Append an (H, W) mask, in the mode that is shortest alone."""
    mode = min(_modes(flags), key=lambda mode: len(_stream(flags, mode, prior)))
    _write(encoder, flags, mode, prior)


def decode_mask(data: bytes, shape: tuple[int, ...], prior: MaskPrior | None = None) -> Flags:
    """The (H, W) mask that `encode_mask` coded.

    Raises:
        BadMessageError: one of its subclasses; `data` is no mask of this shape.
    """
    decoder = RangeDecoder(data)
    flags = read_mask(decoder, shape, prior)
    decoder.finish()
    return flags


def read_mask(
    decoder: RangeDecoder, shape: tuple[int, ...], prior: MaskPrior | None = None
) -> Flags:
    """The (H, W) mask that `write_mask` appended."""
    mode = _decode_mode(decoder)
    if mode is MaskMode.RECTANGLE:
        return _decode_rectangle(decoder, shape)
    return _walk(shape, mode, prior, lambda _y, _x, ones, total: decoder.decode_bit(ones, total))


def _modes(flags: Flags) -> list[MaskMode]:
    """The ways to code a mask, the most usual first."""
    return [mode for mode in MaskMode if mode is not MaskMode.RECTANGLE or _bounds(flags)]


def _stream(flags: Flags, mode: MaskMode, prior: MaskPrior | None) -> bytes:
    encoder = RangeEncoder()
    _write(encoder, flags, mode, prior)
    return encoder.finish()


def _write(encoder: RangeEncoder, flags: Flags, mode: MaskMode, prior: MaskPrior | None) -> None:
    _encode_mode(encoder, mode)
    bounds = _bounds(flags) if mode is MaskMode.RECTANGLE else None
    if bounds is not None:
        _write_rectangle(encoder, bounds, flags.shape)
    else:
        _write_bitmap(encoder, flags, mode, prior)


def _encode_mode(encoder: RangeEncoder, mode: MaskMode) -> None:
    encoder.encode(_start_of(mode), _MODE_FREQUENCIES[mode], _MODE_TOTAL)


def _decode_mode(decoder: RangeDecoder) -> MaskMode:
    target = decoder.target(_MODE_TOTAL)  # below the total, so that one of them holds it
    mode = next(mode for mode in MaskMode if target < _start_of(mode) + _MODE_FREQUENCIES[mode])
    decoder.advance(_start_of(mode), _MODE_FREQUENCIES[mode], _MODE_TOTAL)
    return mode


def _start_of(mode: MaskMode) -> int:
    return sum(f for other, f in _MODE_FREQUENCIES.items() if other < mode)


def _write_bitmap(
    encoder: RangeEncoder, flags: Flags, mode: MaskMode, prior: MaskPrior | None
) -> None:
    def write(row: int, column: int, ones: int, total: int) -> int:
        bit = int(flags[row, column])
        encoder.encode_bit(bit, ones, total)
        return bit

    _walk(flags.shape, mode, prior, write)


def _walk(shape: tuple[int, ...], mode: MaskMode, prior: MaskPrior | None, code: BitCoder) -> Flags:
    """Visit every flag in raster order, the same way at both ends; returns the mask."""
    height, width = shape
    grid = [[0] * (width + 2 * _MARGIN) for _ in range(height + _MARGIN)]
    ones = [UNIT // 2] * PATTERNS if prior is None else prior.ones.tolist()
    totals = [UNIT] * PATTERNS if prior is None else prior.totals.tolist()
    for row in range(height):
        for column in range(width):
            if mode is MaskMode.RAW:
                bit = code(row, column, 1, 2)
            else:
                pattern = _pattern(grid, row + _MARGIN, column + _MARGIN)
                bit = code(row, column, ones[pattern], totals[pattern])
                _count(ones, totals, pattern, bit)
            grid[row + _MARGIN][column + _MARGIN] = bit
    rows = np.array(grid, dtype=bool)[_MARGIN:, _MARGIN : _MARGIN + width]
    return np.ascontiguousarray(rows)


def _pattern(grid: list[list[int]], row: int, column: int) -> int:
    pattern = 0
    for down, right in TEMPLATE:
        pattern = pattern << 1 | grid[row + down][column + right]
    return pattern


def _count(ones: list[int], totals: list[int], pattern: int, bit: int) -> None:
    """Let a pattern's counts follow what was seen; both ones and zeros stay at least 1."""
    ones[pattern] += UNIT * bit
    totals[pattern] += UNIT
    if totals[pattern] > MAX_COUNT:
        zeros = (totals[pattern] - ones[pattern] + 1) >> 1
        ones[pattern] = (ones[pattern] + 1) >> 1
        totals[pattern] = ones[pattern] + zeros


def _bounds(flags: Flags) -> tuple[int, int, int, int] | None:
    """(first row, last row, first column, last column) if the mask is one full rectangle."""
    rows, columns = np.flatnonzero(flags.any(axis=1)), np.flatnonzero(flags.any(axis=0))
    if not len(rows):
        return None
    top, bottom, left, right = int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])
    full = bool(flags[top : bottom + 1, left : right + 1].all())
    return (top, bottom, left, right) if full else None


def _write_rectangle(
    encoder: RangeEncoder, bounds: tuple[int, int, int, int], shape: tuple[int, ...]
) -> None:
    for first, last, size in ((*bounds[:2], shape[0]), (*bounds[2:], shape[1])):
        encoder.encode(_pair_index(first, last), 1, size * (size + 1) // 2)


def _decode_rectangle(decoder: RangeDecoder, shape: tuple[int, ...]) -> Flags:
    sides = []
    for size in shape:
        total = size * (size + 1) // 2
        index = decoder.target(total)
        decoder.advance(index, 1, total)
        sides.append(_pair(index))
    flags = np.zeros(shape, dtype=bool)
    (top, bottom), (left, right) = sides
    flags[top : bottom + 1, left : right + 1] = True
    return flags


def _pair_index(first: int, last: int) -> int:
    """Number of the pair first <= last, counted by `last`.

    >>> [_pair_index(a, b) for b in range(3) for a in range(b + 1)]
    [0, 1, 2, 3, 4, 5]
    """
    return last * (last + 1) // 2 + first


def _pair(index: int) -> tuple[int, int]:
    last = 0
    while _pair_index(0, last + 1) <= index:
        last += 1
    return index - _pair_index(0, last), last


def save_mask_prior(prior: MaskPrior, path: Path) -> None:
    """Write a prior as a msgpack map of two integer rows."""
    content = {"version": 1, "ones": prior.ones.tolist(), "totals": prior.totals.tolist()}
    write_atomically(path, msgpack.packb(content))


def load_mask_prior(path: Path) -> MaskPrior:
    """Read what `save_mask_prior` wrote.

    Raises:
        CheckpointError: no such file, or not a mask prior.
    """
    remedy = "the file is damaged; install the bundle again"
    try:
        data = read_regular(path, _MAX_FILE)
        content = msgpack.unpackb(data, max_array_len=PATTERNS, max_map_len=8, max_str_len=64)
        rows = (np.array(content[name], dtype=np.int32) for name in ("ones", "totals"))
        return MaskPrior(*rows)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}", remedy) from error
    except CheckpointError:
        raise
    except Exception as error:  # whatever stands in a file that claims to be one
        raise CheckpointError(f"{path} is not a mask prior: {str(error)[:200]}", remedy) from error
