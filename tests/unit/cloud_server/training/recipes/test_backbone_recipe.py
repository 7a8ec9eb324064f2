"""The recipe of the unified transformer, run for three tiny steps."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from cloud_server.generation.backbone.checkpoint import load_builtin_backbone
from cloud_server.serving.load import backbone_path
from cloud_server.settings import Settings
from cloud_server.training.recipes.backbone import recipe as backbone
from cloud_server.training.recipes.backbone.schedule import probe_share, rate_factor
from cloud_server.training.scenes.world import World
from cloud_server.training.tokens.kept_pictures import KeptPicture, write_kept
from shared_protocol.bundles.find import load_bundle
from shared_protocol.errors import ConfigError

MORE = backbone.DEFAULT_CONFIG.with_name("backbone_more.toml")


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def _arguments(tokens: Path, *more: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    backbone.add_arguments(parser)
    words = load_bundle("builtin").path("text_tokenizer")
    flags = ["--tokens", tokens, "--text-tokenizer", words, "--out", tokens / "out", "--smoke"]
    return parser.parse_args([str(flag) for flag in [*flags, *more]])


def test_folder_without_scenes_says_how_to_make_some(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cloud-server train token-cache"):
        backbone.run(_arguments(tmp_path))


def _write_tokens(folder: Path) -> Path:
    """Four scenes of random codes, and one of them as a kept picture; returns where that is."""
    world, rng = World.load(), np.random.default_rng(0)
    scenes = [world.sample_scene(rng, "train") for _ in range(4)]
    codes = rng.integers(0, 8192, (4, 16, 16))
    np.save(folder / "train_00000.npy", codes.astype(np.uint16))
    lines = "".join(json.dumps(scene.to_dict()) + "\n" for scene in scenes)
    (folder / "train_00000.jsonl").write_text(lines)
    order = rng.integers(0, 9, (16, 16)).astype(np.uint8)
    kept = folder / "kept"
    kept.mkdir()
    write_kept(
        kept / "train_00000.npy",
        [KeptPicture(scenes[0], "", codes[0], order, codes[0])],
        (16, 16),
    )
    return kept


@pytest.mark.slow
def test_more_training_starts_from_an_export_and_learns_from_kept_pictures(tmp_path: Path) -> None:
    kept = _write_tokens(tmp_path)
    start = backbone_path(load_bundle("builtin"), Settings())
    flags = ["--config", MORE, "--start-from", start, "--kept-pictures", kept, "--threads", 1]
    args = _arguments(tmp_path, *flags, "--export", tmp_path / "export")
    assert backbone.run(args) == 0
    old, new = (load_builtin_backbone(path).backbone for path in (start, tmp_path / "export"))
    before, after = (net.phi.lm_head.weight for net in (old, new))
    assert not torch.equal(before, after)
    assert torch.allclose(before, after, atol=0.1), "three small steps away"


def test_the_probe_is_without_a_say_while_it_settles() -> None:
    rates = {"probe_settle_share": 0.1}
    assert [probe_share(share, rates) for share in (0.0, 0.1, 0.15, 0.2, 1.0)] == [
        0.0, 0.0, 0.5, 1.0, 1.0,
    ]  # fmt: skip
    assert probe_share(0.0, {}) == probe_share(0.0, {"probe_settle_share": 0.0}) == 1.0


def test_rates_warm_up_stay_and_cool_down() -> None:
    rates = {"warm_up_share": 0.1, "cool_down_share": 0.5}
    assert rate_factor(0.0, rates) == pytest.approx(0.02)
    assert rate_factor(0.3, rates) == 1.0
    assert rate_factor(0.75, rates) == pytest.approx(0.5)
    assert rate_factor(1.0, rates) == 0.0
