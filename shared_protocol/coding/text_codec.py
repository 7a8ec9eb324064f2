"""Text ids to bytes and back: three coders, of which the sender takes the one with fewest bytes.

It does not know words or tokenizers, only ids, the size of their alphabet and a table of counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import numpy.typing as npt

from shared_protocol.coding.bits import pack_bits, read_varint, unpack_bits, write_varint
from shared_protocol.coding.range_coder import RangeDecoder, RangeEncoder
from shared_protocol.errors import (
    BadMessageError,
    CheckpointError,
    LimitError,
    TruncatedError,
)
from shared_protocol.files import read_regular, write_atomically
from shared_protocol.tokens import Codes

MAX_IDS = 4096
"""Longest text in ids, unless a caller sets a lower limit."""
MASS = 1 << 20
"""What the frequencies of one context sum to, about."""
KEEP_UNIT_BITS = 8
MAX_FILE = 16 << 20
MAX_TABLES = 2
MAX_VOCABULARY = 1 << 18
MAX_CONTEXTS = 1 << 20
MAX_SUCCESSORS = 1 << 20
"""Sizes beyond which a prior's file is not read; the built-in one has a twentieth of each."""
_MAX_LEVELS = 1 << 16
_MAX_VALUE = 1 << 40
"""Of one value of a row, so that no sum of them leaves 64 bits."""

Ints = npt.NDArray[np.int64]


class TextCoder(IntEnum):
    """How a text part is coded; the numbers are fixed on the wire, 3 is reserved."""

    BROTLI = 0
    """Table I: ids as little-endian 16-bit words (32-bit from 65,537 ids up), then Brotli."""
    PACKED = 1
    """Count as varint, then ids of ceil(log2 V) bits."""
    PRIOR = 2
    """Range coder with the bundle's static prior, closed by the end-of-text id."""


@dataclass(frozen=True, eq=False)
class ContextTable:
    """Likely next ids after each of C contexts of `order` ids.

    Args:
        order: number of ids in a context.
        keys: (C,) int64 ascending; a context's ids as digits in base V, the oldest first.
        offsets: (C+1,) int64; the successors of context c are those from offsets[c] on.
        successors: (S,) int64 ids, ascending within a context.
        masses: (S,) int64 frequencies that are added to them; a context's sum is at most `MASS`.
        keeps: (C,) int64; the lower orders' frequencies are scaled by keep / 256.
    """

    order: int
    keys: Ints
    offsets: Ints
    successors: Ints
    masses: Ints
    keeps: Ints

    def find(self, key: int) -> int | None:
        """Index of a context, None if the table does not have it."""
        index = int(np.searchsorted(self.keys, key))
        return index if index < len(self.keys) and int(self.keys[index]) == key else None


@dataclass(frozen=True, eq=False)
class TextPrior:
    """A static back-off model of text, all integers, shipped with a bundle.

    ```
      base (V,) ─► x keep/256 + masses after (id n-1) ─► x keep/256 + masses after (n-2, n-1) ─►
    ```

    Args:
        end_id: id that ends a text and stands before its first id.
        base: (V,) int64 frequencies >= 1 without context, summing to at most `MASS`.
        tables: context tables, lowest order first.

    Raises:
        CheckpointError: frequencies that the range coder could not use.
    """

    end_id: int
    base: Ints
    tables: tuple[ContextTable, ...] = ()

    def __post_init__(self) -> None:
        sums = [int(self.base.sum())]
        for table in self.tables:
            sums += np.add.reduceat(table.masses, table.offsets[:-1]).tolist()
        ends = 0 <= self.end_id < len(self.base)
        if not ends or int(self.base.min()) < 1 or max(sums) > MASS or len(self.tables) > 2:
            raise CheckpointError("the text prior has frequencies that cannot be coded")

    @property
    def size(self) -> int:
        """Number V of ids."""
        return len(self.base)

    def frequencies(self, history: list[int]) -> Ints:
        """Frequencies (V,) int64 of the next id, each at least 1, after `history`."""
        context = [self.end_id, *history]
        frequencies = self.base
        for table in self.tables:
            if len(context) < table.order:
                break
            key = 0
            for entry in context[-table.order :]:
                key = key * self.size + entry
            row = table.find(key)
            if row is None:
                continue
            kept = (frequencies * table.keeps[row]) >> KEEP_UNIT_BITS
            frequencies = np.maximum(kept, 1)
            part = slice(int(table.offsets[row]), int(table.offsets[row + 1]))
            frequencies[table.successors[part]] += table.masses[part]
        return frequencies


