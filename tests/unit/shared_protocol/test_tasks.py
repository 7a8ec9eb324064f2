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
    positions,
)


def test_every_task_has_its_row() -> None:
    assert set(TABLE) == set(Task)


def test_wire_numbers_never_change() -> None:
    assert {task.slug: int(task) for task in Task} == {
        "t2i": 0,
        "inpaint": 1,
        "outpaint": 2,
        "vqa": 3,
        "classify": 4,
    }
    assert [int(s) for s in Scenario] == [0, 1, 2, 3, 4]
    assert (Direction.UPLINK, Direction.DOWNLINK) == (0, 1)


def test_inpaint_uplink_omits_masked_codes() -> None:
    image = TABLE[Task.INPAINT].image(Direction.UPLINK)
    assert image is not None
    assert (image.part, image.subset) == (Part.IMAGE, Subset.OUTSIDE_MASK)
    assert image.scenarios[0] is Scenario.MASKED


def test_parts_stand_in_wire_order() -> None:
    for row in TABLE.values():
        for direction in Direction:
            parts = [spec.part for spec in row.parts(direction)]
            assert parts == sorted(parts)


def test_what_a_task_needs_follows_from_its_row() -> None:
    needs = {
        task: (row.needs_text, row.needs_image, row.needs_mask, row.needs_extension)
        for task, row in TABLE.items()
    }
    assert needs == {
        Task.T2I: (True, False, False, False),
        Task.INPAINT: (True, True, True, False),
        Task.OUTPAINT: (True, True, False, True),
        Task.VQA: (True, True, False, False),
        Task.CLASSIFY: (False, True, False, False),
    }
    answers = {
        task: (row.makes_picture, row.answers_in_words, row.answers_in_labels)
        for task, row in TABLE.items()
    }
    assert answers == {
        Task.T2I: (True, False, False),
        Task.INPAINT: (True, False, False),
        Task.OUTPAINT: (True, False, False),
        Task.VQA: (False, True, False),
        Task.CLASSIFY: (False, False, True),
    }
    assert TABLE[Task.VQA].scenarios(Direction.DOWNLINK) == ()


def test_positions_of_every_subset() -> None:
    mask = np.array([[True, False], [False, False]])
    assert positions(Subset.ALL, (2, 2), mask, None).all()
    assert np.array_equal(positions(Subset.INSIDE_MASK, (2, 2), mask, None), mask)
    assert np.array_equal(positions(Subset.OUTSIDE_MASK, (2, 2), mask, None), ~mask)
    new = positions(Subset.EXTRAPOLATED, (2, 2), None, Extension(right=1))
    assert new.tolist() == [[False, False, True]] * 2


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
