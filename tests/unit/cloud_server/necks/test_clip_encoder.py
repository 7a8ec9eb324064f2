"""A tiny random CLIP behind a neck: entered after its second layer it sees what it sees whole."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_clip import CLIP_SIDE, CLIP_WIDTH, save_tiny_clip
from transformers import CLIPModel, CLIPVisionModel

from cloud_server.necks.clip_encoder import ENTRY, ClipEncoder
from shared_protocol.errors import CheckpointError, ConfigError

SAME = 1e-5
LABELS = ("cat", "dog")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    generator = torch.Generator().manual_seed(4)
    return torch.rand(2, 3, CLIP_SIDE, CLIP_SIDE, generator=generator) * 2 - 1


def test_partial_of_the_second_hidden_state_equals_full(folder: Path, pixels: torch.Tensor) -> None:
    encoder = ClipEncoder.load(folder)
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
    with torch.inference_mode():
        tower = CLIPModel.from_pretrained(folder).vision_model.eval()
        hidden = tower(((pixels + 1) / 2 - mean) / std, output_hidden_states=True).hidden_states
        assert ENTRY == 2
        torch.testing.assert_close(encoder.full(pixels), hidden[-2], atol=SAME, rtol=0)
        torch.testing.assert_close(encoder.middle(pixels), hidden[2], atol=SAME, rtol=0)
        torch.testing.assert_close(
            encoder.partial(hidden[2]), encoder.full(pixels), atol=SAME, rtol=0
        )


def test_scores_are_clips_own(folder: Path, pixels: torch.Tensor) -> None:
    rows = torch.nn.functional.normalize(torch.arange(16.0).view(2, 8) - 7, dim=1)
    encoder = ClipEncoder.load(folder, LABELS, rows)
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
    with torch.inference_mode():
        model = CLIPModel.from_pretrained(folder).eval()
        pooled = model.vision_model(((pixels + 1) / 2 - mean) / std).pooler_output
        seen = torch.nn.functional.normalize(model.visual_projection(pooled), dim=1)
        wanted = seen @ rows.T * model.logit_scale.exp()
        torch.testing.assert_close(
            encoder.scores(encoder.full(pixels)), wanted, atol=1e-4, rtol=1e-4
        )


def test_a_tower_alone_has_features_and_no_labels(folder: Path, tmp_path: Path) -> None:
    CLIPModel.from_pretrained(folder).vision_model.save_pretrained(tmp_path)
    assert CLIPVisionModel.from_pretrained(tmp_path).config.hidden_size == CLIP_WIDTH
    encoder = ClipEncoder.load(tmp_path)
    assert encoder.labels == ()
    assert encoder.full(torch.zeros(1, 3, 32, 32)).shape == (1, 17, CLIP_WIDTH)  # resized
    with pytest.raises(ConfigError, match="without labels"):
        encoder.label_rows()
    with pytest.raises(ConfigError, match="vision tower alone"):
        ClipEncoder.load(tmp_path, LABELS)


def test_a_folder_without_clip_is_told(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no CLIP"):
        ClipEncoder.load(tmp_path / "absent")


def test_labels_need_a_tokenizer(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="no tokenizer"):
        ClipEncoder.load(folder, LABELS)


def test_a_tower_is_not_entered_behind_what_is_read(folder: Path) -> None:
    with pytest.raises(ConfigError, match="entry 3"):
        ClipEncoder.load(folder, entry=3)
