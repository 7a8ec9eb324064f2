"""constriction as the independent witness of stream lengths."""

import sys

import numpy as np
import pytest

from shared_protocol.entropy.coder import write_stream
from shared_protocol.errors import ConfigError
from shared_protocol.selfcheck import battery, roundtrip, witness


def tables_of(count, low=200):
    rng = np.random.default_rng(3)
    return rng.integers(1, 90, (count, 64)), rng.integers(1, low, (count, 128))


def intervals_of(codes, high, low):
    rows = []
    for code, *pair in zip(codes.tolist(), high, low, strict=True):
        for symbol, table in zip(divmod(code, 128), pair, strict=True):
            rows.append((table[:symbol].sum(), table[symbol], table.sum()))
    return np.array(rows, dtype=np.int64).reshape(len(codes), 2, 3)


def test_symbols_come_back_whatever_the_sums_of_their_tables():
    tables = [[1, 2, 3], [7], [5, 0, 9], [1, 1]]
    assert witness.decode(witness.encode([2, 0, 0, 1], tables), tables) == [2, 0, 0, 1]


def test_intervals_give_the_length_that_whole_tables_give():
    high, low = tables_of(100)
    codes = np.random.default_rng(4).integers(0, 64 * 128, 100)
    intervals = intervals_of(codes, high, low)
    both = [row.tolist() for pair in zip(high, low, strict=True) for row in pair]
    symbols = [part for code in codes.tolist() for part in divmod(code, 128)]
    whole = len(witness.encode(symbols, both))
    assert witness.stream_bytes(intervals) == whole
    assert witness.agrees(len(write_stream(intervals)), whole)


def test_the_battery_hears_a_witness_that_disagrees():
    high, low = tables_of(50)
    codes = np.random.default_rng(5).integers(0, 64 * 128, 50)
    good = write_stream(intervals_of(codes, high, low))
    assert battery._not_witnessed([(high, low)], [codes], [good]) == 0
    assert battery._not_witnessed([(high, low)], [codes], [good + bytes(8)]) == 100


def test_a_missing_library_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "constriction", None)
    with pytest.raises(ConfigError, match="constriction") as raised:
        witness.encode([0], [[1, 1]])
    assert "[bench]" in raised.value.remedy


@pytest.mark.parametrize(
    ("command", "flags"), [(witness.main, []), (roundtrip.main, ["--witness"])]
)
def test_commands_say_before_they_start_that_it_is_missing(command, flags, monkeypatch, capsys):
    monkeypatch.setattr(witness, "is_available", lambda: False)
    with pytest.raises(SystemExit) as ended:
        command(flags)
    assert ended.value.code == 2
    assert "unimic[bench]" in capsys.readouterr().err
