"""Training text as people type it."""

import re
from dataclasses import replace

import numpy as np
import pytest

from cloud_server.training.recipes.backbone.batch_maker import BatchMaker
from cloud_server.training.recipes.backbone.data_config import DataConfig
from cloud_server.training.scenes.language import QA, caption
from cloud_server.training.scenes.typed_forms import typed_form
from cloud_server.training.scenes.world import World, default_world
from shared_protocol.vocabulary import Vocabulary
from shared_protocol.words.plain import plain_prompt, plain_question


class Letters:
    """One id per letter."""

    eot_id, size = 0, 300
    before: list[int] = []  # noqa: RUF012 - never changed
    after: list[int] = []  # noqa: RUF012 - never changed

    def encode(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]


def maker(**changes: float) -> BatchMaker:
    config = replace(DataConfig(dropout=0.0, describe_share=0.0), **changes)
    return BatchMaker(config, Vocabulary(300, 8192), Letters(), World.load())  # type: ignore[arg-type]


def bare(text: str) -> str:
    return re.sub(r"\b(an?|the|draw) ", "", text)


@pytest.mark.parametrize("asks", [False, True])
def test_every_form_says_the_same_in_plain_text(asks: bool) -> None:
    plain = plain_question if asks else plain_prompt
    text = "what is left of a gray airplane?" if asks else "a donut in the center of the picture"
    forms = {typed_form(text, np.random.default_rng(seed), asks=asks) for seed in range(400)}
    assert len(forms) > 50
    assert {bare(plain(form)) for form in forms} == {bare(plain(text))}


def test_equal_seeds_give_equal_forms_and_draw_equally_many_numbers() -> None:
    states = set()
    for text in ("a fox", "a fox on a beach at night in the gray snow"):
        rng = np.random.default_rng(5)
        first = typed_form(text, rng, asks=False)
        states.add(str(rng.bit_generator.state))
        assert typed_form(text, np.random.default_rng(5), asks=False) == first
    assert len(states) == 1


def test_without_a_share_training_draws_what_it_always_drew() -> None:
    scene = default_world().sample_scene(np.random.default_rng(0), "train")
    ours, theirs = np.random.default_rng(1), np.random.default_rng(1)
    block = maker().prompts.block(scene, ours, 0.0)
    theirs.random()
    said = _said(block)  # cut where the model reads no further
    assert len(said) > 50
    assert caption(scene, theirs, "train").startswith(said)
    theirs.random()  # whether stray words come in between
    assert ours.bit_generator.state == theirs.bit_generator.state


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_the_share_switches_prompts_and_questions(share: float) -> None:
    made = maker(typed_share=share)
    scene = default_world().sample_scene(np.random.default_rng(0), "train")
    prompts = [
        _said(made.prompts.block(scene, np.random.default_rng(seed), 0.0)) for seed in range(60)
    ]
    shouted = [prompt for prompt in prompts if prompt.isupper()]
    assert bool(shouted) == (share == 1.0)
    qa = QA("is there a fox?", "yes", "presence")
    asked = {made.turns([qa], np.random.default_rng(seed))[0].prompt for seed in range(60)}
    assert (len(asked) > 5) == (share == 1.0)
    assert made.turns([qa])[0].prompt == (0, *Letters().encode("is there a fox?"))


def _said(block: list[int]) -> str:
    return "".join(chr(token) for token in block if 0 < token < 300)
