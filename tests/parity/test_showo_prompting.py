"""Sequences and masks against the official implementation."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cloud_server.generation.prompting import (
    QuestionFrame,
    causal_mask,
    codes_to_input_ids,
    mmu_mask,
    mmu_sequence,
    t2i_mask,
    t2i_sequence,
)
from shared_protocol.vocabulary import Vocabulary

PHI_TEXT_IDS = 50295
SHOWO_CODES = 8192
PHI_EOT = 50256


@pytest.fixture(scope="module")
def prompting(golden: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((golden / "prompting.json").read_text(encoding="utf-8"))
    return content


@pytest.fixture(scope="module")
def real(golden: Path) -> dict[str, Any]:
    text = (golden / "phi_tokenizer_golden.json").read_text(encoding="utf-8")
    content: dict[str, Any] = json.loads(text)
    return content


@pytest.mark.parametrize(
    ("task", "images"), [("t2i_gen", "all_mask"), ("t2i_gen_half", "half_masked")]
)
def test_generation_sequences_equal_the_reference(
    prompting: dict[str, Any],
    sizes: dict[str, Any],
    vocabulary: Vocabulary,
    eot_id: int,
    task: str,
    images: str,
) -> None:
    sequences = t2i_sequence(
        prompting["tokenized"],
        torch.tensor(prompting["image_ids"][images]),
        vocabulary,
        eot_id=eot_id,
        max_text_len=sizes["max_seq_length"],
    )
    assert sequences.tolist() == prompting["tasks"][task]["outputs"][0]


def test_real_size_sequences_equal_the_reference(real: dict[str, Any]) -> None:
    vocabulary = Vocabulary(PHI_TEXT_IDS, SHOWO_CODES)
    case = real["t2i_gen"]
    texts = [real["texts"].get(text) for text in case["texts"]]
    known = [index for index, text in enumerate(texts) if text is not None]
    assert known
    sequences = t2i_sequence(
        [texts[index] for index in known],
        torch.tensor([case["image_ids"]] * len(known)),
        vocabulary,
        eot_id=PHI_EOT,
        max_text_len=128,
    )
    assert sequences.tolist() == [case["sequence_ids"][index] for index in known]


def test_special_ids_equal_the_reference(real: dict[str, Any]) -> None:
    vocabulary = Vocabulary(PHI_TEXT_IDS, SHOWO_CODES)
    ids = real["special_token_ids"]
    for name in ("soi", "eoi", "sov", "eov", "t2i", "mmu", "t2v", "v2v", "lvg", "pad"):
        assert vocabulary._special(name) == ids[f"<|{name}|>"]


def test_framed_question_equals_the_tokenised_prompt(real: dict[str, Any]) -> None:
    prompts = [case["ids"] for case in real["mmu_no_clip"].values()]
    frame = QuestionFrame(tuple(prompts[0][:4]), tuple(prompts[0][-4:]))
    for ids in prompts:
        question = np.array(ids[4:-4])
        assert frame.wrap(question).tolist() == ids


def test_unknown_codes_become_the_mask_id(vocabulary: Vocabulary) -> None:
    ids = codes_to_input_ids(torch.tensor([[-1, 0, 3]]), vocabulary)
    offset = vocabulary.image_offset
    assert ids.tolist() == [[vocabulary.mask_id, offset, offset + 3]]


def test_masks_equal_the_reference(golden: Path, vocabulary: Vocabulary) -> None:
    vectors = load_file(golden / "attention_masks.safetensors")
    makers = {"t2i_predict_next": t2i_mask, "mmu": mmu_mask}
    for name, make in makers.items():
        assert torch.equal(make(vectors[f"{name}.ids"], vocabulary), vectors[f"{name}.allow"])
    lm = vectors["lm_predict_next.allow"]
    assert torch.equal(causal_mask(lm.shape[-1]).expand_as(lm), lm)


def test_question_prompt_equals_the_reference(
    golden: Path, vocabulary: Vocabulary, eot_id: int, mmu_case: str
) -> None:
    ids = load_file(golden / "mmu_generate.safetensors")[f"{mmu_case}.ids"][0].tolist()
    end = ids.index(vocabulary.eoi_id)
    codes = vocabulary.ids_to_codes(np.array(ids[2:end]))
    question = np.array(ids[end + 2 :])
    assert mmu_sequence(codes, question, vocabulary, eot_id=eot_id) == ids
