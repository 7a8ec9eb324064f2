"""The shipped weights and the engine's care for pictures: asked, drawn, looked at, mended."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from cloud_server.generation.engine import Engine
from cloud_server.generation.masked_decoding import STANDARD
from cloud_server.generation.work import PictureResult, PictureWork
from cloud_server.serving.load import Care, backbone_path, load_engine
from cloud_server.settings import Settings
from shared_protocol.bundles.bundle import Bundle
from shared_protocol.bundles.find import load_bundle
from shared_protocol.tasks import Extension

PROMPT = "a fox left of a balloon on a beach"


@cache
def bundle() -> Bundle:
    return load_bundle("builtin")


@cache
def engine(mend: str = "auto", settle: str = "auto") -> Engine:
    loaded = load_engine(
        bundle(), backbone_path(bundle(), Settings()), "cpu", 1, care=Care(mend, settle)
    )
    assert isinstance(loaded, Engine)
    return loaded


def work(prompt: str, **more) -> PictureWork:
    ids = bundle().text_tokenizer.encode(prompt).ids.astype(np.int64)
    given = {"grid": (16, 16), "steps": 8, "guidance": 1.0, "seed": 3, **more}
    return PictureWork("t2i", ids, **given)


def codes(request: PictureWork, by: Engine) -> np.ndarray:
    (result,) = by.run([request])
    assert isinstance(result, PictureResult)
    return result.codes


def found(grid: np.ndarray, phrase: str) -> list[tuple[float, float]]:
    onlooker = engine()._onlooker
    assert onlooker is not None
    return [seen.place for seen in onlooker.find(grid, phrase)]


def test_a_pair_is_drawn_once_each_and_stands_as_asked():
    for seed in range(3):
        grid = codes(work(PROMPT, seed=seed), engine())
        ((_, fox),), ((_, balloon),) = found(grid, "a fox"), found(grid, "a balloon")
        assert fox < balloon
        assert not found(grid, "a car")


def test_a_prompt_that_is_not_understood_whole_is_mended_too():
    grid = codes(work("a shiny fox jumps over a balloon on a beach"), engine())
    assert len(found(grid, "a fox")) == 1
    assert len(found(grid, "a balloon")) == 1


def test_a_stated_quantity_is_drawn():
    grid = codes(work("two foxes on a beach", seed=1), engine())
    assert len(found(grid, "a fox")) == 2


def test_more_than_fits_is_not_mended():
    request = work("seven foxes on a beach", seed=1)
    assert np.array_equal(codes(request, engine()), codes(request, engine(mend="off")))


def test_a_picture_does_not_depend_on_the_batch():
    alone = codes(work(PROMPT), engine())
    first, second = engine().run([work("an owl in the snow"), work(PROMPT)])
    assert isinstance(first, PictureResult)
    assert isinstance(second, PictureResult)
    assert np.array_equal(second.codes, alone)
    assert np.array_equal(first.codes, codes(work("an owl in the snow"), engine()))


def test_a_request_may_forbid_mending():
    request = work("a shiny fox beside an owl", seed=2)
    assert np.array_equal(
        codes(replace(request, mend=0), engine()), codes(request, engine(mend="off"))
    )


def test_steps_are_counted_without_going_back():
    steps: list[tuple[int, int]] = []
    engine().run([work("a shiny fox beside an owl", seed=2)], lambda *at: steps.append(at))
    shares = [done / total for done, total in steps]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert steps[0][1] == 8 + STANDARD.settle_passes


def hole(phrase: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture with one thing, and a hole elsewhere."""
    grid = codes(work(f"{phrase} at the left on a beach", seed=seed), engine())
    mask = np.zeros((16, 16), dtype=bool)
    mask[5:12, 9:16] = True
    return grid, mask


def test_what_is_asked_for_stands_in_the_hole_and_all_else_stays():
    grid, mask = hole("a fox", 4)
    ids = bundle().text_tokenizer.encode("an owl on a beach").ids.astype(np.int64)
    request = PictureWork("inpaint", ids, grid, mask, steps=8, guidance=1.0, seed=1)
    made = codes(request, engine())
    assert np.array_equal(made[~mask], grid[~mask])
    ((row, column),) = found(made, "an owl")
    assert mask[round(row), round(column)]


def test_an_extension_repeats_nothing_and_keeps_what_was_there():
    grid, _ = hole("a fox", 4)
    ids = bundle().text_tokenizer.encode("a beach").ids.astype(np.int64)
    request = PictureWork(
        "outpaint", ids, grid, extension=Extension(right=8), steps=8, guidance=1.0, seed=6
    )
    made = codes(request, engine())
    assert np.array_equal(made[:, :16], grid)
    assert not [place for place in found(made[:, 8:], "a fox") if place[1] >= 8.5]


@pytest.mark.parametrize("settle", ["off", "8"])
def test_settling_can_be_chosen(settle):
    assert not np.array_equal(
        codes(work(PROMPT), engine(settle=settle)), codes(work(PROMPT), engine())
    )