def encode_text(
    ids: Codes, vocabulary_size: int, prior: TextPrior | None = None, limit: int = MAX_IDS
) -> tuple[TextCoder, bytes]:
    """The shortest coding of `ids` (N,), N >= 0; ties go to the lower number.

    Raises:
        LimitError: more than `limit` ids.
    """
    if len(ids) > limit:
        raise LimitError(f"a text of {len(ids)} ids is over the limit of {limit}")
    coded = {
        TextCoder.BROTLI: _encode_brotli(ids, vocabulary_size),
        TextCoder.PACKED: _encode_packed(ids, vocabulary_size),
    }
    if prior is not None and prior.end_id not in ids:
        coded[TextCoder.PRIOR] = _encode_prior(ids, prior)
    coder = min(coded, key=lambda name: (len(coded[name]), name))
    return coder, coded[coder]


def decode_text(
    data: bytes,
    coder: TextCoder,
    vocabulary_size: int,
    prior: TextPrior | None = None,
    limit: int = MAX_IDS,
) -> Codes:
    """The ids (N,) int32 that `encode_text` coded.

    Raises:
        BadMessageError: `data` is no such text, or codes more than `limit` ids.
    """
    if coder is TextCoder.PRIOR:
        if prior is None:
            raise BadMessageError("the text needs a prior, which this bundle does not have")
        return _decode_prior(data, prior, limit)
    decode: Callable[[bytes, int, int], Codes]
    decode = _decode_brotli if coder is TextCoder.BROTLI else _decode_packed
    ids = decode(data, vocabulary_size, limit)
    if ids.size and int(ids.max()) >= vocabulary_size:
        raise BadMessageError(f"text id {int(ids.max())} is outside 0..{vocabulary_size - 1}")
    return ids


def packed_size(count: int, vocabulary_size: int) -> int:
    """Bytes of `count` ids under `TextCoder.PACKED`, the uniform coding of text."""
    return len(write_varint(count)) + (count * _id_bits(vocabulary_size) + 7) // 8


def _id_bits(vocabulary_size: int) -> int:
    return max(1, (vocabulary_size - 1).bit_length())


def _word(vocabulary_size: int) -> str:
    return "<u2" if vocabulary_size <= 1 << 16 else "<u4"


def _encode_brotli(ids: Codes, vocabulary_size: int) -> bytes:
    import brotli  # five megabytes of library, which picture files do not need

    data = np.asarray(ids).astype(_word(vocabulary_size)).tobytes()
    packed: bytes = brotli.compress(data, quality=11, lgwin=16)
    return packed


def _decode_brotli(data: bytes, vocabulary_size: int, limit: int) -> Codes:
    import brotli

    word = np.dtype(_word(vocabulary_size))
    unpacker = brotli.Decompressor()
    try:
        plain = unpacker.process(data, output_buffer_limit=limit * word.itemsize + 1)
    except brotli.error as error:
        raise BadMessageError("the text is not a Brotli stream") from error
    if len(plain) > limit * word.itemsize:
        raise LimitError(f"a text is over the limit of {limit} ids")
    if not unpacker.is_finished():
        raise TruncatedError("the text's Brotli stream ends too early")
    if len(plain) % word.itemsize:
        raise BadMessageError(f"a text of {len(plain)} bytes is not whole ids")
    ids = np.frombuffer(plain, dtype=word).astype(np.int64)
    return _narrow(ids, vocabulary_size)


