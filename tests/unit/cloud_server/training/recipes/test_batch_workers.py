"""Batches made ahead by other processes are the batches of the same steps."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from cloud_server.training.recipes.backbone.batch import Batch
from cloud_server.training.recipes.backbone.batch_source import BatchSource, StepBatches
from cloud_server.training.recipes.backbone.batch_workers import BatchWorkers
from cloud_server.training.recipes.backbone.recipe import BackboneRecipe, Inputs, source_of
from cloud_server.training.scenes.world import World
from shared_protocol.bundles.find import load_bundle


@pytest.fixture
def source(tmp_path: Path) -> "partial[BatchSource]":
    world, rng = World.load(), np.random.default_rng(0)
    scenes = [world.sample_scene(rng, "train") for _ in range(6)]
    codes = rng.integers(0, 8192, (6, 16, 16)).astype(np.uint16)
    np.save(tmp_path / "train_00000.npy", codes)
    lines = "".join(json.dumps(scene.to_dict()) + "\n" for scene in scenes)
    (tmp_path / "train_00000.jsonl").write_text(lines)
    words = load_bundle("builtin").path("text_tokenizer")
    return partial(source_of, BackboneRecipe.load(), Inputs(tmp_path, words, None, None, None))


def same(one: StepBatches, other: StepBatches) -> bool:
    assert [name for name, _ in one] == [name for name, _ in other]
    return all(_same(a, b) for (_, a), (_, b) in zip(one, other, strict=True))


def _same(one: Batch, other: Batch) -> bool:
    return all(
        torch.equal(one_links.columns, other_links.columns)
        for one_links, other_links in ((one.said, other.said), (one.naming, other.naming))
    ) and all(
        torch.equal(getattr(one, name), getattr(other, name))
        for name in Batch.__dataclass_fields__
        if name not in ("said", "naming")
    )


@pytest.mark.slow
def test_workers_make_the_batches_of_their_steps(source: "partial[BatchSource]") -> None:
    here, workers = source(), BatchWorkers(2, source)
    try:
        for step in (0, 1, 2, 7):  # a run that is resumed begins anywhere
            assert same(workers.batches(step, 1.0), here.batches(step, 1.0))
    finally:
        workers.close()
    assert not same(here.batches(0, 1.0), here.batches(1, 1.0))


def test_more_windows_are_used_at_the_beginning_of_a_run(source: "partial[BatchSource]") -> None:
    made = source()
    early, late = ([name for name, _ in made.batches(3, share)] for share in (0.0, 1.0))
    assert early == ["t2i_window", "t2i", "mmu_window", "mmu"]
    assert late == ["t2i", "mmu"]
