"""Objects that are drawn whole, cut, shifted, or not there."""

from pathlib import Path

import numpy as np
import pytest

from cloud_server.training.benchmark.rows import wholeness_rows
from cloud_server.training.benchmark.wholeness import MOST_OFF, share_off
from cloud_server.training.scenes.render import Renderer, background_pixels
from cloud_server.training.scenes.world import PlacedSprite, Scene, World

PLACES = ((0, 0), (160, 160), (37, 91))


@pytest.fixture(scope="module")
def renderer(sprite_cache: Path) -> Renderer:
    return Renderer(World.load(None), sprite_cache)


def drawn(renderer: Renderer, name: str, x: int, y: int) -> np.ndarray:
    side = renderer.world.sprite_size
    return renderer.render(Scene((PlacedSprite(name, x, y, side),), "meadow"))


@pytest.mark.parametrize("place", PLACES)
def test_an_object_is_whole_wherever_it_stands(renderer: Renderer, place: tuple[int, int]) -> None:
    assert share_off(drawn(renderer, "fox", *place), "fox", "meadow", renderer) < 0.03


def test_what_is_cut_off_is_counted_by_its_area(renderer: Renderer) -> None:
    picture = drawn(renderer, "fox", 64, 64)
    empty = np.clip(background_pixels("meadow", 256, 256) + 0.5, 0, 255).astype(np.uint8)
    cuts = [0, 24, 48, 72, 96]
    found = []
    for cut in cuts:
        damaged = picture.copy()
        damaged[64 : 64 + cut] = empty[64 : 64 + cut]
        found.append(share_off(damaged, "fox", "meadow", renderer))
    assert found == sorted(found)
    assert found[0] < MOST_OFF < found[2] < 0.75 < found[4]


def test_another_object_is_none_of_this_kind(renderer: Renderer) -> None:
    names = [sprite.name for sprite in renderer.world.sprites]
    other = names[names.index("fox") - len(names) // 2]  # of the opposite colour
    assert share_off(drawn(renderer, other, 64, 64), "fox", "meadow", renderer) > 0.5


def test_a_sprite_that_nobody_knows_is_refused(renderer: Renderer) -> None:
    with pytest.raises(KeyError):
        share_off(drawn(renderer, "fox", 0, 0), "basilisk", "meadow", renderer)


def test_a_row_counts_the_objects() -> None:
    (row,) = wholeness_rows([0.0, MOST_OFF, MOST_OFF + 0.01, 1.0])
    assert (row.value, row.count) == (0.5, 4)
    assert wholeness_rows([]) == []
