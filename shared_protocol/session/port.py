"""One coder with two faces: the same walk over a frame's symbols writes it or reads it.

It does not know what the symbols mean.

A function that codes something takes a `Port` and the value; a `Writer` appends the value, a
`Reader` ignores what it is given (None, as a rule) and returns what the stream says. Both remember
everything that was said, so that a check can be made of it.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

from shared_protocol.coding.bits import array_bytes, write_varint
from shared_protocol.coding.range_coder import MAX_TOTAL, RangeDecoder, RangeEncoder
from shared_protocol.errors import BadMessageError, ChecksumError

CHECK_SIZE = 1 << 16
Odds = Sequence[int]
"""Frequencies of the symbols 0, 1, 2, ..."""


class _Memory:
    """What was said so far, as bytes."""

    def __init__(self) -> None:
        self._said = bytearray()

    def note(self, values: npt.NDArray[Any]) -> None:
        """Remember an array that was coded by a coder of its own."""
        self._said += array_bytes(values)

    def digest(self, context: bytes) -> int:
        """16 bits of `context` and of everything that was said."""
        return zlib.crc32(context + self._said) & (CHECK_SIZE - 1)


class Writer(_Memory):
    """Appends what it is given.

    Attributes:
        encoder: the stream, for coders of their own.
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder = RangeEncoder()

    @property
    def bits(self) -> float:
        """Bits so far, for reports."""
        return self.encoder.bits

    def symbol(self, odds: Odds, value: int | None) -> int:
        """Append `value`, which has the frequency odds[value]."""
        assert value is not None, "a writer is told what to write"
        self.encoder.encode(sum(odds[:value]), odds[value], sum(odds))
        self._said += write_varint(value)
        return value

    def uniform(self, size: int, value: int | None) -> int:
        """Append one of `size` equally likely values, 1 <= size <= MAX_TOTAL."""
        assert value is not None, "a writer is told what to write"
        assert 0 <= value < size <= MAX_TOTAL
        self.encoder.encode(value, 1, size)
        self._said += write_varint(value)
        return value

    def check(self, context: bytes) -> None:
        """Append 16 bits that cover everything said and `context`."""
        self.encoder.encode(self.digest(context), 1, CHECK_SIZE)

    def finish(self) -> bytes:
        """The stream."""
        return self.encoder.finish()


class Reader(_Memory):
    """Reads what a `Writer` appended.

    Args:
        data: the whole stream.

    Attributes:
        decoder: the stream, for coders of their own.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.decoder = RangeDecoder(data)

    @property
    def bits(self) -> float:
        """Bits so far, for reports."""
        return self.decoder.bits

    def symbol(self, odds: Odds, value: int | None = None) -> int:
        """The next symbol; what is given as `value` is ignored, here and in `uniform`."""
        total = sum(odds)
        target, start, found = self.decoder.target(total), 0, 0
        while target >= start + odds[found]:
            start += odds[found]
            found += 1
        self.decoder.advance(start, odds[found], total)
        self._said += write_varint(found)
        return found

    def uniform(self, size: int, value: int | None = None) -> int:
        """The next of `size` equally likely values."""
        found = self.decoder.target(size)
        self.decoder.advance(found, 1, size)
        self._said += write_varint(found)
        return found

    def check(self, context: bytes) -> None:
        """Compare the 16 bits with those of everything said and of `context`.

        Raises:
            ChecksumError: they differ.
        """
        expected = self.digest(context)
        found = self.decoder.target(CHECK_SIZE)
        self.decoder.advance(found, 1, CHECK_SIZE)
        if found != expected:
            raise ChecksumError(
                "the decoded symbols of a turn are not those that were sent",
                "the frame was damaged, or the ends differ in their bundle or in what they know",
            )

    def finish(self) -> None:
        """Check that the stream ends here.

        Raises:
            BadMessageError: it goes on, ends too early, or is not the shortest one.
        """
        self.decoder.finish()


Port = Writer | Reader


def code_flag(port: Port, odds: tuple[int, int], value: bool | None) -> bool:
    """A yes or no, with the odds of (no, yes)."""
    return bool(port.symbol(odds, None if value is None else int(value)))


def code_number(port: Port, bits: int, value: int | None) -> int:
    """A number below 2^bits, in pieces of at most 16 bits, the highest first."""
    found = 0
    for shift in range((bits - 1) // 16 * 16, -1, -16):
        width = min(16, bits - shift)
        piece = None if value is None else value >> shift & ((1 << width) - 1)
        found |= port.uniform(1 << width, piece) << shift
    return found


def code_words(port: Port, limit: int, value: str | None) -> str:
    """A text for people, at most `limit` bytes of UTF-8 (cut to that by a writer).

    Raises:
        BadMessageError: what was read is not UTF-8.
    """
    data = b"" if value is None else value.encode()[:limit]
    data = data.decode(errors="ignore").encode()  # a character that was cut in two is left out
    size = port.uniform(limit + 1, len(data))
    found = bytes(
        port.uniform(256, data[index] if index < len(data) else None) for index in range(size)
    )
    try:
        return found.decode()
    except UnicodeDecodeError as error:
        raise BadMessageError("a text in a frame is not UTF-8") from error
