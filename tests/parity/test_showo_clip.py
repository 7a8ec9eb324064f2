"""The variants that answer from CLIP features, against the official implementation."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

from cloud_server.generation.backbone.checkpoint import load_clip_projector, reads_clip_features
from cloud_server.generation.backbone.clip import ClipAnswerer, clip_features, clip_mask
from shared_protocol.errors import CheckpointError
from shared_protocol.vocabulary import Vocabulary

TOLERANCE = 2e-4  # float32 kernels differ by about 1e-5


@pytest.fixture(scope="module")
def vectors(golden: Path) -> dict[str, Tensor]:
    return load_file(golden / "mmu_clip.safetensors")


@pytest.fixture(scope="module")
def answerer(golden: Path, vocabulary: Vocabulary) -> ClipAnswerer:
    return ClipAnswerer.load(golden / "showo_tiny_clip", vocabulary, eot_id=-1)


def test_mask_equals_the_reference(golden: Path, manifest: dict[str, Any]) -> None:
    vectors = load_file(golden / "attention_masks.safetensors")
    facts = manifest["scalars"]["attention_masks.safetensors"]["mmu_vit"]
    first, last = facts["always_visible_columns"]
    mask = clip_mask(facts["L"], first, last - first + 1)[0, 0]
    names = [name for name in vectors if name.startswith("mmu_vit.row")]
    assert names
    for name in names:
        row = name.removeprefix("mmu_vit.row").strip("_")
        assert torch.equal(mask[-1 if row == "last" else int(row)], vectors[name])


def test_projected_features_equal_the_reference(
    answerer: ClipAnswerer, vectors: dict[str, Tensor]
) -> None:
    projected = answerer.projected(vectors["clip_features"][0])[:, : vectors["projected"].shape[1]]
    torch.testing.assert_close(projected, vectors["projected"], atol=TOLERANCE, rtol=1e-4)


def test_answer_equals_the_reference(
    answerer: ClipAnswerer,
    vectors: dict[str, Tensor],
    vocabulary: Vocabulary,
    manifest: dict[str, Any],
) -> None:
    system = manifest["scalars"]["mmu_clip.safetensors"]["info"]["system_prompt_len"]
    ids = vectors["text_ids"][0].tolist()
    assert ids[0] == vocabulary.mmu_id
    assert ids[system + 1 : system + 3] == [vocabulary.soi_id, vocabulary.eoi_id]
    answer = answerer.answer(
        vectors["clip_features"][0], ids[1 : system + 1], ids[system + 3 :], len(vectors["greedy"])
    )
    assert answer == vectors["greedy"].tolist()


def test_answer_ends_at_the_end_of_text(
    golden: Path, vectors: dict[str, Tensor], vocabulary: Vocabulary
) -> None:
    greedy, ids = vectors["greedy"].tolist(), vectors["text_ids"][0].tolist()
    end = ids.index(vocabulary.soi_id)
    answerer = ClipAnswerer.load(golden / "showo_tiny_clip", vocabulary, eot_id=greedy[2])
    answer = answerer.answer(vectors["clip_features"][0], ids[1:end], ids[end + 2 :], len(greedy))
    assert answer == greedy[: greedy.index(greedy[2]) + 1]


def test_variants_are_told_apart(golden: Path) -> None:
    assert reads_clip_features(golden / "showo_tiny_clip")
    assert not reads_clip_features(golden / "showo_tiny")
    with pytest.raises(CheckpointError, match="no CLIP projection"):
        load_clip_projector(golden / "showo_tiny")


def test_features_are_those_of_the_last_layer_but_one_without_cls(tmp_path: Path) -> None:
    config = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
    )
    model = CLIPVisionModel(config).eval()
    model.save_pretrained(tmp_path)
    size = {"crop_size": {"height": 28, "width": 28}, "size": {"shortest_edge": 28}}
    CLIPImageProcessor(**size).save_pretrained(tmp_path)
    pixels = np.arange(28 * 40 * 3, dtype=np.uint8).reshape(28, 40, 3)
    features = clip_features(pixels, tmp_path)
    inputs = CLIPImageProcessor(**size)(images=pixels, return_tensors="pt")
    with torch.inference_mode():
        hidden = model(**inputs, output_hidden_states=True).hidden_states
    torch.testing.assert_close(features, hidden[2][0, 1:])
    with pytest.raises(CheckpointError, match="no CLIP tower"):
        clip_features(pixels, tmp_path / "absent")
