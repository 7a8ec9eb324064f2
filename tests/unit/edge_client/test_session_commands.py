"""`chat` and `session` as typed: what is kept, listed, shown, exported and deleted."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from test_edge_cli import Runner, run  # noqa: F401 - a fixture

from edge_client.session.history import StoredSession, StoredTurn, save
from shared_protocol.tokens import ImageTokens


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "kept"
    monkeypatch.setenv("UNIMIC_HISTORY", str(folder))
    picture = ImageTokens([[77] * 4] * 4, 8192)
    turn = StoredTurn("vqa", "is there a fox?", 0, None, "yes", {"payload_up": 7})
    save(StoredSession("trip", b"sessions", "http://h", bytes(32), 1.8e9, 1,
                       (("cat.png", picture),), (turn,)), folder)  # fmt: skip
    return folder


def test_what_is_kept_is_listed_shown_and_deleted(run: Runner, kept: Path) -> None:  # noqa: F811
    code, said, _ = run("session", "list")
    assert (code, "is there a fox?" in said) == (0, True)
    code, said, _ = run("session", "show", "trip")
    assert "-> yes  (7 bytes up" in said
    code, said, _ = run("session", "show", "trip", "--json")
    assert json.loads(said)["turns"][0]["answer"] == "yes"
    assert run("session", "delete", "trip")[0] == 0
    assert run("session", "show", "trip")[0] == 2
    assert "none is kept" in run("session", "list")[1]


@pytest.mark.parametrize("words", [("show",), ("list", "trip"), ("delete", "../trip")])
def test_a_missing_or_wrong_name_is_wrong_input(run: Runner, kept: Path, words) -> None:  # noqa: F811
    assert run("session", *words)[0] == 2


def test_chat_answers_lines_and_keeps_nothing_if_told_so(
    run: Runner,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("UNIMIC_HISTORY", str(tmp_path / "none"))
    monkeypatch.setattr("edge_client.session.session.load_bundle", lambda *given: run.cloud.bundle)
    monkeypatch.setattr("sys.stdin", io.StringIO("what is it?\n/nonsense\n/quit\nnever\n"))
    code, said, warned = run("chat", "photo.png", "--no-history", "-q")
    assert code == 0
    assert len(said.splitlines()) == 2
    assert "there is no command /nonsense" in warned
    assert not (tmp_path / "none").exists()
