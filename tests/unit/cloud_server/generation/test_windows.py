"""Windows that grow and repair grids."""

import numpy as np
import pytest

from cloud_server.generation.windows import UNKNOWN, in_waves, pad_to_side, plan_windows
from shared_protocol.errors import InvalidInputError
from shared_protocol.tasks import Extension

SIDE = 16


def _unknown(extension: Extension, height: int = SIDE, width: int = SIDE) -> np.ndarray:
    return extension.place(np.zeros((height, width), dtype=np.int64), UNKNOWN) == UNKNOWN


@pytest.mark.parametrize(
    "extension",
    [
        Extension(left=8),
        Extension(right=1),
        Extension(up=8),
        Extension(down=5),
        Extension(left=8, right=8),
        Extension(left=3, up=20),
        Extension(left=8, right=8, up=8, down=8),
        Extension(right=40, down=17),
    ],
)
def test_windows_cover_every_unknown_cell_with_enough_context(extension: Extension) -> None:
    unknown = _unknown(extension)
    for window in plan_windows(unknown, SIDE):
        assert unknown[window.area].shape == (SIDE, SIDE)
        assert 0 < unknown[window.area].mean() <= 0.5
        unknown[window.area] = False
    assert not unknown.any()


def test_half_a_window_is_one_window_as_in_show_o() -> None:
    (window,) = plan_windows(_unknown(Extension(left=8)), SIDE)
    assert (window.top, window.left) == (0, 0)
    (window,) = plan_windows(_unknown(Extension(down=8)), SIDE)
    assert (window.top, window.left) == (8, 0)


def test_extension_beyond_one_window_takes_several() -> None:
    windows = plan_windows(_unknown(Extension(right=20)), SIDE)
    assert [window.left for window in windows] == [8, 16, 20]


def test_small_hole_in_a_large_grid_has_context_on_all_sides() -> None:
    unknown = np.zeros((40, 40), dtype=bool)
    unknown[18:22, 18:22] = True
    (window,) = plan_windows(unknown, SIDE)
    assert (window.top, window.left) == (12, 12)


def test_hole_larger_than_a_window_is_filled_from_its_rim() -> None:
    unknown = np.zeros((40, 40), dtype=bool)
    unknown[4:36, 4:36] = True
    for window in plan_windows(unknown, SIDE):
        assert not unknown[window.area].all()
        unknown[window.area] = False
    assert not unknown.any()


@pytest.mark.parametrize(
    ("extension", "waves"),
    [
        (Extension(left=8, right=8), [[0, 1]]),
        (Extension(right=20), [[0], [1], [2]]),
        (Extension(left=9, right=1), [[0, 2], [1]]),
    ],
)
def test_only_windows_that_share_no_new_cell_are_of_one_wave(
    extension: Extension, waves: list[list[int]]
) -> None:
    unknown = _unknown(extension)
    assert in_waves(plan_windows(unknown, SIDE), unknown) == waves


def test_each_window_sees_as_much_in_waves_as_in_order() -> None:
    unknown = _unknown(Extension(left=9, right=30, up=8, down=11))
    windows = plan_windows(unknown, SIDE)
    one_by_one, seen = unknown.copy(), []
    for window in windows:
        seen.append(one_by_one[window.area].copy())
        one_by_one[window.area] = False
    for wave in in_waves(windows, unknown):
        for index in wave:
            assert np.array_equal(unknown[windows[index].area], seen[index])
        for index in wave:
            unknown[windows[index].area] = False


def test_nothing_unknown_needs_no_window() -> None:
    assert plan_windows(np.zeros((SIDE, SIDE), dtype=bool), SIDE) == []


def test_small_grid_is_padded_and_a_small_canvas_refused() -> None:
    padded = pad_to_side(np.zeros((3, 20), dtype=np.int64), SIDE)
    assert padded.shape == (SIDE, 20)
    assert (padded[3:] == UNKNOWN).all()
    with pytest.raises(InvalidInputError, match="smaller than a window"):
        plan_windows(np.ones((3, 20), dtype=bool), SIDE)
