"""The backbone's answers as training data: shards, resuming, and the fine-tuning on them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from cloud_server.generation.work import PictureResult, PictureWork
from cloud_server.training.recipes.entropy import recipe as entropy
from cloud_server.training.recipes.entropy.sequences import Pool, Sampler
from cloud_server.training.recipes.runs import CHECKPOINT
from cloud_server.training.scenes.world import World
from cloud_server.training.tokens import generated_tokens
from cloud_server.training.tokens.generated_tokens import Job, plan, work, write_shard
from shared_protocol.bundles.bundle import Bundle
from shared_protocol.bundles.find import load_bundle
from shared_protocol.entropy.checkpoint import load
from shared_protocol.entropy.config import KIND_TARGET
from shared_protocol.errors import ConfigError
from shared_protocol.tasks import Scenario

OPTIONS = {"window_share": 0.5, "offset_share": 0.5}


class CountingEngine:
    """Answers with one code everywhere, and keeps what stays."""

    def __init__(self) -> None:
        self.requests: list[PictureWork] = []

    def run(self, requests: list[PictureWork]) -> list[PictureResult]:
        self.requests += requests
        return [PictureResult(self._fill(request)) for request in requests]

    def _fill(self, request: PictureWork) -> np.ndarray:
        grid = np.full((16, 16), 4_711, dtype=np.int64)
        if request.codes is None or request.mask is None:
            return grid
        return np.where(request.mask, grid, request.codes)


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return load_bundle()


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    """A folder of scene shards."""
    folder = tmp_path / "tokens"
    folder.mkdir()
    world, rng = World.load(None), np.random.default_rng(0)
    for split in ("train", "test"):
        scenes = [world.sample_scene(rng, split) for _ in range(5)]
        lines = "".join(json.dumps(scene.to_dict()) + "\n" for scene in scenes)
        (folder / f"{split}_00000.jsonl").write_text(lines)
        codes = rng.integers(0, 8192, (5, 16, 16)).astype(np.uint16)
        np.save(folder / f"{split}_00000.npy", codes)
    return folder


def arguments(tokens: Path, *more: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    generated_tokens.add_arguments(parser)
    out = tokens.parent / "generated"
    out.mkdir(exist_ok=True)
    return parser.parse_args(["--tokens", str(tokens), "--out", str(out), *more])


def fill(jobs: list[Job], bundle: Bundle) -> CountingEngine:
    engine = CountingEngine()
    for job in jobs:
        scenes = generated_tokens._scenes(job.tokens, job.split)
        write_shard(job, engine, bundle, scenes)
    return engine


def test_shards_hold_answers_with_their_words_and_what_was_filled_in(
    tokens: Path, bundle: Bundle
) -> None:
    jobs = plan(arguments(tokens, "--pictures", "6", "--shard", "2", "--test-pictures", "2"))
    assert [(job.split, job.kind) for job in jobs] == [
        ("test", "t2i"), ("train", "t2i"), ("train", "t2i"), ("train", "inpaint"),
    ]  # fmt: skip
    engine = fill(jobs, bundle)
    assert {request.steps for request in engine.requests} == {bundle.defaults.steps}
    pool = Pool(jobs[0].out, scenario=Scenario.ADAPTED)
    assert pool.refresh() == 6
    drawn = [picture for picture in pool.pictures if picture.targets is None]
    filled = [picture for picture in pool.pictures if picture.targets is not None]
    assert (len(drawn), len(filled)) == (4, 2)
    assert all(picture.text for picture in pool.pictures)
    for picture in filled:
        assert picture.targets is not None
        assert np.array_equal(picture.codes == 4_711, picture.targets)


def test_what_was_filled_in_is_what_an_example_codes(tokens: Path, bundle: Bundle) -> None:
    job = plan(arguments(tokens, "--pictures", "6", "--shard", "2"))[-1]
    fill([job], bundle)
    pool = Pool(job.out, scenario=Scenario.ADAPTED)
    pool.refresh()
    sampler = Sampler(bundle.text_tokenizer, {"generic": 1.0}, OPTIONS, 32)
    example = sampler.draw(pool.pictures[0], np.random.default_rng(0))
    assert example.scenario is Scenario.ADAPTED
    assert set(example.codes.tolist()) == {4_711}
    assert np.array_equal(example.context.known, ~example.context.targets)
    assert len(example.context.text) > 0


def test_finished_shards_are_kept_and_other_settings_refused(tokens: Path, bundle: Bundle) -> None:
    args = arguments(tokens, "--pictures", "2", "--test-pictures", "2", "--shard", "2")
    jobs = plan(args)
    fill(jobs, bundle)
    stamps = [job.codes_path.stat().st_mtime_ns for job in jobs]
    assert generated_tokens.run(args) == 0
    assert [job.codes_path.stat().st_mtime_ns for job in jobs] == stamps
    with pytest.raises(ConfigError, match="empty folder"):
        generated_tokens.run(arguments(tokens, "--shard", "3"))


def test_the_built_in_backbone_draws_a_shard(tokens: Path) -> None:
    args = arguments(tokens, "--pictures", "1", "--test-pictures", "0", "--steps", "1")
    assert work(plan(args), deadline=None) == 1
    codes = np.load(plan(args)[0].codes_path)
    assert codes.shape == (1, 16, 16)
    assert codes.dtype == np.uint16
    assert len(np.unique(codes)) > 1


def test_no_shard_is_started_after_the_deadline(tokens: Path) -> None:
    assert work(plan(arguments(tokens, "--pictures", "1", "--steps", "1")), deadline=1.0) == 0


def train(tokens: Path, out: Path, *more: str) -> Path:
    parser = argparse.ArgumentParser()
    entropy.add_arguments(parser)
    words = ["--tokens", str(tokens), "--out", str(out), "--smoke", "--precision", "fp32"]
    assert entropy.run(parser.parse_args([*words, "--threads", "1", *more])) == 0
    return out / CHECKPOINT


def kind_rows(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    rows = torch.load(path, weights_only=True)["model"]["kind.weight"]
    first = KIND_TARGET - 1
    return rows[first + Scenario.TEXT_CONDITIONED], rows[first + Scenario.ADAPTED]


def test_fine_tuning_starts_at_the_text_model_and_then_goes_its_own_way(
    tokens: Path, bundle: Bundle, tmp_path: Path
) -> None:
    fill(plan(arguments(tokens, "--pictures", "6", "--shard", "2")), bundle)
    generated = ["--generated-tokens", str(tmp_path / "generated")]
    start = train(tokens, tmp_path / "first")
    exported = load(tmp_path / "first" / entropy.EXPORT_NAME)["kind"]
    text, adapted = (KIND_TARGET - 1 + s for s in (Scenario.TEXT_CONDITIONED, Scenario.ADAPTED))
    assert np.array_equal(exported[text], exported[adapted])
    tuned = train(tokens, tmp_path / "second", "--start", str(start), *generated)
    text_row, adapted_row = kind_rows(tuned)
    assert not torch.equal(text_row, adapted_row)
    assert torch.allclose(text_row, adapted_row, atol=0.1)
    again = train(tokens, tmp_path / "third", "--start", str(tuned))
    assert torch.load(again, weights_only=True)["adapted"]
    assert not torch.equal(*kind_rows(again))
