"""The world that a bundle's file of words brings, and files that do not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cloud_server.prompts.asked import Asked, Thing
from cloud_server.prompts.reader import PromptReader
from cloud_server.prompts.taught import TaughtWorld
from shared_protocol.errors import CheckpointError
from shared_protocol.words.known import MOST_BYTES, KnownWords

WORDS: dict[str, Any] = {"words": ["key"], "phrases": {"key": "a key"}}
CASTLE = {
    "things": {"T-rex": ["a T-rex"], "teddy bear": ["a teddy bear", "a brown teddy bear"]},
    "places": {"in a castle": {"wordings": ["in a castle"], "times": ["", "by day"]}},
}


def written(tmp_path: Path, content: object) -> Path:
    path = tmp_path / "world.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_another_world_is_read_in_its_own_words(tmp_path: Path) -> None:
    world = TaughtWorld.load(written(tmp_path, {**WORDS, **CASTLE}))
    assert world is not None
    reader = PromptReader(world)
    things = (Thing("teddy bear", "a brown teddy bear", 2), Thing("T-rex", "a T-rex"))
    asked = reader.read("Two brown teddy bears and a T-Rex in the castle")
    assert asked == Asked(things, (), "in a castle", complete=True)
    assert reader.read("a fox") is None


def test_the_words_of_the_same_file_are_known_as_before(tmp_path: Path) -> None:
    known = KnownWords.load(written(tmp_path, {**WORDS, **CASTLE}))
    assert known.unknown("a key and a fox") == ("fox",)


def test_a_file_that_says_nothing_of_drawing_gives_no_world(tmp_path: Path) -> None:
    assert TaughtWorld.load(written(tmp_path, WORDS)) is None


def test_a_world_without_anything_reads_nothing() -> None:
    assert PromptReader(TaughtWorld.of({}, {})).read("a fox on a beach at night") is None


@pytest.mark.parametrize(
    "content",
    [
        "", "[]", "3", "[" * 100_000, " " * MOST_BYTES + "{}",
        {"things": {}}, {"places": {}}, {"things": [], "places": {}}, {"things": {}, "places": []},
        {"things": {"fox": "a fox"}, "places": {}}, {"things": {"fox": []}, "places": {}},
        {"things": {"fox": [1]}, "places": {}}, {"things": {"fox": [" "]}, "places": {}},
        {"things": {"": ["a fox"]}, "places": {}}, {"things": {}, "places": {"in it": []}},
        {"things": {}, "places": {"in it": {"wordings": ["in it"]}}},
        {"things": {}, "places": {"in it": {"wordings": ["in it"], "times": [3]}}},
        {"things": {}, "places": {"in it": {"wordings": [" "], "times": [""]}}},
        {"things": {}, "places": {"in it": {"wordings": [], "times": [""]}}},
        {"things": {}, "places": {"in it": {"wordings": ["in it"], "times": [" "]}}},
        {"things": {}, "places": {"in it": {"wordings": ["in it"], "times": []}}},
    ],
)  # fmt: skip
def test_a_damaged_file_is_refused(tmp_path: Path, content: object) -> None:
    with pytest.raises(CheckpointError, match=r"world\.json") as refused:
        TaughtWorld.load(written(tmp_path, content))
    assert "install it again" in str(refused.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot read"):
        TaughtWorld.load(tmp_path / "none.json")
