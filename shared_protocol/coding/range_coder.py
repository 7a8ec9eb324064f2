"""A byte-wise range coder over integer frequencies; normative on the wire.

It does not know what the symbols mean nor where their frequencies come from.

Sender and receiver narrow the same interval, `range` wide, by the share of each symbol:

```
  0                 start          start + frequency              total
  |------------------|####################|-------------------------|
  low             low + r*start                                low + range        r = range // total
```

The last symbol of a table (start + frequency = total) also gets the remainder of the division, so
that the intervals tile `range` and no stream, however broken, can leave it. All values stay below
2^57: signed 64-bit integers suffice and a compiled kernel can mirror the statements one by one.

* `range` is kept in (2^48, 2^56]; whenever it falls to 2^48 or below one byte moves out of `low`.
* `low` is below 2^56. An addition that reaches 2^56 is a carry: one is added to the last byte
  written, walking back over 0xFF bytes. It cannot run past the first byte, since the coded number
  is below one.
* The stream is the shortest byte string whose value, zeros appended, lies in the last interval, and
  the smallest of these. A receiver refuses any other, so that every flipped bit shows: there is one
  stream for each row of symbols.
  Trailing zero bytes are dropped; at most `VIRTUAL_BYTES - 7` of them, so that a receiver that
  has read more than `VIRTUAL_BYTES` beyond the end knows that the stream was cut.

With totals up to `MAX_TOTAL` = 2^22 the quotient r is above 2^26: the division loses below 10^-7.
"""

from __future__ import annotations

from math import log2

from shared_protocol.errors import BadMessageError, TrailingBytesError, TruncatedError

TOP_BITS = 56
TOP = 1 << TOP_BITS
BOTTOM_BITS = TOP_BITS - 8
BOTTOM = 1 << BOTTOM_BITS
HEAD_BYTES = TOP_BITS // 8
"""Bytes that a decoder reads before its first symbol."""
MAX_TOTAL = 1 << 22
"""Largest sum of frequencies."""
VIRTUAL_BYTES = 16
"""How many zero bytes beyond the end a decoder may read; more means a truncated stream."""


