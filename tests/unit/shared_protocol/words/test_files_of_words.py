"""Lists of words as files, and words that look like forms of others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shared_protocol.errors import CheckpointError
from shared_protocol.words import known
from shared_protocol.words.known import KnownWords, unknown_warning


def test_things_that_look_like_forms_of_verbs_are_things() -> None:
    lacking = KnownWords([]).unknown("a building, two buildings, leaves, clothing and bearing")
    assert lacking == ("building", "buildings", "leaves", "clothing", "bearing")
    assert KnownWords(["building", "leaf"]).unknown("two buildings and leaves") == ()


@pytest.mark.parametrize(
    ("word", "listed"),
    [
        ("women", "woman"), ("ponies", "pony"), ("wolves", "wolf"), ("foxes", "fox"),
        ("cats", "cat"), ("cat's", "cat"), ("cat", "cat"), ("cat-dog", "cat dog"),
    ],
)  # fmt: skip
def test_inflected_words_are_known(word: str, listed: str) -> None:
    assert KnownWords(listed.split()).unknown(word) == ()
    assert KnownWords([]).unknown(word) != ()


def test_words_of_one_letter_are_nobodys_lack_and_others_are_named_once() -> None:
    assert KnownWords([]).unknown("x, a q") == ()
    assert KnownWords([]).unknown("dragon dragon kitchen") == ("dragon", "kitchen")


@pytest.mark.parametrize(
    ("count", "said"),
    [(1, "w0"), (5, "w0, w1, w2, w3, w4"), (6, "w0, w1, w2, w3, w4 and 1 more")],
)
def test_so_many_words_are_named(count: int, said: str) -> None:
    words = tuple(f"w{number}" for number in range(count))
    assert unknown_warning(words, "test") == (f"the test models do not know: {said}",)
    assert unknown_warning((), "test") == ()


def test_a_file_of_words_comes_back_up_to_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = KnownWords(["fox", "beach"], {"owl": "an owl", "fox": "a fox"})
    path = tmp_path / "w.json"
    path.write_text(json.dumps(words.content()))
    assert KnownWords.load(path).content() == {
        "words": ["beach", "fox"],
        "phrases": {"fox": "a fox", "owl": "an owl"},
    }
    monkeypatch.setattr(known, "MOST_BYTES", path.stat().st_size)
    KnownWords.load(path)
    monkeypatch.setattr(known, "MOST_BYTES", path.stat().st_size - 1)
    with pytest.raises(CheckpointError, match="the most that are read"):
        KnownWords.load(path)


@pytest.mark.parametrize(
    "text",
    [
        "", "{}", "[]", '{"words": []}', '{"words": "fox", "phrases": {}}',
        '{"words": [1], "phrases": {}}', '{"words": [], "phrases": {"a": 1}}',
        '{"words": [], "phrases": []}', '{"words": null, "phrases": {}}',
    ],
)  # fmt: skip
def test_a_file_without_words_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "w.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"cannot read .*w\.json|w\.json holds no") as caught:
        KnownWords.load(tmp_path / "w.json")
    assert caught.value.remedy == "install it again"
