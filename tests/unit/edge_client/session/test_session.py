"""The session that programs use, and chat, over single messages to a cloud in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from edge_fakes import ANSWER, FakeBundle, FakeCloud
from terminal import cloud_of_sessions

from edge_client import Answer, Picture, Session
from edge_client.pictures.outputs import save_picture
from edge_client.session.chat import Chat
from shared_protocol.errors import BundleMismatchError, InvalidInputError, MaskError

GREY = np.full((64, 64, 3), 77, dtype=np.uint8)


class NamedBundle(FakeBundle):
    tokenizer_fingerprint = bytes(32)

    def entropy_fingerprint(self, scenario: object) -> bytes | None:
        return None


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeCloud:
    monkeypatch.setenv("UNIMIC_HISTORY", str(tmp_path / "kept"))
    monkeypatch.chdir(tmp_path)
    return cloud_of_sessions(monkeypatch, NamedBundle())


def test_pictures_and_answers_follow_each_other(cloud: FakeCloud, tmp_path: Path) -> None:
    save_picture(tmp_path / "cat.png", GREY)
    with Session("http://h") as session:
        cat = session.open("cat.png")
        answer = cat.ask("what is it?")
        assert (answer, type(answer)) == (ANSWER, Answer)
        assert answer.cost.payload_up > 0
        owl = cat.inpaint((16, 16, 16, 16), "an owl")
        assert isinstance(owl, Picture)
        assert (owl.tokens.codes != cat.tokens.codes).sum() == 1
        wide = owl.outpaint("a forest", right=2)
        assert wide.size == (96, 64)
        assert session.picture is wide
        assert session.back() is owl
        assert [turn.task for turn in session.history] == ["vqa", "inpaint", "outpaint"]
        assert session.history[1].source is cat
        assert session.way == "HTTP"
        assert "over HTTP" in str(session.cost)
        assert session.cost.total.payload_up == sum(t.payload_up for t in session.cost.turns)
        saved = wide.save(tmp_path / "wide.png")
        assert [path.name for path in saved] == ["wide.png", "wide.umic"]
        assert session.open(tmp_path / "wide.png").tokens == wide.tokens


def test_a_question_about_a_wide_picture_is_about_a_window(cloud: FakeCloud) -> None:
    with Session("http://h") as session:
        wide = session.open(GREY).outpaint("a beach", right=4)
        answer = wide.ask("what is it?")
        assert answer.window == (0, 2)
        assert "columns 2..5" in answer.warnings[-1]
        assert wide.ask("what is it?", window=(0, 4)).window == (0, 4)
        with pytest.raises(InvalidInputError, match="not inside"):
            wide.ask("what is it?", window=(0, 5))


@pytest.mark.parametrize(
    "where",
    [
        (16, 16, 16, 16),
        [(16, 16, 16, 16)],
        np.kron(np.arange(16).reshape(4, 4) == 5, np.ones((16, 16), dtype=bool)),
        np.kron(np.arange(16).reshape(4, 4) == 5, np.full((16, 16), 255)).astype(np.uint8),
    ],
)
def test_a_part_may_be_named_in_many_ways(cloud: FakeCloud, where: object) -> None:
    with Session("http://h") as session:
        made = session.open(GREY).inpaint(where, "an owl")  # type: ignore[arg-type]
        assert np.flatnonzero(made.tokens.codes != 77).tolist() == [5]


@pytest.mark.parametrize("where", [(1, 2, 3), [], np.zeros((4, 4), dtype=bool), (500, 0, 5, 5)])
def test_a_part_that_names_nothing_is_refused(cloud: FakeCloud, where: object) -> None:
    with Session("http://h") as session, pytest.raises(MaskError):
        session.open(GREY).inpaint(where, "an owl")  # type: ignore[arg-type]


def test_there_is_nothing_before_the_first_picture(cloud: FakeCloud) -> None:
    with Session("http://h") as session:
        session.open(GREY)
        with pytest.raises(InvalidInputError, match="no picture before"):
            session.back()


def test_nothing_is_kept_unless_it_is_asked_for(cloud: FakeCloud, tmp_path: Path) -> None:
    with Session("http://h") as session:
        session.open(GREY).ask("what is it?")
        assert session.name is None
    assert not (tmp_path / "kept").exists()


def test_a_kept_conversation_goes_on_where_it_was(cloud: FakeCloud) -> None:
    with Session("http://h", history="trip") as session:
        cat = session.open(GREY)
        cat.ask("what is it?")
        owl = cat.inpaint((16, 16, 16, 16), "an owl")
        cost = session.cost.total
    with Session("http://h", history="trip") as session:
        assert [turn.text for turn in session.history] == ["what is it?", "an owl"]
        assert session.history[0].result == ANSWER
        assert session.picture is not None
        assert session.picture.tokens == owl.tokens
        assert session.cost.total == cost
        assert session.picture.ask("and now?") == ANSWER


def test_a_conversation_of_another_bundle_is_not_gone_on_with(
    cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Session("http://h", history="trip") as session:
        session.open(GREY).ask("what is it?")
    other = NamedBundle()
    other.fingerprint = bytes([9]) * 32
    monkeypatch.setattr("edge_client.session.session.load_bundle", lambda *given: other)
    with pytest.raises(BundleMismatchError, match="--bundle"):
        Session("http://h", history="trip")


OPTIONS = {"seed": 0, "steps": None, "guidance": None}


def test_chat_turns_lines_into_turns(cloud: FakeCloud, tmp_path: Path) -> None:
    save_picture(tmp_path / "cat.png", GREY)
    with Session("http://h") as session:
        chat = Chat(session, lambda name: tmp_path / name, OPTIONS)
        assert "64x64" in chat.take("/open cat.png").text
        asked = chat.take("what is on the left?")
        assert asked.text == ANSWER
        assert "on the wire" in asked.cost
        assert asked.warnings == ()
        assert "remembers no words" in chat.take("is it red?").warnings[-1]
        assert chat.take("is it blue?").warnings == ()
        assert chat.take("/inpaint 16,16,16,16").picture is not None
        assert chat.take("/outpaint right 1").picture is not None
        assert chat.take("/back").picture is not None
        assert chat.take("/back").picture is not None
        made = chat.take("/inpaint 16,16,16,16 an owl")
        assert (tmp_path / "chat.png").exists()
        assert made.picture is session.picture
        assert chat.take("/outpaint right 2 a forest").picture.size == (96, 64)
        assert chat.take("/back").picture is made.picture
        assert "5" in chat.take("/history").text
        assert "over HTTP" in chat.take("/cost").text
        assert "copy.png" in chat.take("/save copy.png").text
        assert "/inpaint" in chat.take("/help").text
        assert chat.take("/quit").over


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("what is it?", "/open FILE or /new PROMPT"),
        ("/foo", "/help"),
        ("/new", "write /new PROMPT"),
        ("/open", "write /open FILE"),
        ("/inpaint 1,2 an owl", "write /inpaint"),
        ("/outpaint up x a forest", "write /outpaint"),
        ("/outpaint", "write /outpaint"),
        ("/back", "open or make one"),
    ],
)
def test_a_line_that_cannot_be_done_says_how_it_is_written(cloud, line, said) -> None:
    with Session("http://h") as session:
        chat = Chat(session, Path, OPTIONS)
        with pytest.raises(InvalidInputError) as caught:
            chat.take(line)
        assert said in str(caught.value)


def test_chat_completes_commands_sides_and_files(cloud: FakeCloud, tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(b"")
    with Session("http://h") as session:
        chat = Chat(session, Path, OPTIONS)
        assert chat.complete("/o") == ["/open ", "/outpaint "]
        assert chat.complete("/outpaint r") == ["right "]
        assert chat.complete("/open ca") == ["cat.png "]
        assert chat.complete("what is") == []
