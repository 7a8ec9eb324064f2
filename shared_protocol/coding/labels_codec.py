"""The likeliest labels of a picture to bytes and back: numbers and levels, and names if asked for.

It does not know pictures, messages or who holds which names. With N names in the set and
b = ceil(log2 N) bits for a number (1 at least), the part is

```
 without names   set                 min(k, N) x (number, level)   b + 6 bits each, zeros to a byte
                  2 bytes
 with names      set    N - 1        the same                      then each name: length, UTF-8
                  32    varint                                             varint    1..200 bytes
```

Without names a receiver must hold the set that its first two bytes name; the checksum covers all.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from shared_protocol.coding.bits import pack_bits, read_varint, unpack_bits, write_varint
from shared_protocol.errors import (
    BadMessageError,
    LabelsMismatchError,
    TrailingBytesError,
    TruncatedError,
)
from shared_protocol.labels import LEVELS, MAX_LABELS, LabelSet, LabelWish, Ranking

MAX_NAME_BYTES = 200
"""Longest name that travels; a longer one is cut at a character."""
PREFIX_BYTES = 2
_DIGEST_BYTES = 32
_LEVEL_BITS = 6


def encode_labels(ranking: Ranking, wish: LabelWish) -> bytes:
    """The part that says `ranking`, whose names travel if `wish` says so."""
    values = np.array(ranking.numbers) << _LEVEL_BITS | np.array(ranking.levels)
    packed = pack_bits(values, number_bits(ranking.of.count) + _LEVEL_BITS)
    if not wish.names:
        return ranking.of.fingerprint[:PREFIX_BYTES] + packed
    names = b"".join(write_varint(len(name)) + name for name in map(cut, ranking.names))
    return ranking.of.fingerprint + write_varint(ranking.of.count - 1) + packed + names


def decode_labels(data: bytes, wish: LabelWish) -> Ranking:
    """The ranking that `encode_labels` coded.

    Raises:
        BadMessageError: one of its subclasses; `data` says no labels.
        InvalidInputError: labels that no ranking has.
        LabelsMismatchError: they are of a set whose names the receiver does not hold.
    """
    of, place = _read_set(data, wish)
    count = min(wish.most, of.count)
    bits = number_bits(of.count) + _LEVEL_BITS
    end = place + (bits * count + 7) // 8
    values = unpack_bits(data[place:end], bits, count)
    names = []
    for _ in range(count if wish.names else 0):
        name, end = _read_name(data, end)
        names.append(name)
    if end != len(data):
        raise TrailingBytesError(f"{len(data) - end} bytes follow the labels")
    numbers, levels = values >> _LEVEL_BITS, values & LEVELS - 1
    return Ranking(of, tuple(numbers.tolist()), tuple(levels.tolist()), tuple(names))


def held_set(prefix: bytes, wish: LabelWish) -> LabelSet:
    """The set that the receiver holds, if it is the one that begins with `prefix`.

    Raises:
        LabelsMismatchError: it is another, or there is none.
    """
    held = wish.held
    if held is None or held.fingerprint[:PREFIX_BYTES] != prefix:
        ours = "none" if held is None else held.fingerprint[:PREFIX_BYTES].hex()
        raise LabelsMismatchError(
            f"the labels are of the set {prefix.hex()}, the names held here are of {ours}",
            "ask again, for the names as well",
        )
    return held


def said_by(ranking: Ranking) -> npt.NDArray[np.int32]:
    """All that a part says as one row of numbers, for checksums.

    Fingerprint byte by byte, N, how many labels, their numbers, their levels, and of each name that
    travels its length and its bytes.
    """
    row = [*ranking.of.fingerprint, ranking.of.count, len(ranking.numbers)]
    row += [*ranking.numbers, *ranking.levels]
    for name in map(cut, ranking.names):
        row += [len(name), *name]
    return np.array(row, dtype=np.int32)


def from_said(row: npt.NDArray[np.int32]) -> Ranking:
    """The mirror of `said_by`."""
    values = row.tolist()
    count, size = values[_DIGEST_BYTES], values[_DIGEST_BYTES + 1]
    place = _DIGEST_BYTES + 2
    numbers, levels = values[place : place + size], values[place + size : place + 2 * size]
    place += 2 * size
    names = []
    while place < len(values):
        length = values[place]
        names.append(bytes(values[place + 1 : place + 1 + length]).decode())
        place += 1 + length
    of = LabelSet(bytes(values[:_DIGEST_BYTES]), count)
    return Ranking(of, tuple(numbers), tuple(levels), tuple(names))


def count_in(row: npt.NDArray[np.int32]) -> int:
    """How many labels a row of `said_by` holds."""
    return int(row[_DIGEST_BYTES + 1])


def number_bits(count: int) -> int:
    """Bits of the number of a label, one of `count`.

    >>> [number_bits(count) for count in (1, 2, 1000, 65536)]
    [1, 1, 10, 16]
    """
    return max(1, (count - 1).bit_length())


def cut(name: str) -> bytes:
    """A name as it travels: UTF-8, at most `MAX_NAME_BYTES` of it, in whole characters."""
    data = name.encode("utf-8", "replace")[:MAX_NAME_BYTES]
    return data.decode(errors="ignore").encode()


def _read_set(data: bytes, wish: LabelWish) -> tuple[LabelSet, int]:
    """Of which set the labels are, and where they begin."""
    size = _DIGEST_BYTES if wish.names else PREFIX_BYTES
    if len(data) < size:
        raise TruncatedError("the labels end inside the name of their set")
    if not wish.names:
        return held_set(data[:size], wish), size
    last, place = read_varint(data, size, MAX_LABELS - 1)
    return LabelSet(data[:size], last + 1), place


def _read_name(data: bytes, place: int) -> tuple[str, int]:
    length, place = read_varint(data, place, MAX_NAME_BYTES)
    end = place + length
    if end > len(data):
        raise TruncatedError("the labels end inside a name")
    if not length:
        raise BadMessageError("the name of a label is empty")
    try:
        return data[place:end].decode(), end
    except UnicodeDecodeError as error:
        raise BadMessageError("the name of a label is not UTF-8") from error
