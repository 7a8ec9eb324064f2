from __future__ import annotations

import numpy as np
import pytest

from shared_protocol.errors import InvalidInputError
from shared_protocol.tasks import (
    TABLE,
    Direction,
    Extension,
    Part,
    Scenario,
    Subset,
    Task,
    merge,
)


def test_table_one_has_both_directions_of_every_service() -> None:
    services = {Task.T2I, Task.INPAINT, Task.OUTPAINT, Task.VQA}
    assert set(TABLE) == {(t, d) for t in services for d in Direction} | {
        (Task.STORE, Direction.UPLINK)
    }


def test_wire_numbers_never_change() -> None:
    assert {task.name: int(task) for task in Task} == {
        "T2I": 0,
        "INPAINT": 1,
        "OUTPAINT": 2,
        "VQA": 3,
        "STORE": 7,
    }
    assert [int(s) for s in Scenario] == [0, 1, 2, 3, 4]
    assert (Direction.UPLINK, Direction.DOWNLINK) == (0, 1)


def test_inpaint_uplink_omits_masked_codes() -> None:
    image = TABLE[Task.INPAINT, Direction.UPLINK][-1]
    assert (image.part, image.subset) == (Part.IMAGE, Subset.OUTSIDE_MASK)
    assert image.scenarios[0] is Scenario.MASKED


def test_parts_stand_in_wire_order() -> None:
    for specs in TABLE.values():
        parts = [spec.part for spec in specs]
        assert parts == sorted(parts)


def test_an_extension_places_the_source_and_marks_the_rest() -> None:
    extension = Extension(left=1, down=2)
    placed = extension.place(np.full((2, 3), 7, dtype=np.int32))
    new = extension.new_positions(2, 3)
    assert placed.shape == new.shape == extension.canvas(2, 3) == (4, 4)
    assert (placed[~new] == 7).all()
    assert (placed[new] == 0).all()
    assert new.sum() == 16 - 6


@pytest.mark.parametrize("sides", [{}, {"left": -1}, {"up": 65}])
def test_an_extension_by_nothing_or_too_much_is_refused(sides: dict[str, int]) -> None:
    with pytest.raises(InvalidInputError):
        Extension(**sides)


def test_merge_fills_the_targets_in_raster_order_and_keeps_the_rest() -> None:
    known = np.arange(6, dtype=np.int32).reshape(2, 3)
    targets = np.array([[False, True, False], [True, False, False]])
    merged = merge(known, targets, np.array([50, 60], dtype=np.int32))
    assert merged.tolist() == [[0, 50, 2], [60, 4, 5]]
    assert known[0, 1] == 1
