"""Nothing that anybody writes steers a terminal, and nothing that is written is lost unseen."""

from __future__ import annotations

import io
import json
import re

import pytest

from edge_client import cli
from edge_client.terminal import output
from edge_client.terminal.output import OutputError, json_shown, shown

HOSTILE = "a\x1b[2Jb\x9b31mc\u202ed\x07\x00\x7f\u2066e\u200f\ud800\U000e0041\rf"
STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ud800]")


def test_text_keeps_its_lines_and_loses_what_steers() -> None:
    told = shown(f"{HOSTILE}\n\tnext é 狐")
    assert not STEERING.search(told)
    assert told.endswith("\n\tnext é 狐")


def test_json_means_the_same_and_steers_nothing() -> None:
    data = {"a": HOSTILE, HOSTILE: [1, float("inf"), {"b": None}]}
    told = json_shown(data)
    assert not STEERING.search(told)
    assert json.loads(told) == {"a": HOSTILE, HOSTILE: [1, None, {"b": None}]}
    assert "\n" not in json_shown(data, one_line=True)


def test_what_is_nested_too_deeply_is_cut() -> None:
    deep: object = "end"
    for _ in range(900):
        deep = [deep]
    assert "…" in json_shown({"deep": deep})


@pytest.mark.parametrize("write", [output.say, output.tell, output.redraw])
def test_every_way_out_is_made_safe(
    write: object, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert callable(write)
    write(HOSTILE)
    told = capsys.readouterr()
    text = (told.out + told.err).removeprefix("\r").removesuffix("\x1b[K")
    assert text
    assert not STEERING.search(text)


@pytest.mark.parametrize("words", [["bogus" + HOSTILE], ["t2i", "x", "--seed", HOSTILE], []])
def test_usage_errors_are_made_safe(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*words, "--json"]) == 2
    told = capsys.readouterr()
    assert told.err.startswith("error: ")
    assert not STEERING.search(told.err + told.out)
    assert json.loads(told.out)["error"]["code"] == "bad_config"


@pytest.mark.parametrize(
    ("raised", "said", "code"),
    [
        (OSError(24, "Too many open files"), "ulimit", 2),
        (OSError(28, "No space left on device", "/x\x1b[1m"), "make room", 2),
        (MemoryError(), "not enough memory", 2),
        (RuntimeError("can't start new thread"), "more threads|more of them", 2),
        (ImportError("no brotli", name="brotli"), "install unimic", 2),
        (RecursionError(), "nested too deeply", 2),
        (UnicodeEncodeError("ascii", "\u202e", 0, 1, "x"), "UTF-8", 2),
        (ZeroDivisionError(HOSTILE), "please report", 1),
    ],
)
def test_whatever_is_raised_becomes_an_error_with_a_remedy(
    raised: Exception,
    said: str,
    code: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object) -> None:
        raise raised

    monkeypatch.setattr("edge_client.commands.dispatch.run", broken)
    assert cli.main(["inspect", "x"]) == code
    told = capsys.readouterr().err
    assert re.search(said, told)
    assert told.endswith(")\n")
    assert not STEERING.search(told)


def test_a_closed_standard_output_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    for stream in (None, closed):
        monkeypatch.setattr("sys.stdout", stream)
        with pytest.raises(OutputError, match="closed"):
            output.say("x")
