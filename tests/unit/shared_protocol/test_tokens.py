from __future__ import annotations

import numpy as np
import pytest

from shared_protocol.errors import MaskError, TokenRangeError
from shared_protocol.tokens import ImageTokens, TextTokens, TokenMask, check_grid


def test_image_tokens_keep_a_copy_that_nobody_can_write() -> None:
    source = np.zeros((2, 3), dtype=np.int64)
    tokens = ImageTokens(source, 8)
    source[0, 0] = 7
    assert tokens.codes[0, 0] == 0
    assert tokens.codes.dtype == np.int32
    with pytest.raises(ValueError, match="read-only"):
        tokens.codes[0, 0] = 1


@pytest.mark.parametrize("code", [-1, 8, 2**40])
def test_a_code_outside_the_codebook_is_refused(code: int) -> None:
    with pytest.raises(TokenRangeError):
        ImageTokens(np.array([[0, code]]), 8)


@pytest.mark.parametrize("shape", [(0, 4), (65, 4), (4, 65), (4,), (1, 2, 3)])
def test_a_grid_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(TokenRangeError):
        ImageTokens(np.zeros(shape, dtype=int), 8)


def test_floats_are_no_tokens() -> None:
    with pytest.raises(TokenRangeError, match="integers"):
        ImageTokens(np.zeros((2, 2)), 8)
    with pytest.raises(TokenRangeError, match="integers"):
        TextTokens(np.array([1.5]), 8)


def test_text_may_be_empty_and_has_a_length() -> None:
    assert len(TextTokens([], 5)) == 0
    assert len(TextTokens([1, 2], 5)) == 2
    with pytest.raises(TokenRangeError):
        TextTokens([5], 5)


def test_a_mask_is_a_grid_of_booleans() -> None:
    assert TokenMask(np.eye(4, dtype=bool)).count == 4
    with pytest.raises(MaskError):
        TokenMask(np.eye(4))
    with pytest.raises(MaskError):
        TokenMask(np.ones(4, dtype=bool))


def test_values_compare_by_content() -> None:
    assert ImageTokens([[1]], 8) == ImageTokens(np.array([[1]]), 8)
    assert ImageTokens([[1]], 8) != ImageTokens([[1]], 9)
    assert TextTokens([1], 8) != TextTokens([2], 8)
    assert TokenMask(np.ones((1, 1), dtype=bool)) != TokenMask(np.zeros((1, 1), dtype=bool))


def test_the_largest_grid_is_accepted() -> None:
    check_grid(64, 64)
    assert ImageTokens(np.zeros((64, 64), dtype=int), 2).shape == (64, 64)


def test_a_grid_that_is_too_large_is_told_with_the_limit_and_in_pixels() -> None:
    with pytest.raises(TokenRangeError) as caught:
        check_grid(4, 67)
    assert "4x67 tokens" in caught.value.message
    assert "1 to 64 tokens a side" in caught.value.remedy
    assert "16 pixels" in caught.value.remedy
