"""One entropy model against three: sizes and lengths are equal, and the table says what was run."""

import json
from pathlib import Path

import numpy as np
import pytest

from cloud_server.training.command import train
from cloud_server.training.recipes.entropy.one_or_three import (
    ALL,
    NAME,
    NETWORKS,
    Trained,
    compare,
    parameters_of,
    recipe_of,
    steps_of,
)
from shared_protocol.entropy.config import EntropyConfig


def test_three_networks_are_as_large_together_as_the_one() -> None:
    sizes = {
        scenario: parameters_of(EntropyConfig(**recipe_of(scenario, None, False).network))
        for scenario in NETWORKS
    }
    one = sizes.pop(ALL)
    assert sum(sizes.values()) == pytest.approx(one, rel=0.05)
    assert max(sizes.values()) < 1.1 * min(sizes.values())


def test_three_networks_see_as_many_sequences_as_the_one() -> None:
    specialists = [scenario for scenario in NETWORKS if scenario != ALL]
    assert sum(steps_of(scenario, 600, 1) for scenario in specialists) == steps_of(ALL, 600, 1)


def test_the_difference_counts_tokens_and_pictures() -> None:
    tokens = {"masked": np.array([10, 30])}
    one = Trained(ALL, 1, 6, 1, 1, 0.0, {"masked": np.array([10.0, 30.0])}, tokens)
    other = Trained("masked", 1, 2, 1, 1, 0.0, {"masked": np.array([20.0, 40.0])}, tokens)
    (row,) = compare(one, [other])
    assert (row.one, row.three, row.tokens) == (1.0, {1: 1.5}, 40)
    assert row.less[1] == (0.5, 0.0)


def test_a_smoke_run_writes_both_tables(tmp_path: Path) -> None:
    np.save(tmp_path / "train_0.npy", np.random.default_rng(0).integers(0, 8192, (5, 8, 8)))
    words = ["one-or-three", "--tokens", tmp_path, "--out", tmp_path / "out", "--smoke"]
    assert train([*map(str, words), "--precision", "fp32", "--threads", "1"]) == 0
    found = json.loads((tmp_path / "out" / f"{NAME}.json").read_text())
    assert {row["scenario"] for row in found["rows"]} == set(NETWORKS) - {ALL}
    assert [network["scenario"] for network in found["networks"]].count("generic") == 2
    assert "| masked |" in (tmp_path / "out" / f"{NAME}.md").read_text()