class RangeEncoder:
    """Turns (start, frequency, total) triples into bytes.

    >>> encoder = RangeEncoder()
    >>> encoder.encode(1, 2, 4)
    >>> encoder.finish().hex()
    '40'
    """

    def __init__(self) -> None:
        self._low = 0
        self._range = TOP
        self._out = bytearray()

    @property
    def bits(self) -> float:
        """What the symbols so far take, in bits; for reports, never for coding."""
        return 8 * len(self._out) + TOP_BITS - log2(self._range)

    def encode(self, start: int, frequency: int, total: int) -> None:
        """Append one symbol.

        Args:
            start: sum of the frequencies of the symbols before it in the table.
            frequency: its own, at least 1.
            total: sum of all, at most `MAX_TOTAL`.
        """
        assert 0 <= start < start + frequency <= total <= MAX_TOTAL
        share = self._range // total
        offset = share * start
        self._low += offset
        last = start + frequency == total
        self._range = self._range - offset if last else share * frequency
        if self._low >= TOP:
            self._carry()
        while self._range <= BOTTOM:
            self._out.append(self._low >> BOTTOM_BITS)
            self._low = (self._low & (BOTTOM - 1)) << 8
            self._range <<= 8

    def encode_bit(self, bit: int, ones: int, total: int) -> None:
        """Append a bit whose probability of being 1 is `ones / total`, 0 < ones < total."""
        if bit:
            self.encode(total - ones, ones, total)
        else:
            self.encode(0, total - ones, total)

    def finish(self) -> bytes:
        """The stream; the encoder must not be used afterwards."""
        reads = len(self._out) + HEAD_BYTES
        self._settle()
        while self._out and self._out[-1] == 0:
            self._out.pop()
        shortest = reads - VIRTUAL_BYTES
        self._out.extend(bytes(max(0, shortest - len(self._out))))
        return bytes(self._out)

    def _settle(self) -> None:
        """Write the fewest bytes of `low` that name a value inside the interval."""
        for count in range(HEAD_BYTES + 1):
            unit = 1 << (TOP_BITS - 8 * count)
            value = -(-self._low // unit) * unit
            if value < self._low + self._range:
                break
        self._low = value
        if value >= TOP:
            self._carry()
        self._out += self._low.to_bytes(HEAD_BYTES, "big")[:count]

    def _carry(self) -> None:
        self._low -= TOP
        place = len(self._out) - 1
        while self._out[place] == 0xFF:
            self._out[place] = 0
            place -= 1
        self._out[place] += 1


class RangeDecoder:
    """The mirror of `RangeEncoder`: ask for the target, find the symbol, advance by its triple.

    >>> decoder = RangeDecoder(bytes.fromhex("40"))
    >>> decoder.target(4)
    1
    >>> decoder.advance(1, 2, 4)
    >>> decoder.finish()

    Args:
        data: the stream, exactly; its length comes from the container.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = HEAD_BYTES
        self._code = int.from_bytes(data[:HEAD_BYTES].ljust(HEAD_BYTES, b"\0"), "big")
        self._range = TOP

    @property
    def data(self) -> bytes:
        """The stream."""
        return self._data

    @property
    def state(self) -> tuple[int, int, int]:
        """Code, range and position: all that says where in the stream this decoder stands.

        A compiled decoder takes them, goes on from there and sets them to where it has come.
        """
        return self._code, self._range, self._position

    @state.setter
    def state(self, state: tuple[int, int, int]) -> None:
        self._code, self._range, self._position = state

    @property
    def bits(self) -> float:
        """What the symbols so far took, in bits; for reports, never for coding."""
        return 8 * (self._position - HEAD_BYTES) + TOP_BITS - log2(self._range)

    def target(self, total: int) -> int:
        """A number in [0, total): the symbol has start <= number < start + frequency."""
        assert 1 <= total <= MAX_TOTAL
        return min(self._code // (self._range // total), total - 1)

    def advance(self, start: int, frequency: int, total: int) -> None:
        """Drop the symbol that `target` named.

        Raises:
            TruncatedError: more than `VIRTUAL_BYTES` were read beyond the end.
        """
        offset = (self._range // total) * start
        self._code -= offset
        last = start + frequency == total
        self._range = self._range - offset if last else (self._range // total) * frequency
        while self._range <= BOTTOM:
            self._code = (self._code << 8) | self._next_byte()
            self._range <<= 8

    def decode_bit(self, ones: int, total: int) -> int:
        """The bit that `RangeEncoder.encode_bit` appended with the same probability."""
        if self.target(total) >= total - ones:
            self.advance(total - ones, ones, total)
            return 1
        self.advance(0, total - ones, total)
        return 0

    def finish(self) -> None:
        """Check the end of the stream.

        Raises:
            TrailingBytesError: bytes are left that no symbol has used, or zeros that no encoder
                would have written.
            TruncatedError: the stream is shorter than any encoder would have made it.
            BadMessageError: another stream of the same symbols is the one that an encoder writes.
        """
        if self._position < len(self._data):
            extra = len(self._data) - self._position
            raise TrailingBytesError(f"{extra} bytes follow the last symbol of a coded part")
        if self._data.endswith(b"\0") and len(self._data) > self._position - VIRTUAL_BYTES:
            raise TrailingBytesError("zero bytes follow the last symbol of a coded part")
        self._check_end()
        if not self._is_shortest():
            raise BadMessageError("a coded part is not the shortest stream of its symbols")

    def _is_shortest(self) -> bool:
        """Whether the last byte is the one that `RangeEncoder._settle` chose.

        `code` is how far the stream's value lies above `low`. The encoder takes the first multiple
        of the last byte's unit from `low` on, and only if there is none of the byte before it.
        """
        count = len(self._data) - self._position + HEAD_BYTES
        if count <= 0:  # all bytes have left the window: the interval holds one such value at most
            return True
        unit = 1 << (TOP_BITS - 8 * count)
        above = (256 - self._data[-1]) * unit  # to the next value that ends a byte earlier
        return self._code < unit and self._range - self._code <= above

    def _next_byte(self) -> int:
        position = self._position
        self._position += 1
        if position < len(self._data):
            return self._data[position]
        self._check_end()
        return 0

    def _check_end(self) -> None:
        if self._position - len(self._data) > VIRTUAL_BYTES:
            raise self.truncated()

    def truncated(self) -> TruncatedError:
        """The error that says that this stream ends too early."""
        return TruncatedError(f"a coded part of {len(self._data)} bytes ends too early")
