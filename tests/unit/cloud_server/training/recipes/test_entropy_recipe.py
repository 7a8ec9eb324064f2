"""The entropy recipe: contexts, batches, a smoke run with resume, the report's static code."""

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from cloud_server.training.benchmark import entropy_report
from cloud_server.training.benchmark.entropy_report import STREAMS, static_costs
from cloud_server.training.recipes.entropy import recipe as entropy
from cloud_server.training.recipes.entropy import trainer as training
from cloud_server.training.recipes.entropy.sequences import (
    WAYS,
    Picture,
    Pool,
    Sampler,
    collate,
    region,
)
from cloud_server.training.recipes.entropy.trainer import EntropyTrainer
from shared_protocol.entropy.checkpoint import load
from shared_protocol.entropy.coder import EntropyModels
from shared_protocol.entropy.config import EntropyConfig
from shared_protocol.errors import ConfigError
from shared_protocol.tasks import Scenario

TINY = Path(__file__).parents[4] / "golden" / "entropy" / "tiny.safetensors"
OPTIONS = {"window_share": 0.5, "offset_share": 0.5}
SHARES = dict.fromkeys(WAYS, 1.0)
CONFIG = EntropyConfig()


def picture(seed: int) -> Picture:
    rng = np.random.default_rng(seed)
    return Picture(rng.integers(0, 8192, (16, 16)).astype(np.int32))


