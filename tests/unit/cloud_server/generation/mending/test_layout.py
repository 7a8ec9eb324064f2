"""Boxes for what was asked, and the words that say where they are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_server.generation.mending.layout import MOST_THINGS, lay_out, stands, zone_of
from cloud_server.prompts.asked import Asked, Relation, Thing

FOX, CAR = Thing("fox", "a fox"), Thing("car", "a car")
PLACES = ("on a beach", "in the snow at night")
ZONES = [zone_of(row, column, 16) for row in (2, 7.5, 13) for column in (2, 7.5, 13)]


@given(st.integers(0, 2**64 - 1), st.sampled_from(["left", "right", "above", "below"]))
def test_relations_hold_by_the_zones_alone(seed, word):
    asked = Asked((FOX, CAR), (Relation(0, word, 1),), complete=True)
    layout = lay_out(asked, PLACES, 16, seed)
    assert layout is not None
    fox, car = (
        next(each for each in layout.placed if each.thing.name == name) for name in ("fox", "car")
    )
    assert stands(fox.centre, car.centre, word)
    assert zone_of(*fox.centre, 16) != zone_of(*car.centre, 16)


@given(st.integers(0, 2**64 - 1), st.integers(1, MOST_THINGS))
def test_boxes_never_overlap_and_lie_inside(seed, count):
    layout = lay_out(Asked((Thing("fox", "a fox", count),), complete=True), PLACES, 16, seed)
    if layout is None:
        assert count == MOST_THINGS
        return
    cells = [
        (row, column)
        for each in layout.placed
        for row in range(each.top, each.top + each.side)
        for column in range(each.left, each.left + each.side)
    ]
    assert len(cells) == len(set(cells)) == count * 36
    assert all(0 <= row < 16 and 0 <= column < 16 for row, column in cells)


@pytest.mark.parametrize("zone", ZONES)
def test_a_thing_goes_where_the_prompt_wants_it(zone):
    layout = lay_out(Asked((Thing("fox", "a fox", 1, zone),), (), "on a beach", True), (), 16, 5)
    assert layout is not None
    assert layout.text == f"a fox at the {zone}, on a beach"


def test_the_same_seed_lays_out_the_same_and_others_differ():
    asked = Asked((FOX, CAR), complete=True)
    assert lay_out(asked, PLACES, 16, 1) == lay_out(asked, PLACES, 16, 1)
    texts = {lay_out(asked, PLACES, 16, seed).text for seed in range(20)}  # type: ignore[union-attr]
    assert len(texts) > 12


def test_things_are_told_from_left_to_right():
    layout = lay_out(Asked((FOX, CAR), (Relation(0, "right", 1),), None, True), PLACES, 16, 3)
    assert layout is not None
    assert layout.text.index("a car") < layout.text.index("a fox")


def test_what_does_not_fit_is_not_laid_out():
    assert lay_out(Asked((Thing("fox", "a fox", 5),), complete=True), PLACES, 16, 0) is None
    assert lay_out(Asked((), complete=True), PLACES, 16, 0) is None
    assert lay_out(Asked((FOX,), complete=True), (), 16, 0) is None
    both = tuple(Thing(name, f"a {name}", 1, "center") for name in ("fox", "car"))
    assert lay_out(Asked(both, complete=True), PLACES, 16, 0) is None
