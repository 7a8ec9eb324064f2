"""Token masks equal those of the reference, and thin strokes do not vanish in silence."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edge_client.pictures.masks import _bicubic_weights, token_mask, vanished_share
from shared_protocol.errors import MaskError

TOLERANCE = 2e-6
"""float32 sums of 16 products in another order."""


def reference(mask: np.ndarray, grid: tuple[int, int]) -> torch.Tensor:
    pixels = torch.from_numpy(mask).float()[None, None] / 255
    sampled = torch.nn.functional.interpolate(pixels, size=grid, mode="bicubic")
    return sampled[0, 0]


def boxed(*boxes: tuple[int, int, int, int], size: int = 256) -> np.ndarray:
    mask = np.zeros((size, size), dtype=np.uint8)
    for x, y, width, height in boxes:
        mask[y : y + height, x : x + width] = 255
    return mask


@pytest.mark.parametrize(
    ("size", "grid"), [((256, 256), (16, 16)), ((512, 256), (32, 16)), ((24, 20), (5, 7))]
)
def test_sampling_equals_torch_bicubic_without_antialias(
    size: tuple[int, int], grid: tuple[int, int]
) -> None:
    mask = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    rows, columns = _bicubic_weights(size[0], grid[0]), _bicubic_weights(size[1], grid[1])
    ours = rows @ (mask.astype(np.float32) / 255) @ columns.T
    assert np.abs(ours - reference(mask, grid).numpy()).max() < TOLERANCE


@pytest.mark.parametrize("seed", range(20))
def test_flags_of_black_and_white_masks_equal_the_reference(seed: int) -> None:
    rng = np.random.default_rng(seed)
    boxes = [tuple(int(v) for v in rng.integers(8, 160, 4)) for _ in range(3)]
    mask = boxed(*boxes)  # type: ignore[arg-type]
    expected = (reference(mask, (16, 16)) >= 0.5).numpy()
    assert np.array_equal(token_mask(mask, (16, 16)).flags, expected)


def test_a_box_on_token_borders_selects_exactly_its_tokens() -> None:
    tokens = token_mask(boxed((32, 48, 64, 16)), (16, 16))
    expected = np.zeros((16, 16), dtype=bool)
    expected[3, 2:6] = True
    assert np.array_equal(tokens.flags, expected)


def test_an_edge_through_the_middle_of_a_token_selects_it() -> None:
    assert token_mask(boxed((0, 0, 8, 256)), (16, 16)).flags[:, 0].all()


def test_a_black_mask_is_refused_with_the_remedy() -> None:
    with pytest.raises(MaskError, match=r"no white part.*white = regenerate"):
        token_mask(boxed(), (16, 16))


def test_a_mask_of_thin_strokes_only_says_that_they_are_too_thin() -> None:
    with pytest.raises(MaskError, match=r"too thin.*at least 16 of those pixels"):
        token_mask(boxed((0, 2, 256, 3)), (16, 16))


def test_the_share_of_thin_strokes_that_vanish_is_measured() -> None:
    mask = boxed((64, 64, 64, 64), (0, 2, 256, 2))
    assert vanished_share(mask, token_mask(mask, (16, 16))) == pytest.approx(512 / (512 + 4096))


def test_the_ragged_rim_of_a_large_area_does_not_count_as_vanished() -> None:
    mask = boxed((69, 69, 60, 60))
    assert vanished_share(mask, token_mask(mask, (16, 16))) == 0.0