@pytest.mark.parametrize("seed", range(8))
def test_masks_select_something_and_leave_something(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for shape in ((16, 16), (8, 11)):
        flags = region(shape, picture(seed), rng)
        assert flags.shape == shape
        assert flags.any()
        assert not flags.all()


def test_batches_hold_every_target_once() -> None:
    sampler = Sampler(None, SHARES, OPTIONS, CONFIG.side)
    rng = np.random.default_rng(0)
    examples = [sampler.draw(picture(seed), rng) for seed in range(12)]
    batch = collate(examples, CONFIG)
    assert int(batch.is_target.sum()) == sum(example.context.count for example in examples)
    assert torch.equal(
        batch.codes[batch.is_target],
        torch.from_numpy(np.concatenate([example.codes for example in examples])).long(),
    )
    assert int(batch.places.max()) < CONFIG.side


def test_pools_pick_up_new_shards_and_skip_broken_ones(tmp_path) -> None:
    pool = Pool(tmp_path)
    assert pool.refresh() == 0
    np.save(tmp_path / "train_0.npy", np.zeros((3, 4, 4), np.uint16))
    (tmp_path / "train_1.npy").write_bytes(b"half a fi")
    assert pool.refresh() == 3
    np.save(tmp_path / "train_2.npy", np.zeros((1, 4, 4), np.uint16))
    (tmp_path / "train_2.jsonl").write_text(json.dumps({"text": "a fox"}) + "\n")
    assert pool.refresh() == 4
    assert pool.pictures[-1].text == "a fox"


def test_a_smoke_run_exports_certified_weights_and_resumes(tmp_path) -> None:
    np.save(tmp_path / "train_0.npy", np.random.default_rng(0).integers(0, 8192, (5, 8, 8)))
    parser = argparse.ArgumentParser()
    entropy.add_arguments(parser)
    arguments = ["--tokens", str(tmp_path), "--out", str(tmp_path / "out"), "--smoke"]
    arguments += ["--precision", "fp32", "--threads", "1"]
    assert entropy.run(parser.parse_args(arguments)) == 0
    assert load(tmp_path / "out" / entropy.EXPORT_NAME).config.width == 32
    assert entropy.run(parser.parse_args([*arguments, "--resume"])) == 0
    state = torch.load(tmp_path / "out" / training.CHECKPOINT, weights_only=True)
    assert state["progress"]["step"] == entropy.SMOKE_STEPS


def go_on(trainer: EntropyTrainer, steps: int) -> None:
    for _ in range(steps):
        trainer.advance(trainer.progress.share(4, 0.0))
        trainer.progress.step += 1


def test_a_resumed_run_is_the_run_that_was_never_interrupted(tmp_path) -> None:
    np.save(tmp_path / "train_0.npy", np.random.default_rng(0).integers(0, 8192, (5, 8, 8)))
    parser = argparse.ArgumentParser()
    entropy.add_arguments(parser)
    words = ["--tokens", str(tmp_path), "--out", str(tmp_path), "--smoke", "--steps", "4"]
    args = parser.parse_args([*words, "--precision", "fp32", "--device", "cpu", "--resume"])
    recipe = entropy.asked_recipe(args)
    whole = EntropyTrainer(recipe, args)
    go_on(whole, 4)
    first = EntropyTrainer(recipe, args)
    go_on(first, 2)
    first.save()
    second = EntropyTrainer(recipe, args)
    assert second.progress.step == 2
    go_on(second, 2)
    torch.testing.assert_close(second.model.state_dict(), whole.model.state_dict(), rtol=0, atol=0)
    assert not torch.equal(first.model.kind.weight, second.model.kind.weight)


def test_the_seed_flag_replaces_the_recipes_seed() -> None:
    parser = argparse.ArgumentParser()
    entropy.add_arguments(parser)
    args = parser.parse_args(["--out", "out", "--seed", "99"])
    assert entropy.asked_recipe(args).seed == 99
    args = parser.parse_args(["--out", "out"])
    assert entropy.asked_recipe(args).seed == training.EntropyRecipe.load().seed


def test_too_few_pictures_are_refused(tmp_path) -> None:
    np.save(tmp_path / "train_0.npy", np.zeros((2, 8, 8), np.uint16))
    parser = argparse.ArgumentParser()
    entropy.add_arguments(parser)
    words = ["--tokens", str(tmp_path), "--out", str(tmp_path / "out"), "--smoke"]
    with pytest.raises(ConfigError, match="holds 2 pictures, too few"):
        entropy.run(parser.parse_args(words))


def test_the_static_code_is_complete() -> None:
    costs = static_costs(np.array([5, 0, 3, 0]))
    assert np.exp2(-costs).sum() == pytest.approx(1.0)


def test_the_report_tells_each_scenario_on_each_stream_and_what_choosing_saves(
    tmp_path, capsys
) -> None:
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        np.save(tmp_path / f"{split}_0.npy", rng.integers(0, 8192, (3, 6, 6)).astype(np.uint16))
    parser = argparse.ArgumentParser()
    entropy_report.add_arguments(parser)
    words = ["--photo-tokens", str(tmp_path), "--weights", str(TINY), "--threads", "1"]
    assert entropy_report.run(parser.parse_args(words)) == 0
    rates, choices = capsys.readouterr().out.split("\n\n")
    for stream in STREAMS:
        assert f"| photographs | {stream} |" in rates
        assert f"| photographs | {stream} |" in choices
    assert entropy_report.run(parser.parse_args([])) == 1


def test_a_row_adds_up_the_exact_models_and_chooses_among_those_allowed() -> None:
    models = EntropyModels.load({Scenario.GENERIC: TINY, Scenario.MASKED: TINY})
    sampler = Sampler(None, {"text": 1.0}, {}, 0)
    order0 = np.full(8192, 13.0)
    name = "outside a mask (inpaint up)"
    shown = [picture(seed) for seed in range(3)]
    row = entropy_report.measure("photographs", name, shown, models, sampler, order0, 0)
    assert (row.bits["uniform"], row.bits["order-0"], row.bits["adapted"]) == (13.0, 13.0, None)
    masked = row.bits["masked"]
    assert masked == pytest.approx(row.exact[Scenario.MASKED].sum() / row.tokens)
    best = row.sizes([Scenario.GENERIC, Scenario.MASKED])
    assert (best <= row.sizes([Scenario.GENERIC])).all()
    assert (best <= row.sizes([Scenario.MASKED])).all()


def test_the_float_network_is_compared_on_the_same_streams(tmp_path) -> None:
    network = entropy_report.EntropyModel(load(TINY).config)
    example = Sampler(None, {"text": 1.0}, {}, 0).draw(picture(1), np.random.default_rng(0), "text")
    (bits,) = entropy_report.float_bits(network.eval(), Scenario.GENERIC, [example])
    assert bits == pytest.approx(13 * 256, rel=1e-5)  # an untrained head is uniform
