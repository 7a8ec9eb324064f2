from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared_protocol.coding.range_coder import (
    MAX_TOTAL,
    VIRTUAL_BYTES,
    RangeDecoder,
    RangeEncoder,
)
from shared_protocol.errors import BadMessageError, TrailingBytesError, TruncatedError
from shared_protocol.selfcheck import witness

Symbol = tuple[int, list[int]]
SLACK_BITS = 8
"""The last byte of a stream is a whole one."""

frequency = st.one_of(st.integers(1, 4), st.integers(1, 40_000))
symbols = st.lists(
    st.lists(frequency, min_size=1, max_size=6).flatmap(
        lambda table: st.tuples(st.integers(0, len(table) - 1), st.just(table))
    ),
    max_size=80,
)


def encode(message: list[Symbol]) -> bytes:
    encoder = RangeEncoder()
    for symbol, table in message:
        encoder.encode(sum(table[:symbol]), table[symbol], sum(table))
    return encoder.finish()


def decode(data: bytes, tables: list[list[int]]) -> list[int]:
    decoder, found = RangeDecoder(data), []
    for table in tables:
        target, symbol, start = decoder.target(sum(table)), 0, 0
        while target >= start + table[symbol]:
            start += table[symbol]
            symbol += 1
        decoder.advance(start, table[symbol], sum(table))
        found.append(symbol)
    decoder.finish()
    return found


def ideal_bits(message: list[Symbol]) -> float:
    return sum(-math.log2(table[symbol] / sum(table)) for symbol, table in message)


@given(symbols)
@settings(max_examples=150, deadline=None)
def test_any_symbols_come_back(message: list[Symbol]) -> None:
    assert decode(encode(message), [t for _, t in message]) == [s for s, _ in message]


@given(symbols)
@settings(max_examples=150, deadline=None)
def test_the_size_is_ideal_to_within_a_byte(message: list[Symbol]) -> None:
    assert 8 * len(encode(message)) <= ideal_bits(message) + SLACK_BITS + 0.01


def test_ten_thousand_symbols_cost_less_than_a_ten_thousandth_more_than_ideal() -> None:
    rng = random.Random(1)
    tables = [[rng.randint(1, MAX_TOTAL // 8) for _ in range(8)] for _ in range(10_000)]
    message = [(rng.choices(range(8), table)[0], table) for table in tables]
    assert 8 * len(encode(message)) <= 1.0001 * ideal_bits(message) + SLACK_BITS


def test_largest_totals_and_smallest_frequencies_come_back() -> None:
    table = [1, MAX_TOTAL - 2, 1]
    message = [(symbol, table) for symbol in (0, 2, 1, 1, 2, 0, 0, 2) * 20]
    assert decode(encode(message), [table] * 160) == [symbol for symbol, _ in message]


def test_a_carry_runs_back_over_bytes_of_ff() -> None:
    # Two symbols just below the middle, then one that pushes the value over it.
    half = 1 << 21
    table = [half - 1, 1, half]
    messages = [[(1, table), (2, table), *[(2, [1, 1, 254])] * n] for n in range(60)]
    for message in messages:
        assert decode(encode(message), [t for _, t in message]) == [s for s, _ in message]


def test_nothing_takes_no_bytes() -> None:
    assert encode([]) == b""


def test_trailing_zeros_are_dropped_only_as_far_as_a_reader_accepts() -> None:
    message = [(0, [1, 255])] * 100
    data = encode(message)
    assert data == bytes(100 + 7 - VIRTUAL_BYTES)
    assert decode(data, [[1, 255]] * 100) == [0] * 100
    with pytest.raises(TruncatedError):
        decode(data[:-1], [[1, 255]] * 100)


@given(st.binary(max_size=40), st.integers(2, MAX_TOTAL))
@settings(max_examples=100, deadline=None)
def test_reading_far_past_the_end_of_any_bytes_is_an_error(data: bytes, total: int) -> None:
    decoder = RangeDecoder(data)

    def read_on() -> None:
        for _ in range(8 * (len(data) + VIRTUAL_BYTES + 1)):
            target = decoder.target(total)
            assert 0 <= target < total
            decoder.advance(target, 1, total)

    with pytest.raises(TruncatedError):
        read_on()


def test_bytes_after_the_last_symbol_are_an_error() -> None:
    message = [(1, [3, 4, 5])] * 30
    with pytest.raises(TrailingBytesError):
        decode(encode(message) + bytes(8), [t for _, t in message])


@given(symbols)
@settings(max_examples=40, deadline=None)
def test_every_flipped_bit_gives_other_symbols_or_an_error(message: list[Symbol]) -> None:
    tables = [table for _, table in message]
    data = encode(message)
    for position in range(len(data)):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[position] ^= 1 << bit
            try:
                found = decode(bytes(damaged), tables)
            except BadMessageError:
                continue
            assert found != [symbol for symbol, _ in message]


@given(st.binary(max_size=12), st.lists(st.integers(1, 300), min_size=2, max_size=5))
@settings(max_examples=200, deadline=None)
def test_a_stream_is_taken_only_if_its_symbols_encode_to_it(data: bytes, table: list[int]) -> None:
    tables = [table] * 10
    try:
        found = decode(data, tables)
    except BadMessageError:
        return
    assert encode(list(zip(found, tables, strict=True))) == data


@pytest.mark.parametrize("last", [0x41, 0x7F, 0xFF])
def test_another_value_of_the_same_interval_is_refused(last: int) -> None:
    message = [(1, [64, 192])]
    assert encode(message) == bytes([0x40])
    with pytest.raises(BadMessageError, match="shortest"):
        decode(bytes([last]), [[64, 192]])


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 99)), max_size=100))
@settings(max_examples=100, deadline=None)
def test_bits_come_back(message: list[tuple[bool, int]]) -> None:
    encoder = RangeEncoder()
    for bit, ones in message:
        encoder.encode_bit(bit, ones, 100)
    decoder = RangeDecoder(encoder.finish())
    assert [decoder.decode_bit(ones, 100) for _, ones in message] == [bit for bit, _ in message]


def test_an_independent_coder_needs_as_many_bytes() -> None:
    rng = random.Random(2)
    table = [3, 5, 100, 20, 128]
    drawn = rng.choices(range(5), table, k=3_000)
    theirs = witness.encode(drawn, [table] * 3_000)
    assert witness.decode(theirs, [table] * 3_000) == drawn
    ours = encode([(symbol, table) for symbol in drawn])
    assert len(theirs) - 4 <= len(ours) <= len(theirs)


def test_golden_stream() -> None:
    message = [(i % 5, [3, 5, 100, 20, 128]) for i in range(20)]
    assert encode(message).hex() == GOLDEN_STREAM


GOLDEN_STREAM = "000c2b6ac90ff8f5"
