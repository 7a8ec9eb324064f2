"""Phi-1.5's tokenizer, rebuilt from GPT-2's merges, and the tiny one, against recorded ids."""

import json
from pathlib import Path
from typing import Any

import pytest
from official_files import phi_tokenizer

from cloud_server.generation.backbone.clip import QUESTION, SYSTEM_PROMPT
from cloud_server.training.recipes.backbone.word_coder import QUESTION_AFTER, QUESTION_BEFORE
from shared_protocol.bundles.catalogue import CATALOGUE
from shared_protocol.tokenizers.text import TextTokenizer

SPECIAL = ("<|soi|>", "<|eoi|>", "<|t2i|>", "<|mmu|>")


@pytest.fixture(scope="module")
def real(golden: Path) -> dict[str, Any]:
    text = (golden / "phi_tokenizer_golden.json").read_text(encoding="utf-8")
    content: dict[str, Any] = json.loads(text)
    return content


@pytest.fixture(scope="module")
def phi(tmp_path_factory: pytest.TempPathFactory) -> TextTokenizer:
    """Read from a file, as a bundle's is."""
    path = tmp_path_factory.mktemp("phi") / "tokenizer.json"
    phi_tokenizer().save(str(path))
    return TextTokenizer.load(path)


def test_size_and_end_of_text_equal_the_reference(phi: TextTokenizer, real: dict[str, Any]) -> None:
    assert phi.size == real["base_len"] == CATALOGUE["show-o"].vocabulary.text_size
    assert phi.eot_id == real["eos"] == real["bos"]


def test_ids_of_texts_equal_the_reference(phi: TextTokenizer, real: dict[str, Any]) -> None:
    plain = {
        text: ids
        for text, ids in real["texts"].items()
        if not any(special in text for special in SPECIAL)
    }
    assert len(plain) >= 4
    for text, ids in plain.items():
        assert phi.encode(text).ids.tolist() == ids
        assert phi.decode(phi.encode(text)) == text


def test_typed_special_tokens_are_plain_text_unlike_in_the_reference(
    phi: TextTokenizer, real: dict[str, Any]
) -> None:
    (text,) = [text for text in real["texts"] if "<|soi|>" in text]
    before, after = text.split("<|soi|>")
    ids, ours = real["texts"][text], phi.encode(text).ids.tolist()
    place = ids.index(real["special_token_ids"]["<|soi|>"])
    assert ids[: place - 1] == ours[: place - 1] == phi.encode(before.rstrip()).ids.tolist()
    assert ids[place + 1 :] == phi.encode(after).ids.tolist()
    # The reference lets a prompt hold control ids; here they stay words.
    assert max(ids) >= real["base_len"] > max(ours)
    assert phi.decode(phi.encode(text)) == text


def test_system_prompt_and_questions_equal_the_reference(
    phi: TextTokenizer, real: dict[str, Any]
) -> None:
    assert real["system_prompt"]["text"] == SYSTEM_PROMPT
    assert phi.encode(SYSTEM_PROMPT).ids.tolist() == real["system_prompt"]["ids"]
    for question, case in real["mmu_clip"].items():
        assert QUESTION.format(question) == case["text"]
        assert phi.encode(case["text"]).ids.tolist() == case["ids"]


def test_framed_ids_equal_the_ids_of_the_framed_question(
    phi: TextTokenizer, real: dict[str, Any]
) -> None:
    for question, case in real["mmu_no_clip"].items():
        parts = (QUESTION_BEFORE, question, QUESTION_AFTER)
        assert "".join(parts) == case["text"]
        assert [i for part in parts for i in phi.encode(part).ids.tolist()] == case["ids"]


def test_tiny_tokenizer_equals_the_reference(golden: Path) -> None:
    tokenizer = TextTokenizer.load(golden / "tokenizer" / "tokenizer.json")
    content = json.loads((golden / "prompting.json").read_text(encoding="utf-8"))
    for text, ids in zip(content["texts"], content["tokenized"], strict=True):
        assert tokenizer.encode(text).ids.tolist() == ids
