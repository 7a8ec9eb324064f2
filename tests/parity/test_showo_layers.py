"""The transformer from the inside: hidden states, rotary tables, gradients, filters of logits."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor
from transformers import PhiForCausalLM

from cloud_server.generation.backbone.checkpoint import load_showo_phi
from cloud_server.generation.prompting import mmu_sequence, pad_right, t2i_sequence
from cloud_server.generation.text_decoding import keep_top_k
from shared_protocol.vocabulary import Vocabulary

TOLERANCE = 2e-4  # float32 kernels of attention differ by up to 1.4e-5
GRADIENT_TOLERANCE = 1e-3  # relative, of a norm over thousands of numbers


@pytest.fixture
def phi(golden: Path) -> PhiForCausalLM:
    return load_showo_phi(golden / "showo_tiny")


@pytest.fixture(scope="module")
def vectors(golden: Path) -> dict[str, Tensor]:
    return load_file(golden / "showo_forward.safetensors")


def test_hidden_states_of_every_layer_equal_the_reference(
    phi: PhiForCausalLM, vectors: dict[str, Tensor]
) -> None:
    states = phi.model(
        vectors["t2i_cfg.ids"],
        attention_mask=vectors["t2i_cfg.allow"],
        output_hidden_states=True,
        use_cache=False,
    ).hidden_states
    row = torch.stack([state[0] for state in states])
    expected = vectors["t2i_cfg.hidden_states_row0"]
    torch.testing.assert_close(row, expected, atol=TOLERANCE, rtol=1e-4)


def test_rotary_tables_equal_the_reference(phi: PhiForCausalLM, vectors: dict[str, Tensor]) -> None:
    positions = torch.arange(len(vectors["rope.cos"]))[None]
    cos, sin = phi.model.rotary_emb(torch.zeros(1), positions)
    torch.testing.assert_close(cos[0], vectors["rope.cos"], atol=1e-6, rtol=0)
    torch.testing.assert_close(sin[0], vectors["rope.sin"], atol=1e-6, rtol=0)


def test_gradients_of_the_training_loss_equal_the_reference(
    phi: PhiForCausalLM,
    vectors: dict[str, Tensor],
    sizes: dict[str, Any],
    manifest: dict[str, Any],
) -> None:
    phi.requires_grad_(True)
    ids, labels = vectors["loss.ids"], vectors["loss.labels"]
    logits = phi(ids, attention_mask=vectors["loss.allow"], use_cache=False).logits.float()
    start = sizes["max_seq_length"] + 1
    t2i = F.cross_entropy(logits[:2, start:].flatten(0, 1), labels[:2, start:].flatten())
    lm = F.cross_entropy(logits[2:3, :-1].flatten(0, 1), labels[2:3, 1:].flatten())
    mmu = F.cross_entropy(logits[3:, :-1].flatten(0, 1), labels[3:, 1:].flatten())
    torch.testing.assert_close(
        torch.stack([t2i, lm, mmu]), vectors["loss.values"], atol=TOLERANCE, rtol=1e-4
    )
    (1.0 * t2i + 0.1 * lm + 1.0 * mmu).backward()
    norms = manifest["scalars"]["showo_forward.safetensors"]["loss.grad_norms"]["value"]
    found = {f"showo.{name}": float(p.grad.norm()) for name, p in phi.named_parameters()}
    assert found == pytest.approx(norms, rel=GRADIENT_TOLERANCE, abs=1e-5)


def test_top_k_filter_equals_the_reference(golden: Path) -> None:
    vectors = load_file(golden / "sampling.safetensors")
    names = [name for name in vectors if name.startswith("filter.top_k")]
    assert names
    for name in names:
        kept = int(name.removeprefix("filter.top_k"))
        for row, expected in zip(vectors["filter.logits"], vectors[name], strict=True):
            assert torch.equal(keep_top_k(row, kept), expected)


@pytest.fixture(scope="module")
def prompting(golden: Path) -> dict[str, Any]:
    import json

    content: dict[str, Any] = json.loads((golden / "prompting.json").read_text(encoding="utf-8"))
    return content


@pytest.mark.parametrize(
    ("task", "dropped"),
    [
        ("t2i_train_nodrop", 0.0),
        ("t2i_train_alldrop", 1.0),
        ("t2i_train_drop50", 0.5),
        ("lvg_gen", 0.0),
        ("lvg_train_drop50", 0.5),
    ],
)
def test_training_sequences_of_pictures_equal_the_reference(
    prompting: dict[str, Any],
    sizes: dict[str, Any],
    vocabulary: Vocabulary,
    eot_id: int,
    task: str,
    dropped: float,
) -> None:
    draws = next(values for name, values in prompting.items() if name.startswith("rand"))
    texts = [
        [] if draw < dropped else ids
        for ids, draw in zip(prompting["tokenized"], draws, strict=True)
    ]
    sequences = t2i_sequence(
        texts,
        torch.tensor(prompting["image_ids"]["half_masked"]),
        vocabulary,
        eot_id=eot_id,
        max_text_len=sizes["max_seq_length"],
    )
    assert sequences.tolist() == prompting["tasks"][task]["outputs"][0]


def test_training_sequences_of_answers_equal_the_reference(
    prompting: dict[str, Any], sizes: dict[str, Any], vocabulary: Vocabulary, eot_id: int
) -> None:
    expected = prompting["tasks"]["mmu"]["outputs"][0]
    limit = sizes["max_seq_length"] - 2  # the text block holds sot and eot, too
    rows = []
    for image, text in zip(prompting["image_ids"]["clean"], prompting["tokenized"], strict=True):
        codes = vocabulary.ids_to_codes(torch.tensor(image)).numpy()
        question = torch.tensor(text[:limit], dtype=torch.int64).numpy()
        rows.append([*mmu_sequence(codes, question, vocabulary, eot_id=eot_id), eot_id])
    assert pad_right(rows, len(expected[0]), vocabulary.pad_id).tolist() == expected
