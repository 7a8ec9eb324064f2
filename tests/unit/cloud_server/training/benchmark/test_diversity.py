"""Distances between pictures of one prompt, and the command that measures them."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from cloud_server.generation.work import PictureResult, PictureWork
from cloud_server.serving.load import Care
from cloud_server.training.benchmark import diversity
from cloud_server.training.benchmark.case_makers import t2i_cases
from cloud_server.training.benchmark.cases import SEED
from cloud_server.training.command import train
from cloud_server.training.scenes.world import World
from shared_protocol.bundles.find import load_bundle
from shared_protocol.errors import InvalidInputError


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


class SeededEngine:
    """Draws one cell in the code of the seed, all others alike."""

    def __init__(self) -> None:
        self.asked: list[PictureWork] = []
        self.care = Care()

    def as_asked(self, care: Care) -> "SeededEngine":
        self.care = care
        return self

    def run(self, requests: list[PictureWork]) -> list[PictureResult]:
        self.asked += requests
        return [PictureResult(self._drawn(request)) for request in requests]

    def _drawn(self, request: PictureWork) -> np.ndarray:
        codes = np.zeros((16, 16), dtype=np.int64)
        codes[0, 0] = request.seed
        return codes


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> SeededEngine:
    found = SeededEngine()
    monkeypatch.setattr(diversity, "load_engine", lambda *asked, care: found.as_asked(care))
    return found


def measured(out: Path, *options: str) -> dict:
    assert train(["diversity", "--out", str(out / "made" / "d.json"), *options]) == 0
    return json.loads((out / "made" / "d.json").read_text())


def test_equal_pictures_have_no_distance_and_others_that_of_their_cells() -> None:
    same, other = np.zeros((4, 4), dtype=np.int64), np.ones((4, 4), dtype=np.int64)
    assert diversity.distance(np.stack([same, same])) == 0
    assert diversity.distance(np.stack([same, other])) == 1
    assert diversity.distance(np.stack([same, same, other])) == pytest.approx(2 / 3)


def test_every_prompt_is_drawn_with_every_seed_as_a_server_draws(
    engine: SeededEngine, tmp_path: Path
) -> None:
    found = measured(tmp_path, "--prompts", "3", "--seeds", "4")
    assert found["mean"] == pytest.approx(1 / 256)
    assert [row["distance"] for row in found["prompts"]] == pytest.approx([1 / 256] * 3)
    assert [work.seed for work in engine.asked] == [1, 2, 3, 4] * 3
    bundle = load_bundle()
    defaults = (bundle.defaults.steps, bundle.defaults.guidance, bundle.grid)
    assert {(work.steps, work.guidance, work.grid) for work in engine.asked} == {defaults}
    assert found["about"]["seed"] == SEED


def test_what_is_asked_for_reaches_the_engine(engine: SeededEngine, tmp_path: Path) -> None:
    found = measured(tmp_path, "--smoke", "--guidance", "0", "--threads", "1")
    assert {(work.steps, work.guidance) for work in engine.asked} == {(2, 0.0)}
    assert (found["about"]["guidance"], len(engine.asked)) == (0.0, 4)


def test_its_prompts_are_not_those_of_the_evaluation() -> None:
    world = World.load(None)
    evaluated = {d.case.prompt for d in t2i_cases(world, 300, np.random.default_rng((SEED, 0)))}
    assert not evaluated & set(diversity.prompts(world, 20, SEED))


@pytest.mark.parametrize("options", [("--seeds", "1"), ("--prompts", "0")])
def test_one_picture_has_no_distance(tmp_path: Path, options: tuple[str, ...]) -> None:
    with pytest.raises(InvalidInputError, match="no distance"):
        measured(tmp_path, *options)


def test_pictures_before_they_are_mended_are_measured_where_asked(
    engine: SeededEngine, tmp_path: Path
) -> None:
    told = measured(tmp_path, "--prompts", "1", "--seeds", "2", "--mend", "off", "--settle", "off")
    assert engine.care == Care("off", "off")
    assert told["about"]["mend"] == told["about"]["settle"] == "off"