def _narrow(ids: Ints, vocabulary_size: int) -> Codes:
    return np.minimum(ids, vocabulary_size).astype(np.int32)


def _encode_packed(ids: Codes, vocabulary_size: int) -> bytes:
    return write_varint(len(ids)) + pack_bits(ids, _id_bits(vocabulary_size))


def _decode_packed(data: bytes, vocabulary_size: int, limit: int) -> Codes:
    count, start = read_varint(data, 0, limit)
    return unpack_bits(data[start:], _id_bits(vocabulary_size), count)


def _encode_prior(ids: Codes, prior: TextPrior) -> bytes:
    encoder = RangeEncoder()
    write_prior(encoder, ids, prior)
    return encoder.finish()


def write_prior(encoder: RangeEncoder, ids: Codes, prior: TextPrior) -> None:
    """Append `ids` (N,) and the end of the text; none of them may be `prior.end_id`."""
    history: list[int] = []
    for symbol in [*np.asarray(ids).tolist(), prior.end_id]:
        frequencies = prior.frequencies(history)
        ends = np.cumsum(frequencies)
        frequency = int(frequencies[symbol])
        encoder.encode(int(ends[symbol]) - frequency, frequency, int(ends[-1]))
        history.append(symbol)


def _decode_prior(data: bytes, prior: TextPrior, limit: int) -> Codes:
    decoder = RangeDecoder(data)
    ids = read_prior(decoder, prior, limit)
    decoder.finish()
    return ids


def read_prior(decoder: RangeDecoder, prior: TextPrior, limit: int) -> Codes:
    """The ids (N,) int32 that `write_prior` appended.

    Raises:
        LimitError: there are more than `limit` of them.
    """
    history: list[int] = []
    while True:
        frequencies = prior.frequencies(history)
        ends = np.cumsum(frequencies)
        symbol = int(np.searchsorted(ends, decoder.target(int(ends[-1])), side="right"))
        frequency = int(frequencies[symbol])
        decoder.advance(int(ends[symbol]) - frequency, frequency, int(ends[-1]))
        if symbol == prior.end_id:
            break
        if len(history) == limit:
            raise LimitError(f"a text is over the limit of {limit} ids")
        history.append(symbol)
    return np.array(history, dtype=np.int32)


def save_text_prior(prior: TextPrior, path: Path) -> None:
    """Write a prior as a msgpack map of Brotli-packed integer rows."""
    write_atomically(path, dump_text_prior(prior))


def dump_text_prior(prior: TextPrior) -> bytes:
    """The bytes of a prior's file."""
    tables = [
        {
            "order": table.order,
            "keys": _pack_row(np.diff(table.keys, prepend=0)),
            "counts": _pack_row(np.diff(table.offsets)),
            "successors": _pack_row(_steps(table)),
            "levels": np.unique(table.masses).tolist(),
            "masses": _pack_row(np.unique(table.masses, return_inverse=True)[1]),
            "keeps": _pack_row(table.keeps),
        }
        for table in prior.tables
    ]
    content = {"version": 1, "end": prior.end_id, "base": _pack_row(prior.base), "tables": tables}
    packed: bytes = msgpack.packb(content)
    return packed


