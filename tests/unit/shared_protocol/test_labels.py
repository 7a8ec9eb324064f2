"""Labels as values: sets, levels of probability, rankings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_protocol.errors import InvalidInputError
from shared_protocol.labels import (
    LEVELS,
    MAX_LABELS,
    MAX_NAME,
    LabelSet,
    LabelWish,
    Ranking,
    level_of,
    probability_of,
)

SET = LabelSet.of(("fox", "hat", "sun"))


@given(st.floats(0, 1))
def test_a_level_is_within_the_error_that_is_promised(probability: float) -> None:
    error = abs(probability_of(level_of(probability)) - probability)
    assert error <= 0.0125
    if not 0.02 < probability < 0.98:
        assert error <= 0.0036


@given(st.floats(0, 1), st.floats(0, 1))
def test_levels_keep_the_order(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert level_of(low) <= level_of(high)


def test_levels_use_six_bits_and_come_back() -> None:
    assert [level_of(probability_of(level)) for level in range(LEVELS)] == list(range(LEVELS))
    assert (level_of(-1e-9), level_of(1 + 1e-9)) == (0, LEVELS - 1)


def test_a_set_is_named_by_its_names_in_order() -> None:
    assert LabelSet.of(["fox", "hat", "sun"]) == SET
    assert SET.count == 3
    others = [("hat", "fox", "sun"), ("fox", "hat"), ("foxh", "at", "sun"), ("fox", "hat", "Sun")]
    assert len({LabelSet.of(names).fingerprint for names in others} | {SET.fingerprint}) == 5


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ((), "0 labels"),
        (("fox", ""), "0 characters"),
        (("x" * (MAX_NAME + 1),), "201 characters"),
        (("fox", "fox"), "twice"),
        (tuple(map(str, range(MAX_LABELS + 1))), "65537 labels"),
    ],
)
def test_sets_that_cannot_be_are_refused(names: tuple[str, ...], said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        LabelSet.of(names)


@pytest.mark.parametrize(
    ("numbers", "levels", "names", "said"),
    [
        ((), (), (), "0 labels"),
        ((0, 1), (5,), (), "2 labels with 1"),
        ((0, 1), (5, 5), ("fox",), "2 labels"),
        ((0, 0), (5, 5), (), "named twice"),
        ((0, 3), (5, 5), (), "outside 0..2"),
        ((0, 1), (64, 5), (), "outside 0..63"),
        ((0, 1), (4, 5), (), "order"),
    ],
)
def test_rankings_that_cannot_be_are_refused(
    numbers: tuple[int, ...], levels: tuple[int, ...], names: tuple[str, ...], said: str
) -> None:
    with pytest.raises(InvalidInputError, match=said):
        Ranking(SET, numbers, levels, names)


def test_a_ranking_is_told_as_it_is_wished() -> None:
    whole = Ranking(SET, (2, 0, 1), (50, 9, 9), ("sun", "fox", "hat"))
    assert whole.told(LabelWish(5)).names == ()
    assert whole.told(LabelWish(3, names=True)) == whole
    with pytest.raises(InvalidInputError, match="wish for 2"):
        whole.told(LabelWish(2))
    with pytest.raises(InvalidInputError, match="names of labels are wanted"):
        whole.told(LabelWish(3)).told(LabelWish(3, names=True))
    assert whole.probabilities[1] == whole.probabilities[2] == probability_of(9)
