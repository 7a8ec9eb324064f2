import numpy as np
import pytest

from shared_protocol.coding.image_codec import CodingContext, nothing_known
from shared_protocol.entropy.config import (
    KIND_HOLE,
    KIND_KNOWN,
    KIND_TARGET,
    EntropyConfig,
)
from shared_protocol.entropy.scenarios import layout, target_slots
from shared_protocol.errors import CheckpointError, InvalidInputError
from shared_protocol.tasks import Scenario

CONFIG = EntropyConfig()


@pytest.fixture
def context() -> CodingContext:
    """Targets T, known K, hole H.

    T K
    H T
    """
    targets = np.array([[True, False], [False, True]])
    known = np.array([[False, True], [False, False]])
    codes = np.array([[0, 70], [0, 0]], dtype=np.int32)
    return CodingContext(targets, known, codes, np.array([5, 6], dtype=np.int32))


def test_generic_has_no_prefix_and_sees_no_known_code(context: CodingContext) -> None:
    plan = layout(Scenario.GENERIC, context, CONFIG)
    assert len(plan.text) == len(plan.prefix_kinds) == 0
    assert 70 not in plan.board


def test_masked_keeps_masked_positions_as_placeholders(context: CodingContext) -> None:
    plan = layout(Scenario.MASKED, context, CONFIG)
    assert len(plan.text) == 0
    assert plan.prefix_kinds.tolist() == [KIND_HOLE, KIND_HOLE]
    assert plan.prefix_places.tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize("scenario", [Scenario.TEXT_CONDITIONED, Scenario.ADAPTED])
def test_text_scenarios_see_text_and_known_codes(
    context: CodingContext, scenario: Scenario
) -> None:
    plan = layout(scenario, context, CONFIG)
    assert plan.text.tolist() == [5, 6]
    assert plan.prefix_kinds.tolist() == [KIND_KNOWN, KIND_HOLE]
    assert plan.prefix_slots[0, 0] == 70
    assert plan.target_kind == KIND_TARGET + scenario - 1


def test_targets_see_neighbours_only_once_they_are_coded(context: CodingContext) -> None:
    plan = layout(Scenario.TEXT_CONDITIONED, context, CONFIG)
    slots = target_slots(plan, np.array([11, 12], dtype=np.int32), CONFIG)
    outside, future, hole = CONFIG.outside_row, CONFIG.future_row, CONFIG.hole_row
    first = [outside, outside, outside, outside, outside, 70, outside, hole, future]
    second = [11, 11, 70, outside, hole, outside, outside, outside, outside]
    assert slots.tolist() == [first, second]


def test_long_texts_are_cut() -> None:
    plan = layout(Scenario.ADAPTED, nothing_known(2, 2, np.zeros(100, dtype=np.int32)), CONFIG)
    assert len(plan.text) == CONFIG.text_limit


def test_uniform_has_no_layout() -> None:
    with pytest.raises(InvalidInputError):
        layout(Scenario.UNIFORM, nothing_known(2, 2), CONFIG)


def test_config_round_trips_and_refuses_nonsense() -> None:
    assert EntropyConfig.from_json(CONFIG.to_json()) == CONFIG
    for text in ("", "[]", '{"width": "x"}', '{"depth": 3}'):
        with pytest.raises(CheckpointError):
            EntropyConfig.from_json(text)
    with pytest.raises(CheckpointError):
        EntropyConfig(width=190, heads=6)
