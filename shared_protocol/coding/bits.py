"""Unsigned integers as bytes: varints (LEB128) for lengths and counts, fixed widths for rows.

It does not know what is counted.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from shared_protocol.errors import (
    BadMessageError,
    LimitError,
    TrailingBytesError,
    TruncatedError,
)
from shared_protocol.tokens import Codes

MAX_BYTES = 5


def write_varint(value: int) -> bytes:
    """Shortest form of `value` >= 0.

    >>> write_varint(300).hex()
    'ac02'
    """
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data: bytes, position: int, limit: int) -> tuple[int, int]:
    """The value at `position` and the position after it.

    >>> read_varint(bytes.fromhex("ac02"), 0, 4096)
    (300, 2)

    Raises:
        TruncatedError: `data` ends first.
        LimitError: the value is above `limit`.
        BadMessageError: the value is not in its shortest form.
    """
    value = 0
    for index in range(MAX_BYTES):
        if position + index >= len(data):
            raise TruncatedError("the message ends inside a length")
        byte = data[position + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            if byte == 0 and index:
                raise BadMessageError("a length is not in its shortest form")
            if value > limit:
                raise LimitError(f"a length of {value} is over the limit of {limit}")
            return value, position + index + 1
    raise LimitError(f"a length is over the limit of {limit}")


def pack_bits(values: npt.NDArray[Any], bits: int) -> bytes:
    """Values (M,) as `bits` bits each, the highest first, zeros up to the whole byte."""
    shifts = np.arange(bits - 1, -1, -1)
    flags = (values.astype(np.int64)[:, None] >> shifts) & 1  # (M, bits)
    return np.packbits(flags.astype(np.uint8).reshape(-1)).tobytes()


def unpack_bits(data: bytes, bits: int, count: int) -> Codes:
    """The mirror of `pack_bits`.

    Raises:
        TruncatedError, TrailingBytesError: not the right number of bytes for `count` values.
        BadMessageError: the padding bits are not zero.
    """
    expected = (bits * count + 7) // 8
    if len(data) < expected:
        raise TruncatedError(
            f"{count} values of {bits} bits need {expected} bytes, got {len(data)}"
        )
    if len(data) > expected:
        raise TrailingBytesError(f"{len(data) - expected} bytes follow {count} packed values")
    flags = np.unpackbits(np.frombuffer(data, dtype=np.uint8))
    if flags[bits * count :].any():
        raise BadMessageError("the padding of packed values is not zero")
    weights = 1 << np.arange(bits - 1, -1, -1)
    values: Codes = (flags[: bits * count].reshape(count, bits) @ weights).astype(np.int32)
    return values


_WORD = "<u4"


def array_bytes(values: npt.NDArray[Any]) -> bytes:
    """The shape as 32-bit words, then ids or codes as 32-bit words, flags as bits; zeros to a byte.

    >>> array_bytes(np.array([7, 256])).hex()
    '020000000700000000010000'
    """
    shape = np.array(values.shape, dtype=_WORD).tobytes()
    if values.dtype == np.bool_:
        return shape + np.packbits(values).tobytes()
    return shape + values.astype(_WORD).tobytes()
