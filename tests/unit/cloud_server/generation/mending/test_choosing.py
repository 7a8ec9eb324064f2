"""Weights that cannot be mended draw again until the model says yes."""

from collections.abc import Sequence

import numpy as np
import torch
from tiny_backbone import EOT, FRAME, MAX_TEXT_LEN, SIDE, VOCABULARY, tiny_backbone

from cloud_server.generation.engine import Engine, EngineOptions
from cloud_server.generation.mending.wording import Wording
from cloud_server.generation.work import PictureResult, PictureWork


def wording(answer: str) -> Wording:
    """Whatever the model says is read as `answer`."""
    return Wording(lambda text: [len(text) % 300], lambda ids: answer, FRAME, EOT)


def drawn(answer: str, best_of: int) -> tuple[np.ndarray, int]:
    """A picture, and how many were drawn."""
    options = EngineOptions(EOT, FRAME, SIDE, MAX_TEXT_LEN, best_of=best_of)
    seeds: list[Sequence[int]] = []

    def noise(given: Sequence[int]):
        from cloud_server.generation.engine import seeded_noise

        if given:
            seeds.append(given)
        return seeded_noise(given, torch.device("cpu"))

    engine = Engine(tiny_backbone(), VOCABULARY, options, noise, wording(answer))
    (result,) = engine.run([PictureWork("t2i", np.array([3, 4]), steps=2, seed=9)])
    assert isinstance(result, PictureResult)
    return result.codes, len(seeds)


def test_a_yes_at_once_draws_once():
    codes, times = drawn("Yes, there is.", 4)
    assert times == 1
    assert np.array_equal(codes, drawn("no", 1)[0])


def test_never_a_yes_draws_so_many_times_and_keeps_the_first():
    codes, times = drawn("no", 4)
    assert times == 4
    assert np.array_equal(codes, drawn("no", 1)[0])


def test_tries_are_counted_without_going_back():
    options = EngineOptions(EOT, FRAME, SIDE, MAX_TEXT_LEN, best_of=3)
    engine = Engine(tiny_backbone(), VOCABULARY, options, wording=wording("no"))
    steps: list[tuple[int, int]] = []
    request = PictureWork("t2i", np.array([3, 4]), steps=2, seed=9)
    engine.run([request], lambda *at: steps.append(at))
    shares = [done / total for done, total in steps]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
