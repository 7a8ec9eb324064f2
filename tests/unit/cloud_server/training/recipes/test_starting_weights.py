"""Training that goes on from exported weights begins with exactly what those weights say."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cloud_server.generation.backbone.checkpoint import (
    BackboneCard,
    load_builtin_backbone,
    save_builtin_backbone,
)
from cloud_server.generation.backbone.showo import ShowoConfig
from cloud_server.training.recipes.backbone.batch import Batch, Links
from cloud_server.training.recipes.backbone.network import TrainedBackbone
from cloud_server.training.recipes.backbone.starting_weights import start_from
from shared_protocol.errors import CheckpointError, ConfigError
from shared_protocol.vocabulary import Vocabulary

TOLERANCE = 1e-5  # the same sums in another order, float32
VOCABULARY = Vocabulary(40, 256)
SIDE = 16
CONFIG = ShowoConfig(VOCABULARY.size, 32, 64, 3, 2, 512, stem_width=4, stem_codes=256)
CARD = BackboneCard(CONFIG, 40, 256, SIDE, 64)


def _net(seed: int) -> TrainedBackbone:
    torch.manual_seed(seed)
    net = TrainedBackbone(CONFIG, VOCABULARY, (5, 4, SIDE, SIDE), 2)
    with torch.no_grad():  # what is zero at first would hide what is left out
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return net.eval()


def _batch(seed: int, *, pictures: bool) -> Batch:
    rng = np.random.default_rng(seed)
    text = rng.integers(0, 40, 6)
    codes = VOCABULARY.image_offset + rng.integers(0, 256, SIDE * SIDE)
    ids = torch.from_numpy(np.concatenate([text, codes]))[None]
    length = ids.shape[1]
    low, high = (VOCABULARY.image_offset, VOCABULARY.image_offset + 256) if pictures else (0, 40)
    targets = torch.from_numpy(rng.integers(low, high, length))
    positions = torch.cat([60 + torch.arange(6), 66 + torch.arange(SIDE * SIDE)])[None]
    allow = torch.ones(1, 1, length, length, dtype=torch.bool)
    return Batch(
        ids,
        positions,
        allow,
        torch.arange(length),
        targets,
        torch.ones(length),
        torch.zeros(length, dtype=torch.int64),
        torch.arange(6, 16),
        torch.zeros(10, 4, dtype=torch.int64),
        Links.none(),
        Links.none(),
    )


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    save_builtin_backbone(_net(1).plain_state(), CARD, folder)
    return folder


@pytest.mark.parametrize("pictures", [False, True])
def test_losses_are_those_of_the_served_weights(exported: Path, pictures: bool) -> None:
    net, batch = _net(2), _batch(3, pictures=pictures)
    start_from(net, CARD, exported)
    served = load_builtin_backbone(exported).backbone
    logits = served.logits(batch.ids, batch.allow, batch.positions)[0]
    columns = slice(VOCABULARY.image_offset, -1) if pictures else slice(VOCABULARY.image_offset)
    targets = batch.targets - (VOCABULARY.image_offset if pictures else 0)
    expected = torch.nn.functional.cross_entropy(logits[:, columns], targets, reduction="none")
    with torch.no_grad():
        losses, _, _ = net.losses(batch)
    torch.testing.assert_close(losses, expected, atol=TOLERANCE, rtol=TOLERANCE)


def test_what_was_taken_over_is_given_again_to_the_bit() -> None:
    first, second = _net(1), _net(2)
    state = first.plain_state()
    second.take_over(state)
    again = second.plain_state()
    assert state.keys() == again.keys()
    assert all(torch.equal(state[name], again[name]) for name in state)


def test_export_of_a_start_says_the_same_up_to_rounding(exported: Path, tmp_path: Path) -> None:
    net, batch = _net(2), _batch(4, pictures=True)
    start_from(net, CARD, exported)
    save_builtin_backbone(net.plain_state(), CARD, tmp_path)
    old, new = (
        load_builtin_backbone(folder).backbone.logits(batch.ids, batch.allow, batch.positions)
        for folder in (exported, tmp_path)
    )
    # The rows are multiples of their scale already; only the scale may round anew, by 2^-11.
    torch.testing.assert_close(new, old, atol=2e-3 * float(old.abs().max()), rtol=0)


def test_new_probe_learns_without_moving_the_network() -> None:
    net, batch = _net(1), _batch(5, pictures=True)

    def gradients(share: float) -> tuple[torch.Tensor, torch.Tensor]:
        net.zero_grad()
        net.probe_share = share
        _, _, probe = net.losses(batch)
        probe.backward()
        inner = net.inner.layers[0].mlp.fc1.weight.grad
        assert net.probe.weight.grad is not None
        return net.probe.weight.grad.clone(), torch.zeros(1) if inner is None else inner.clone()

    (told, none), (_, half), (_, whole) = (gradients(share) for share in (0.0, 0.5, 1.0))
    assert told.abs().max() > 0
    assert none.abs().max() == 0
    torch.testing.assert_close(half, whole / 2)
    assert whole.abs().max() > 0


def test_weights_of_another_shape_are_refused(exported: Path) -> None:
    other = BackboneCard(CONFIG, 40, 256, SIDE, 32)
    with pytest.raises(ConfigError, match="recipe's shape"):
        start_from(_net(2), other, exported)


def test_missing_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no compact backbone"):
        start_from(_net(2), CARD, tmp_path)
