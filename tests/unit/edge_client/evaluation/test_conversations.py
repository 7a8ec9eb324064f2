"""Conversations that are drawn: what turns they have, and what they are about."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from edge_fakes import FakeBundle, FakeCloud

from edge_client.evaluation.conversations import LARGEST, SOURCE, hold, kept_tokens, unscripted
from edge_client.exchange.coded_exchange import SingleMessages
from shared_protocol.errors import InternalError
from shared_protocol.tasks import Task
from shared_protocol.tokens import ImageTokens

GRID = (4, 4)


@pytest.mark.parametrize("seed", range(6))
def test_turns_are_about_pictures_that_there_are(seed: int) -> None:
    lines, undone = unscripted(np.random.default_rng(seed), GRID, 40)
    made = {SOURCE: GRID}
    for line in lines:
        assert line.about in made
        height, width = made[line.about]
        if line.task is Task.VQA:
            assert (height, width) == GRID
        if line.task is Task.INPAINT:
            assert line.mask is not None
            assert line.mask.flags.shape == (height, width)
            assert 0 < line.mask.count < height * width
        if line.task is Task.OUTPAINT:
            height, width = height + line.up + line.down, width + line.left + line.right
        if line.makes:
            made[line.makes] = height, width
    assert len(lines) == 40
    assert undone > 0
    assert {line.task for line in lines} == {Task.VQA, Task.INPAINT, Task.OUTPAINT}
    assert max(max(shape) for shape in made.values()) <= LARGEST * max(GRID)


def test_an_undone_picture_is_followed_by_the_one_before() -> None:
    lines, undone = unscripted(np.random.default_rng(1), GRID, 40)
    edits = [line for line in lines if line.makes]
    # Without undoing, every edit is about the one before; each gap is one or more undone edits.
    back = sum(now.about != before.makes for before, now in itertools.pairwise(edits))
    assert 0 < back <= undone


def test_a_drawn_conversation_is_held_and_keeps_its_tokens() -> None:
    bundle = FakeBundle()
    lines, _ = unscripted(np.random.default_rng(3), GRID, 20)
    source = ImageTokens(np.arange(16, dtype=np.int32).reshape(4, 4), 8192)
    done = hold(bundle, SingleMessages(bundle, FakeCloud(bundle)), source, lines)
    assert len(done) == 20
    assert sum(map(kept_tokens, done)) > 0


def test_a_token_that_changes_ends_a_drawn_conversation(monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, cloud = FakeBundle(), FakeCloud(FakeBundle())
    lines, _ = unscripted(np.random.default_rng(3), GRID, 20)
    source = ImageTokens(np.arange(16, dtype=np.int32).reshape(4, 4), 8192)

    def meddle(done: object) -> None:
        image = done.response.image  # type: ignore[attr-defined]
        if image is not None:
            image.codes.setflags(write=True)
            np.add(image.codes, 1, out=image.codes)

    with pytest.raises(InternalError, match="outside an edit changed"):
        hold(bundle, SingleMessages(bundle, cloud), source, lines, after=meddle)
