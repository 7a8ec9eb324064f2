"""What examples hide from the transformer."""

import numpy as np
import pytest

from cloud_server.training.recipes.backbone.hidden_tokens import Hidden, HidingConfig, TokenHider
from cloud_server.training.scenes.scene_grid import SceneGrid
from cloud_server.training.scenes.world import PlacedSprite, Scene, World

WORLD = World.load()
GRID = SceneGrid(WORLD, 16)
SCENE = Scene((PlacedSprite("fox", 16, 16, 96), PlacedSprite("car", 144, 128, 96)), "beach")
BOXES = [GRID.box(thing.x, thing.y, thing.size) for thing in SCENE.objects]


def _drawn(config: HidingConfig, count: int = 60) -> list[Hidden]:
    hider, rng = TokenHider(config, GRID), np.random.default_rng(5)
    return [hider.draw(SCENE, GRID.full(), rng) for _ in range(count)]


def _wholly_hidden(hidden: Hidden) -> list[bool]:
    return [bool(hidden.flags[box].all()) for box in BOXES]


def test_an_unfinished_picture_lacks_an_object_as_a_whole() -> None:
    drawn = _drawn(HidingConfig(block=0, side=0, unbegun=1, finished=0))
    assert all(any(_wholly_hidden(hidden)) for hidden in drawn)
    assert all(hidden.half_drawn and hidden.spoken == SCENE for hidden in drawn)
    assert not all(hidden.flags.all() for hidden in drawn)


def test_a_finished_picture_has_every_object_and_holes_elsewhere() -> None:
    drawn = _drawn(HidingConfig(block=0, side=0, unbegun=1, finished=1))
    missing = [flag for hidden in drawn for flag in _wholly_hidden(hidden)]
    assert np.mean(missing) < 0.05, "an object of which hardly anything is there, now and then"
    whole = [hidden for hidden in drawn if not any(hidden.flags[box].any() for box in BOXES)]
    assert whole, "in some, no token of any object is open"
    assert np.mean([hidden.flags.sum() for hidden in drawn]) >= GRID.object_parts


@pytest.mark.parametrize(("block", "side"), [(1.0, 0.0), (0.0, 1.0), (0.0, 0.0)])
def test_other_examples_hide_something_and_are_not_half_drawn(block: float, side: float) -> None:
    drawn = _drawn(HidingConfig(block=block, side=side, unbegun=0, finished=0))
    assert all(hidden.flags.any() and not hidden.half_drawn for hidden in drawn)


def test_a_block_hides_no_more_than_one_object_and_a_margin() -> None:
    drawn = _drawn(HidingConfig(block=1, side=0, unbegun=0, finished=0))
    assert max(int(hidden.flags.sum()) for hidden in drawn) <= (GRID.object_side + 2) ** 2
    assert {len(hidden.spoken.objects) for hidden in drawn} == {1, 2}


def test_windows_hide_nothing_outside_themselves() -> None:
    rng = np.random.default_rng(1)
    hider = TokenHider(HidingConfig(block=0.3, side=0.3, unbegun=0.3, finished=0.3), GRID)
    for _ in range(40):
        part = GRID.window_around(SCENE, 8, rng)
        hidden = hider.draw(SCENE, part, rng).flags
        inside = np.zeros_like(hidden)
        inside[part.index()] = True
        assert not hidden[~inside].any()