def load_text_prior(path: Path) -> TextPrior:
    """Read what `save_text_prior` wrote.

    Raises:
        CheckpointError: no such file, or not a text prior.
    """
    remedy = "the file is damaged; install the bundle again"
    try:
        data = read_regular(path, MAX_FILE)
        content = msgpack.unpackb(
            data, max_array_len=_MAX_LEVELS, max_map_len=16, max_str_len=64, max_ext_len=0
        )
        if len(content["tables"]) > MAX_TABLES:
            raise ValueError(f"it has {len(content['tables'])} tables, at most {MAX_TABLES} are")
        base = _unpack_row(content["base"], MAX_VOCABULARY)
        tables = tuple(_load_table(table, len(base)) for table in content["tables"])
        return TextPrior(int(content["end"]), base, tables)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}", remedy) from error
    except CheckpointError:
        raise
    except Exception as error:  # whatever stands in a file that claims to be one
        raise CheckpointError(f"{path} is not a text prior: {str(error)[:200]}", remedy) from error


def _steps(table: ContextTable) -> Ints:
    """Each successor as its distance from the one before it; the first of a context as it is."""
    steps = np.diff(table.successors, prepend=0)
    firsts = table.offsets[:-1]
    steps[firsts] = table.successors[firsts]
    return steps


def _load_table(content: dict[str, Any], size: int) -> ContextTable:
    """A table of ids below `size`, its counts checked before they make anything larger."""
    order = content["order"]
    counts = _unpack_row(content["counts"], MAX_CONTEXTS)
    steps = _unpack_row(content["successors"], MAX_SUCCESSORS)
    keys = np.cumsum(_unpack_row(content["keys"], MAX_CONTEXTS))
    keeps = _unpack_row(content["keeps"], MAX_CONTEXTS)
    levels = np.array(content["levels"], dtype=np.int64)[
        _unpack_row(content["masses"], MAX_SUCCESSORS)
    ]
    whole = type(order) is int and 1 <= order <= MAX_TABLES
    if not whole or len({len(counts), len(keys), len(keeps)}) != 1 or not len(counts):
        raise ValueError("its rows do not fit each other")
    if int(counts.min()) < 1 or int(counts.sum()) != len(steps) or len(levels) != len(steps):
        raise ValueError("its counts do not fit its rows")
    offsets = np.concatenate([[0], np.cumsum(counts)])
    running = np.cumsum(steps)
    before = np.concatenate([[0], running])[offsets[:-1]]
    successors = running - np.repeat(before, counts)
    _check_row("a successor", successors, size - 1)
    _check_row("a mass", levels, MASS)
    _check_row("a keep", keeps, 1 << KEEP_UNIT_BITS)
    _check_row("a context", keys, size**order - 1)
    if bool((np.diff(keys) <= 0).any()):
        raise ValueError("its contexts are not in order")
    return ContextTable(order, keys, offsets, successors, levels, keeps)


def _check_row(name: str, values: Ints, most: int) -> None:
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > most:
        raise ValueError(f"{name} is {low if low < 0 else high}, not 0..{most}")


def _pack_row(values: Ints) -> bytes:
    """Unsigned integers, byte planes apart (all lowest bytes first), then Brotli."""
    import brotli

    planes = values.astype("<u8").view(np.uint8).reshape(-1, 8).T  # (8, N)
    packed: bytes = brotli.compress(planes.tobytes(), quality=11)
    return packed


def _unpack_row(data: bytes, most: int) -> Ints:
    """The values of a row, up to `most`; a longer one is not unpacked any further."""
    import brotli

    unpacker, plain = brotli.Decompressor(), b""
    try:
        # It stops at the end of a block beyond the limit, which has no more than 16 MB.
        plain = unpacker.process(data, output_buffer_limit=8 * most + 1)
    except brotli.error as error:
        raise ValueError("a row is no Brotli stream") from error
    if len(plain) > 8 * most or not unpacker.is_finished():
        raise ValueError(f"a row has over {most:,} values, or is cut short")
    planes = np.frombuffer(plain, dtype=np.uint8).reshape(8, -1)
    values = np.ascontiguousarray(planes.T).view("<u8").reshape(-1)
    if values.size and int(values.max()) > _MAX_VALUE:
        raise ValueError(f"a row holds {int(values.max())}")
    return values.astype(np.int64)
