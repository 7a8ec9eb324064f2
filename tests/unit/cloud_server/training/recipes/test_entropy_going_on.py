"""Training that goes on from exported integers: the float network again, and `adapted` alone."""

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from cloud_server.training.benchmark.entropy_report import exact_bits, float_bits
from cloud_server.training.recipes.entropy import adapt
from cloud_server.training.recipes.entropy import recipe as entropy
from cloud_server.training.recipes.entropy.adapt import OWN_ROW, with_row
from cloud_server.training.recipes.entropy.float_again import float_again, gelu_steps
from cloud_server.training.recipes.entropy.sequences import WAYS, Picture, Sampler
from cloud_server.training.recipes.entropy.trainer import EntropyTrainer
from shared_protocol.entropy.checkpoint import load, save
from shared_protocol.entropy.coder import EntropyModels
from shared_protocol.entropy.tables import gelu_table
from shared_protocol.errors import ConfigError
from shared_protocol.selfcheck.recorded_digests import selfcheck_digests
from shared_protocol.tasks import Scenario

TINY = Path(__file__).parents[4] / "golden" / "entropy" / "tiny.safetensors"
MODELS = [scenario for scenario in Scenario if scenario is not Scenario.UNIFORM]


def models_of(path: Path) -> EntropyModels:
    return EntropyModels.load(dict.fromkeys(MODELS, path))


def write_generated(folder: Path, split: str, count: int) -> None:
    """Pictures whose codes are few, so that there is something to learn."""
    rng = np.random.default_rng(len(split))
    np.save(folder / f"{split}_t2i_0.npy", rng.integers(0, 8, (count, 6, 6)).astype(np.uint16))
    rows = [json.dumps({"text": "a fox"}) + "\n" for _ in range(count)]
    (folder / f"{split}_t2i_0.jsonl").write_text("".join(rows))
    flags = np.zeros((6, 6), dtype=bool)
    flags[2:4, 1:5] = True
    np.save(folder / f"{split}_inpaint_2.npy", rng.integers(0, 8, (count, 6, 6)).astype(np.uint16))
    row = {"text": "a fox", "targets": np.packbits(flags).tobytes().hex()}
    (folder / f"{split}_inpaint_2.jsonl").write_text(count * (json.dumps(row) + "\n"))


def arguments(*words: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    entropy.add_arguments(parser)
    return parser.parse_args([*map(str, words), "--precision", "fp32", "--threads", "1"])


@pytest.mark.parametrize(("inner", "outer"), [(0.0054, 0.034), (0.002, 0.01), (0.02, 0.16)])
def test_the_steps_of_a_table_are_found_again(inner: float, outer: float) -> None:
    table = gelu_table(inner, outer)
    found = gelu_steps(table)
    assert found == pytest.approx((inner, outer), rel=0.01)
    assert int(np.abs(gelu_table(*found).astype(int) - table).max()) <= 1


def test_the_float_network_codes_as_the_integers_do() -> None:
    weights = load(TINY)
    network, models = float_again(weights).eval(), models_of(TINY)
    sampler = Sampler(None, dict.fromkeys(WAYS, 1.0), {}, 0)
    rng = np.random.default_rng(3)
    grids = rng.integers(0, weights.config.codebook_size, (6, 7, 8)).astype(np.int32)
    for way in ("generic", "masked", "text", "text_inside"):
        examples = [sampler.draw(Picture(grid), rng, way) for grid in grids]
        for scenario in MODELS:
            exact = exact_bits(models, scenario, examples)
            np.testing.assert_allclose(float_bits(network, scenario, examples), exact, rtol=0.02)


def test_another_row_changes_the_tables_of_adapted_and_of_nothing_else(tmp_path: Path) -> None:
    before = load(TINY)
    row = (before["kind"][OWN_ROW] + 40).astype(np.int16)
    after = with_row(before, row)
    for name, array in before.arrays.items():
        if name != "kind":
            np.testing.assert_array_equal(after[name], array)
    changed = (before["kind"] != after["kind"]).any(1)
    assert changed.nonzero()[0].tolist() == [OWN_ROW]
    save(after, tmp_path / "own.safetensors")
    digests = [selfcheck_digests(models_of(path)) for path in (TINY, tmp_path / "own.safetensors")]
    apart = {name for name in digests[0] if digests[0][name] != digests[1][name]}
    assert apart == {"adapted"}


def test_adapted_is_fitted_and_the_rest_stays(tmp_path: Path) -> None:
    write_generated(tmp_path, "train", 20)
    write_generated(tmp_path, "test", 3)
    out = tmp_path / "out"
    words = ["--adapt-from", TINY, "--generated-tokens", tmp_path, "--out", out]
    assert entropy.run(arguments(*words, "--steps", 24, "--rate", 4)) == 0
    before, after = load(TINY), load(out / entropy.EXPORT_NAME)
    assert (before["kind"] != after["kind"]).any(1).nonzero()[0].tolist() == [OWN_ROW]
    recorded = json.loads((out / "entropy_digests.json").read_text())
    kept = selfcheck_digests(models_of(TINY))
    assert {name for name in kept if kept[name] == recorded[name]} == set(kept) - {"adapted"}
    report = json.loads((out / adapt.REPORT_NAME).read_text())
    rates = report["bits a token of test pictures"]
    assert set(rates) == {"t2i", "inpaint"}
    own = {task: models_of(TINY) for task in rates}
    assert rates["t2i"]["pictures"] == 3
    was = adapt.measure(own["t2i"], arguments(*words))
    assert rates["t2i"]["generic"] == was["t2i"]["generic"]
    assert rates["t2i"]["adapted"] < was["t2i"]["adapted"]


def test_without_a_better_row_the_old_one_stays(tmp_path: Path) -> None:
    write_generated(tmp_path, "train", 10)
    words = ["--adapt-from", TINY, "--generated-tokens", tmp_path, "--out", tmp_path / "out"]
    assert entropy.run(arguments(*words, "--smoke", "--rate", 0.0)) == 0
    np.testing.assert_array_equal(
        load(tmp_path / "out" / entropy.EXPORT_NAME)["kind"], load(TINY)["kind"]
    )


def test_nothing_to_fit_to_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="generated"):
        entropy.run(arguments("--adapt-from", TINY, "--out", tmp_path / "out"))
    with pytest.raises(ConfigError, match="adapt-from"):
        entropy.run(arguments("--out", tmp_path / "out"))


@pytest.mark.parametrize("own", [False, True])
def test_all_of_it_goes_on_from_an_exported_file(own: bool, tmp_path: Path) -> None:
    path, tiny = tmp_path / "begin.safetensors", load(TINY)
    save(with_row(tiny, tiny["kind"][OWN_ROW] + 40) if own else tiny, path)
    np.save(tmp_path / "train_0.npy", np.random.default_rng(0).integers(0, 8192, (5, 8, 8)))
    words = ["--tokens", tmp_path, "--start-from", path, "--out", tmp_path / "out"]
    args = arguments(*words, "--smoke", "--generated-share", 0.6)
    recipe = entropy.asked_recipe(args)
    assert recipe.batches["generated_share"] == 0.6
    args.device = "cpu"
    trainer = EntropyTrainer(recipe, args)
    assert trainer.config == tiny.config
    expected = float_again(load(path)).state_dict()
    torch.testing.assert_close(trainer.model.state_dict(), expected, rtol=0, atol=0)
    assert trainer.fitted is own
    assert entropy.run(args) == 0
    rows = load(tmp_path / "out" / entropy.EXPORT_NAME)["kind"]
    assert np.array_equal(rows[OWN_ROW], rows[OWN_ROW - 1]) is not own
