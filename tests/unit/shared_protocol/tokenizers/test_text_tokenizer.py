from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from cloud_server.training.recipes.backbone.word_coder import END_OF_TEXT
from shared_protocol.errors import CheckpointError, ConfigError, PromptError
from shared_protocol.tokenizers.text import TextTokenizer
from shared_protocol.tokens import TextTokens

BUILTIN = Path(__file__).parents[4] / "shared_protocol" / "weights" / "builtin"


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    return TextTokenizer.load(BUILTIN / "text_tokenizer.json")


def test_the_builtin_vocabulary_has_4096_ids(tokenizer: TextTokenizer) -> None:
    assert tokenizer.size == 4_096
    assert 0 <= tokenizer.eot_id < 4_096


@given(words=st.text(max_size=60))
@settings(max_examples=150, deadline=None)
def test_any_unicode_text_comes_back(tokenizer: TextTokenizer, words: str) -> None:
    assert tokenizer.decode(tokenizer.encode(words)) == words


@pytest.mark.parametrize(
    "words", ["", " ", "\n\t ", "\0", "a\r\nb", "ﬁ é 𝄞 👩‍🚀", "  two  ", "e\u0301"]
)
def test_awkward_text_comes_back(tokenizer: TextTokenizer, words: str) -> None:
    assert tokenizer.decode(tokenizer.encode(words)) == words


def test_a_typed_special_token_is_ordinary_text(tokenizer: TextTokenizer) -> None:
    tokens = tokenizer.encode(f"a fox {END_OF_TEXT} b")
    assert tokenizer.eot_id not in tokens.ids
    assert tokenizer.decode(tokens) == f"a fox {END_OF_TEXT} b"


def test_special_ids_show_as_nothing(tokenizer: TextTokenizer) -> None:
    fox = tokenizer.encode("a fox").ids.tolist()
    assert tokenizer.decode(TextTokens([*fox, tokenizer.eot_id], tokenizer.size)) == "a fox"


def test_half_a_character_shows_as_a_replacement(tokenizer: TextTokenizer) -> None:
    first = tokenizer.encode("é" * 3 + "\U00010348").ids[:-1]
    assert "\N{REPLACEMENT CHARACTER}" in tokenizer.decode(TextTokens(first, tokenizer.size))


def test_a_lone_surrogate_is_refused(tokenizer: TextTokenizer) -> None:
    with pytest.raises(PromptError, match="position 2"):
        tokenizer.encode("ab\ud800")


@pytest.mark.parametrize(
    ("words", "most"),
    [
        ("USER: \n", 3),
        (" ASSISTANT:", 2),
        (" sailboat", 1),
        (" penguin", 1),
        ("a fox to the left of a house", 8),
        ("12", 2),
    ],
)
def test_the_words_of_the_world_are_compact(
    tokenizer: TextTokenizer, words: str, most: int
) -> None:
    assert len(tokenizer.encode(words)) <= most


def test_digits_stand_alone(tokenizer: TextTokenizer) -> None:
    assert len(tokenizer.encode("2026")) == 4


def test_a_missing_or_broken_file_is_a_checkpoint_error(tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("{}")
    for name in ("broken.json", "missing.json"):
        with pytest.raises(CheckpointError):
            TextTokenizer.load(tmp_path / name)


def test_a_tokenizer_without_an_end_of_text_is_refused(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models

    Tokenizer(models.BPE()).save(str(tmp_path / "t.json"))
    with pytest.raises(ConfigError, match="endoftext"):
        TextTokenizer.load(tmp_path / "t.json")


def test_ids_that_leave_out_numbers_are_refused(tmp_path: Path) -> None:
    vocabulary = {"a": 0, "b": 1, "c": 7}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.add_special_tokens([END_OF_TEXT])
    path = tmp_path / "text.json"
    tokenizer.save(str(path))
    with pytest.raises(CheckpointError, match=r"has 4 ids, the largest of which is [78]"):
        TextTokenizer.load(path)
