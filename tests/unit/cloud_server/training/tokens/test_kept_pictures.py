"""The backbone's own drawings: what is kept of them, which pass, and how shards are resumed."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from cloud_server.generation.work import AnswerResult, AnswerWork, PictureResult, PictureWork
from cloud_server.training.scenes.world import PlacedSprite, Scene, World
from cloud_server.training.tokens import picture_drawer
from cloud_server.training.tokens.kept_pictures import (
    DrawingPath,
    KeptPicture,
    load_kept,
    write_kept,
)
from cloud_server.training.tokens.picture_drawer import PictureDrawer, plan, work, write_shard
from shared_protocol.bundles.bundle import Bundle
from shared_protocol.bundles.find import load_bundle
from shared_protocol.errors import ConfigError, InvalidInputError
from shared_protocol.messages import Options
from shared_protocol.tokens import TextTokens

SCENE = Scene((PlacedSprite("fox", 0, 0, 96),), "beach")
WORDS = "a fox at the top left, on a beach"
CODES = np.arange(256, dtype=np.int64).reshape(16, 16)


class DrawingEngine:
    """Draws row after row, mends one token at the end, and gives prepared answers."""

    def __init__(self, bundle: Bundle, answers: dict[str, str]) -> None:
        self._words, self._answers = bundle.text_tokenizer, answers
        self.drawn: list[PictureWork] = []

    def run(self, requests: list[PictureWork | AnswerWork]) -> list[PictureResult | AnswerResult]:
        return [self._one(request) for request in requests]

    def _one(self, request: PictureWork | AnswerWork) -> PictureResult | AnswerResult:
        if isinstance(request, AnswerWork):
            asked = self._text(request.text_ids)
            ids = self._words.encode(f" {self._answers[asked]}").ids
            return AnswerResult(ids.astype(np.int64), finished=True)
        self.drawn.append(request)
        assert request.watch is not None
        for rows in (8, 16):
            request.watch(np.where(np.arange(16)[:, None] < rows, CODES, -1))
        mended = CODES.copy()
        mended[0, 0] = 7
        request.watch(mended)
        return PictureResult(mended)

    def _text(self, ids: np.ndarray) -> str:
        return self._words.decode(TextTokens(ids.astype(np.int32), self._words.size))


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return load_bundle()


def arguments(out: Path, *more: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    picture_drawer.add_arguments(parser)
    return parser.parse_args(["--out", str(out), *more])


def drawer(bundle: Bundle, described: str = WORDS, count: str = "1") -> PictureDrawer:
    answers = {"describe the picture.": described, "how many objects are there?": count}
    return PictureDrawer(DrawingEngine(bundle, answers), bundle)


def test_a_path_tells_when_each_token_last_changed_and_what_came_before_mending() -> None:
    path, final = DrawingPath(), np.array([[1, 2], [3, 9]])
    for codes in ([[1, -1], [-1, -1]], [[1, 2], [3, 4]], [[1, 2], [3, -1]], [[1, 2], [3, 9]]):
        path.note(np.array(codes))
    assert path.order(final).tolist() == [[0, 1], [1, 3]]
    assert path.draft(final).tolist() == [[1, 2], [3, 4]]


def test_guesses_at_the_whole_picture_on_the_way_are_no_draft() -> None:
    path, final = DrawingPath(), np.array([[1, 2], [3, 9]])
    for codes in ([[7, 7], [7, 7]], [[1, 2], [3, 4]], [[1, 2], [3, 9]]):
        path.note(np.array(codes))
    assert path.draft(final).tolist() == [[1, 2], [3, 4]]


def test_a_picture_that_nobody_watched_has_no_order_and_is_its_own_draft() -> None:
    path = DrawingPath()
    assert not path.order(CODES).any()
    assert path.draft(CODES) is CODES


def test_a_drawing_keeps_its_prompt_its_order_and_its_draft(bundle: Bundle) -> None:
    hand = drawer(bundle)
    picture = hand.draw(SCENE, Options(steps=4, guidance=1.5), seed=9)
    assert picture.prompt == WORDS
    assert picture.order[0, 0] == 2, "it was mended after two updates"
    assert (picture.order[0, 1], picture.order[15, 15]) == (0, 1)
    assert np.array_equal(picture.draft, CODES)
    assert isinstance(hand.engine, DrawingEngine)
    (request,) = hand.engine.drawn
    assert (request.steps, request.guidance, request.seed) == (4, 1.5, 9)


@pytest.mark.parametrize(
    ("described", "count", "passes"),
    [
        (WORDS, "1", True),
        (WORDS, "2", False),
        ("a fox at the top left and a fox at the right, on a beach", "1", False),
        ("a fox at the top left, on a meadow", "1", False),
        ("a fox at the top right, on a beach", "1", False),
    ],
)
def test_pictures_pass_that_are_described_as_they_were_asked_for(
    bundle: Bundle, described: str, count: str, passes: bool
) -> None:
    hand = drawer(bundle, described, count)
    assert hand.passes(hand.draw(SCENE, Options(), seed=0)) is passes


def test_shards_give_back_what_was_kept(tmp_path: Path, bundle: Bundle) -> None:
    mended = drawer(bundle).draw(SCENE, Options(), seed=0)
    plain = KeptPicture(SCENE, WORDS, CODES, np.zeros((16, 16), np.uint8), CODES)
    write_kept(tmp_path / "train_00000.npy", [mended, plain], (16, 16))
    write_kept(tmp_path / "train_00001.npy", [], (16, 16))
    first, second = load_kept(tmp_path)
    for kept, drawn in ((first, mended), (second, plain)):
        assert (kept.scene, kept.prompt) == (drawn.scene, drawn.prompt)
        for name in ("codes", "order", "draft"):
            assert np.array_equal(getattr(kept, name), getattr(drawn, name))
    rows = (tmp_path / "train_00000.jsonl").read_text().splitlines()
    assert ["draft" in json.loads(row) for row in rows] == [True, False]


def test_damaged_shards_are_named(tmp_path: Path) -> None:
    np.save(tmp_path / "train_00000.npy", np.zeros((1, 16, 16), np.uint16))
    (tmp_path / "train_00000.jsonl").write_text('{"prompt": "a fox"}\n')
    with pytest.raises(InvalidInputError, match=r"train_00000\.npy is no shard"):
        load_kept(tmp_path)


def test_shards_hold_scenes_of_the_training_split_that_passed(
    tmp_path: Path, bundle: Bundle
) -> None:
    world = World.load()
    (first, second) = plan(arguments(tmp_path, "--pictures", "5", "--shard", "3"))
    assert (first.size, second.size) == (3, 2)
    hand = drawer(bundle)
    assert write_shard(first, hand, world) == 0, "nothing but a fox on a beach passes"
    assert load_kept(tmp_path) == []
    assert isinstance(hand.engine, DrawingEngine)
    assert len(hand.engine.drawn) == 3
    assert {request.guidance for request in hand.engine.drawn} == {picture_drawer.GUIDANCE}


def test_finished_shards_are_kept_and_other_settings_refused(
    tmp_path: Path, bundle: Bundle
) -> None:
    args = arguments(tmp_path, "--pictures", "2", "--shard", "2")
    write_shard(plan(args)[0], drawer(bundle), World.load())
    stamp = plan(args)[0].codes_path.stat().st_mtime_ns
    assert picture_drawer.run(args) == 0
    assert plan(args)[0].codes_path.stat().st_mtime_ns == stamp
    with pytest.raises(ConfigError, match="empty folder"):
        picture_drawer.run(arguments(tmp_path, "--shard", "3"))


def test_the_built_in_backbone_draws_a_shard(tmp_path: Path) -> None:
    args = arguments(tmp_path, "--pictures", "1", "--steps", "2")
    assert work(plan(args), deadline=None) == 1
    assert plan(args)[0].codes_path.is_file()
    assert work(plan(args), deadline=1.0) == 0, "no shard is started after the deadline"
