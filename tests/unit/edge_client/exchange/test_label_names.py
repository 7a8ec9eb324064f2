"""Names of labels that a device keeps: learnt, found again, bounded, and nobody else's to read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import msgpack
import pytest

from edge_client.exchange import label_names
from edge_client.exchange.label_names import MAX_FILE, MOST_NAMES, LabelNames, read_names
from shared_protocol.labels import LabelSet, Ranking

SET = LabelSet(b"s" * 32, 100)
OTHER = LabelSet(b"o" * 32, 100)
FOX = Ranking(SET, (7, 3), (60, 5), ("fox", "hat"))
BARE = Ranking(SET, (3, 7), (50, 5))


def packed(**changes: object) -> bytes:
    content = {"version": 1, "fingerprint": b"s" * 32, "count": 9, "names": {1: "a"}}
    data: bytes = msgpack.packb({**content, **changes})
    return data


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UNIMIC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "labels"


def test_what_a_reply_says_is_known_for_the_next_one_and_after_a_restart(cache: Path) -> None:
    names = LabelNames.of("http://h")
    assert names.held is None
    assert names.named(BARE) is None
    names.learn(FOX)
    for each in (names, LabelNames.of("http://h")):
        assert each.held == SET
        labels = each.named(BARE)
        assert labels is not None
        assert [label.name for label in labels] == ["hat", "fox"]
        assert labels[0].probability == pytest.approx(BARE.probabilities[0], abs=1e-4)
        assert each.named(Ranking(SET, (4,), (9,))) is None


def test_names_add_up_for_one_set_and_another_set_begins_anew() -> None:
    names = LabelNames()
    names.learn(FOX)
    names.learn(Ranking(SET, (9,), (60,), ("sun",)))
    assert names.named(Ranking(SET, (9, 7), (3, 3))) is not None
    assert names.named(Ranking(OTHER, (9, 7), (3, 3))) is None
    names.learn(Ranking(OTHER, (1,), (60,), ("moon",)))
    assert names.held == OTHER
    assert names.named(BARE) is None


def test_what_one_server_says_is_never_used_for_another() -> None:
    LabelNames.of("http://h").learn(FOX)
    assert LabelNames.of("http://evil").held is None


def test_a_file_is_its_users_alone(cache: Path) -> None:
    LabelNames.of("http://h").learn(FOX)
    (file,) = cache.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700


def test_names_that_steer_a_terminal_are_made_safe() -> None:
    names = LabelNames()
    evil = ("\x1b[31mred\x07\u202e", "\x00\n")
    names.learn(Ranking(SET, (7, 3), (60, 5), evil))
    labels = names.named(BARE)
    assert labels is not None
    assert [label.name for label in labels] == ["label 3", "[31mred"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"nonsense",
        msgpack.packb([1]),
        packed(version=2),
        packed(fingerprint=b"s" * 31),
        packed(count=0),
        packed(count=1 << 17),
        packed(names={9: "a"}),
        packed(names={True: "a"}),
        packed(names={1: "\x1b"}),
        packed(names={1: ""}),
        packed(names={}),
    ],
)
def test_a_file_that_is_none_counts_as_nothing(content: bytes, cache: Path) -> None:
    assert read_names(content) == (None, {})
    names = LabelNames.of("http://h")
    names.learn(FOX)
    (file,) = cache.iterdir()
    file.write_bytes(content)
    assert LabelNames.of("http://h").held is None


def test_a_file_is_read_as_it_was_written() -> None:
    assert read_names(packed()) == (LabelSet(b"s" * 32, 9), {1: "a"})


def test_a_file_over_the_limit_is_not_read(cache: Path) -> None:
    LabelNames.of("http://h").learn(FOX)
    (file,) = cache.iterdir()
    with file.open("ab") as open_file:
        open_file.truncate(MAX_FILE + 1)
    assert LabelNames.of("http://h").held is None


def test_only_so_many_names_and_so_many_servers_are_kept(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = LabelSet(b"l" * 32, 1 << 16)
    names = LabelNames()
    for start in range(0, MOST_NAMES + 250, 250):
        row = tuple(range(start, start + 250))
        names.learn(Ranking(large, row, (9,) * 250, tuple(map(str, row))))
    assert names.named(Ranking(large, (0,), (9,))) is None
    assert names.named(Ranking(large, (start,), (9,))) is not None
    monkeypatch.setattr(label_names, "MOST_FILES", 3)
    for number in range(5):
        LabelNames.of(f"http://h{number}").learn(FOX)
        for file in cache.iterdir():
            os.utime(file, (file.stat().st_atime, file.stat().st_mtime - 10))
    kept = [number for number in range(5) if LabelNames.of(f"http://h{number}").held]
    assert kept == [2, 3, 4]


def test_a_folder_that_cannot_be_written_costs_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("UNIMIC_CACHE", str(tmp_path / "file"))
    names = LabelNames.of("http://h")
    names.learn(FOX)
    assert names.named(BARE) is not None
