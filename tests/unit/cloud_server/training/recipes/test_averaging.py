"""The mean of two exports of the transformer, through the command that writes it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cloud_server.generation.backbone.checkpoint import (
    BackboneCard,
    load_builtin_backbone,
    save_builtin_backbone,
)
from cloud_server.generation.backbone.showo import ShowoConfig
from cloud_server.training.command import train
from cloud_server.training.recipes.backbone.network import TrainedBackbone
from cloud_server.training.recipes.backbone.starting_weights import plain_state
from shared_protocol.errors import CheckpointError, ConfigError
from shared_protocol.vocabulary import Vocabulary

VOCABULARY = Vocabulary(40, 256)
CONFIG = ShowoConfig(VOCABULARY.size, 32, 64, 3, 2, 512, stem_width=4, stem_codes=256)
CARD = BackboneCard(CONFIG, 40, 256, 16, 64)


def export(folder: Path, seed: int, card: BackboneCard = CARD) -> Path:
    torch.manual_seed(seed)
    net = TrainedBackbone(CONFIG, VOCABULARY, (5, 4, 16, 16), 2)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    save_builtin_backbone(net.plain_state(), card, folder)
    return folder


def state(folder: Path) -> dict[str, torch.Tensor]:
    return plain_state(load_builtin_backbone(folder))


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_mean_lies_between_the_two(tmp_path: Path, share: float) -> None:
    old, new, out = export(tmp_path / "old", 1), export(tmp_path / "new", 2), tmp_path / "mean"
    words = ["average", str(old), str(new), "--share", str(share), "--out", str(out)]
    assert train(words) == 0
    ours, theirs, mean = state(old), state(new), state(out)
    assert mean.keys() == ours.keys()
    assert any(name.startswith("stem.") for name in mean)
    for name, tensor in mean.items():
        wanted = (1 - share) * ours[name] + share * theirs[name]
        step = wanted.abs().max() / 127  # a row's own step is at most that large
        torch.testing.assert_close(tensor, wanted, atol=float(step), rtol=1e-3)
    assert load_builtin_backbone(out).card == CARD


@pytest.mark.parametrize("share", [-0.1, 1.01])
def test_a_share_beyond_the_two_is_refused(tmp_path: Path, share: float) -> None:
    old, new = export(tmp_path / "old", 1), export(tmp_path / "new", 2)
    with pytest.raises(ConfigError, match=str(share)):
        train(["average", str(old), str(new), f"--share={share}", "--out", str(tmp_path / "mean")])
    assert not (tmp_path / "mean").exists()


def test_neither_of_the_two_is_overwritten(tmp_path: Path) -> None:
    old, new = export(tmp_path / "old", 1), export(tmp_path / "new", 2)
    before = (new / "backbone-0.safetensors").read_bytes()
    with pytest.raises(ConfigError, match="one of the two"):
        train(["average", str(old), str(new), "--out", str(tmp_path / "old" / ".." / "new")])
    assert (new / "backbone-0.safetensors").read_bytes() == before


def test_two_of_different_shapes_are_refused(tmp_path: Path) -> None:
    old = export(tmp_path / "old", 1)
    new = export(tmp_path / "new", 2, replace(CARD, max_text_len=32))
    with pytest.raises(ConfigError, match="of one shape"):
        train(["average", str(old), str(new), "--out", str(tmp_path / "mean")])
    with pytest.raises(CheckpointError):
        train(["average", str(old), str(tmp_path / "none"), "--out", str(tmp_path / "mean")])
