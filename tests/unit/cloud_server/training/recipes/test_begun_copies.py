"""Half-drawn pictures in which an object has begun a second time, where background must come."""

import numpy as np
import pytest

from cloud_server.training.recipes.backbone.hidden_tokens import Hidden, HidingConfig, TokenHider
from cloud_server.training.recipes.backbone.picture_rows import (
    IGNORED,
    PictureBatcher,
    masked_row,
)
from cloud_server.training.scenes.scene_grid import SceneGrid
from cloud_server.training.scenes.world import PlacedSprite, Scene, World
from shared_protocol.vocabulary import Vocabulary

GRID = SceneGrid(World.load(), 16)
SCENE = Scene((PlacedSprite("fox", 16, 16, 96), PlacedSprite("car", 144, 128, 96)), "beach")
BOXES = [GRID.box(thing.x, thing.y, thing.size) for thing in SCENE.objects]
CELLS = np.arange(256).reshape(16, 16)
VOCABULARY = Vocabulary(40, 256)
SHARES = HidingConfig(block=0, side=0, unbegun=1, finished=0.3, copies=1)


def _drawn(scene: Scene = SCENE, shares: HidingConfig = SHARES, count: int = 50) -> list[Hidden]:
    hider, rng = TokenHider(shares, GRID), np.random.default_rng(3)
    return [hider.draw(scene, GRID.full(), rng) for _ in range(count)]


def _copied(hidden: Hidden) -> np.ndarray:
    """(side, side) bool: places that show a token of another place."""
    assert hidden.shows is not None
    return np.asarray(hidden.shows != CELLS)


def test_a_copy_is_a_part_of_an_object_moved_as_a_whole_onto_background() -> None:
    for hidden in _drawn():
        assert hidden.shows is not None
        assert hidden.half_drawn
        places = np.flatnonzero(_copied(hidden))
        sources = hidden.shows.reshape(-1)[places]
        assert len(places) > 0
        assert len({int(shift) for shift in places - sources}) == 1
        within = [bool(np.isin(sources, CELLS[box]).all()) for box in BOXES]
        assert sum(within) == 1
        assert not any(np.isin(places, CELLS[box]).any() for box in BOXES)


def test_some_of_a_copy_is_left_open_and_less_of_it_seen_than_of_the_object() -> None:
    shares = []
    for hidden in _drawn():
        places = np.flatnonzero(_copied(hidden))
        assert hidden.shows is not None
        source = hidden.shows.reshape(-1)[places[0]]
        box = next(box for box in BOXES if source in CELLS[box])
        assert len(places) < GRID.object_parts
        shares.append((len(places), int((~hidden.flags[box]).sum())))
    copies, objects = np.mean(shares, axis=0)
    assert copies < 0.5 * objects


def test_visible_tokens_of_a_copy_are_never_targets_and_targets_are_the_true_codes() -> None:
    codes = VOCABULARY.image_offset + CELLS.astype(np.int64)  # each token tells where it is from
    batcher = PictureBatcher(VOCABULARY, 16, 64, GRID.objects, 0.2, 0.5)
    for hidden in _drawn(count=20):
        assert hidden.shows is not None
        assert not (_copied(hidden) & hidden.flags).any()
        row = masked_row(
            [0, 1],
            codes,
            hidden.flags,
            VOCABULARY,
            cells=CELLS.reshape(-1),
            counts_alike=hidden.half_drawn,
            shown=codes.reshape(-1)[hidden.shows],
            truth=GRID.truth(SCENE),
        )
        assert (row.labels.reshape(16, 16)[_copied(hidden)] == IGNORED).all()
        batch = batcher.batch([row], np.random.default_rng(0))
        cells = batch.rows - 3  # after the text and soi
        assert (batch.targets - VOCABULARY.image_offset).tolist() == cells.tolist()
        assert len(batch.targets) == int(hidden.flags.sum())
        image = batch.ids[0, 3:-1].reshape(16, 16).numpy()
        assert (image[_copied(hidden)] != codes[_copied(hidden)]).all()


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_objects_between_tokens_have_no_copies(share: float) -> None:
    loose = Scene((PlacedSprite("fox", 20, 16, 96),), "beach")
    shares = HidingConfig(block=0, side=0, unbegun=1, finished=0.3, copies=share)
    assert all(hidden.shows is None for hidden in _drawn(loose, shares))


def test_without_a_share_of_copies_nothing_is_drawn_for_them() -> None:
    plain = HidingConfig(block=0.1, side=0.1, unbegun=0.5, finished=0.3)
    hider, rng = TokenHider(plain, GRID), np.random.default_rng(1)
    off_the_grid = TokenHider(
        HidingConfig(block=0.1, side=0.1, unbegun=0.5, finished=0.3, copies=0.5), GRID
    )
    loose, same = Scene((PlacedSprite("fox", 20, 16, 96),), "beach"), np.random.default_rng(1)
    for _ in range(30):  # where no copy is possible, the numbers are those of a share of 0
        first = hider.draw(loose, GRID.full(), rng)
        second = off_the_grid.draw(loose, GRID.full(), same)
        assert first.shows is None
        assert np.array_equal(first.flags, second.flags)


def test_a_full_picture_has_no_free_box() -> None:
    spots = [(0, 0), (80, 0), (160, 0), (0, 80), (80, 80), (160, 80), (0, 160), (80, 160)]
    crowd = Scene(tuple(PlacedSprite("fox", x, y, 96) for x, y in spots), "beach")
    assert GRID.free_boxes(crowd) == []
    assert len(GRID.free_boxes(Scene((), "beach"))) == 11 * 11


def test_windows_have_no_copies() -> None:
    hider, rng = TokenHider(SHARES, GRID), np.random.default_rng(0)
    for _ in range(10):
        part = GRID.window_around(SCENE, 8, rng)
        assert hider.draw(SCENE, part, rng).shows is None
