"""Conversations on disk: there and back, for their owner only, and files that are none."""

from __future__ import annotations

import os
import stat
from dataclasses import replace

import msgpack
import numpy as np
import pytest

from edge_client.session.history import (
    StoredSession,
    StoredTurn,
    delete,
    expire,
    folder,
    listing,
    load,
    new_name,
    path_of,
    save,
)
from shared_protocol.errors import ConfigError, InvalidInputError
from shared_protocol.tokens import ImageTokens


def stored(name: str = "trip") -> StoredSession:
    codes = np.random.default_rng(1).integers(0, 8192, (16, 24)).astype(np.int32)
    pictures = (
        ("cat.png", ImageTokens(codes[:, :16], 8192)),
        ("an owl", ImageTokens(codes, 8192)),
    )
    turns = (
        StoredTurn("vqa", "is there a fox?", 0, None, "yes", {"payload_up": 7, "seconds": 0.25}),
        StoredTurn("outpaint", "a forest", 0, 1, None, {"payload_up": 9}),
    )
    return StoredSession(name, b"sessions", "http://host", bytes(32), 1.8e9, 2, pictures, turns)


def test_a_conversation_comes_back_as_it_was(tmp_path) -> None:
    save(stored(), tmp_path / "kept")
    found = load("trip", tmp_path / "kept")
    assert found == stored()
    assert found.pictures[1][1].shape == (16, 24)


def test_only_its_owner_may_read_it(tmp_path) -> None:
    path = save(stored(), tmp_path / "kept")
    save(stored(), tmp_path / "kept")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("name", ["", "..", "../up", "a/b", ".hidden", "x" * 70, "a\0b", "ü"])
def test_a_name_that_is_none_is_refused(tmp_path, name) -> None:
    with pytest.raises(InvalidInputError, match="no name"):
        path_of(name, tmp_path)


def test_a_link_is_not_written_through(tmp_path) -> None:
    (tmp_path / "target").write_text("mine")
    path_of("trip", tmp_path).symlink_to(tmp_path / "target")
    with pytest.raises(ConfigError, match="is a link"):
        save(stored(), tmp_path)
    assert (tmp_path / "target").read_text() == "mine"


def test_new_names_are_new(tmp_path) -> None:
    first = new_name(tmp_path, 1.8e9)
    save(stored(first), tmp_path)
    second = new_name(tmp_path, 1.8e9)
    assert (first[:8], first[-2:], second[-2:]) == ("2027-01-", "-1", "-2")


def packed(**changes: object) -> bytes:
    content = {
        "version": 1, "session": b"sessions", "server": "s", "fingerprint": bytes(32),
        "started": 1.0, "next": 0, "size": 8192, "pictures": [], "turns": [],
    }  # fmt: skip
    data: bytes = msgpack.packb({**content, **changes})
    return data


TURN = {"task": "vqa", "text": "q", "source": None, "result": None, "answer": "a", "cost": {}}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"hello",
        packed()[:-3],
        packed(version=2),
        packed(session=b"short"),
        packed(pictures=[["x", 16, 16, b"short"]]),
        packed(pictures=[["x", 100_000, 100_000, b""]]),
        packed(pictures=[["x", -1, 16, b""]]),
        packed(pictures=[5]),
        packed(size=2**40, pictures=[["x", 1, 1, b"\0"]]),
        packed(turns=[{**TURN, "source": 3}]),
        packed(turns=[{**TURN, "text": 7}]),
        packed(turns=[{"task": "vqa"}]),
        packed(turns=7),
        packed(next="x"),
    ],
)
def test_a_file_that_is_no_conversation_is_told_and_listed_all_the_same(tmp_path, data) -> None:
    save(stored("good"), tmp_path)
    path_of("bad", tmp_path).write_bytes(data)
    with pytest.raises(InvalidInputError):
        load("bad", tmp_path)
    told = dict(listing(tmp_path))
    assert told["bad"].startswith("cannot be read")
    assert "2 turns: is there a fox?" in told["good"]


def test_a_conversation_that_is_not_there_is_told(tmp_path) -> None:
    for doing in (load, delete):
        with pytest.raises(InvalidInputError, match="session list"):
            doing("nothing", tmp_path)


def test_what_is_old_goes(tmp_path) -> None:
    for name in ("old", "new"):
        save(stored(name), tmp_path)
    os.utime(path_of("old", tmp_path), (1.0e9, 1.0e9))
    assert expire(tmp_path, 30.0) == ["old"]
    assert [name for name, _ in listing(tmp_path)] == ["new"]


def test_a_folder_that_cannot_be_written_is_told(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot keep"):
        save(replace(stored(), name="x"), tmp_path / "file" / "in")


def test_the_folder_follows_the_environment() -> None:
    assert str(folder({"UNIMIC_HISTORY": "/a"})) == "/a"
    assert str(folder({"XDG_DATA_HOME": "/b"})) == "/b/unimic/sessions"
