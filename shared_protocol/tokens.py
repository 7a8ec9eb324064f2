"""Frozen, validated value types for what travels: image tokens, text tokens and masks.

They do not know tokenizers, tasks or bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shared_protocol.errors import MaskError, TokenRangeError

Codes = npt.NDArray[np.int32]
Flags = npt.NDArray[np.bool_]

MAX_GRID = 64
"""Largest grid height or width, in tokens."""


def _frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    array = np.ascontiguousarray(array)
    if array.flags.writeable:
        array = array.copy()
        array.flags.writeable = False
    return array


def _integers(values: Any, what: str) -> Codes:
    array = np.asarray(values)
    if array.size and not np.issubdtype(array.dtype, np.integer):
        raise TokenRangeError(f"{what} must be integers, got {array.dtype}")
    if array.size and (int(array.min()) < -(2**31) or int(array.max()) >= 2**31):
        raise TokenRangeError(f"{what} do not fit 32 bits")
    return array.astype(np.int32)


def _check_range(array: Codes, size: int, what: str) -> None:
    if array.size and (int(array.min()) < 0 or int(array.max()) >= size):
        bad = array[(array < 0) | (array >= size)].flat[0]
        raise TokenRangeError(f"{what} {bad} is outside 0..{size - 1}")


def check_grid(height: int, width: int) -> None:
    """Raise `TokenRangeError` unless both sides are in 1..MAX_GRID."""
    if not (1 <= height <= MAX_GRID and 1 <= width <= MAX_GRID):
        raise TokenRangeError(
            f"a picture of {height}x{width} tokens is not supported",
            f"1 to {MAX_GRID} tokens a side are; a token is 16 pixels with the usual tokenizer",
        )


@dataclass(frozen=True, eq=False)
class ImageTokens:
    """A grid of codebook indices.

    Args:
        codes: (H, W) int32 in [0, codebook_size), raster order; copied and made read-only.
        codebook_size: V.

    Raises:
        TokenRangeError: a code outside the codebook, or a grid that is not 2-D or too large.
    """

    codes: Codes
    codebook_size: int

    def __post_init__(self) -> None:
        array = _integers(self.codes, "image codes")
        if array.ndim != 2:
            raise TokenRangeError(f"image codes must form an (H, W) grid, got shape {array.shape}")
        check_grid(*array.shape)
        _check_range(array, self.codebook_size, "image code")
        object.__setattr__(self, "codes", _frozen(array))

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) in tokens."""
        return self.codes.shape[0], self.codes.shape[1]

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, ImageTokens)
            and self.codebook_size == other.codebook_size
            and np.array_equal(self.codes, other.codes)
        )


@dataclass(frozen=True, eq=False)
class TextTokens:
    """A row of text token ids.

    Args:
        ids: (N,) int32 in [0, vocabulary_size); copied and made read-only. N may be 0.
        vocabulary_size: number of text ids.

    Raises:
        TokenRangeError: an id outside the vocabulary.
    """

    ids: Codes
    vocabulary_size: int

    def __post_init__(self) -> None:
        array = _integers(self.ids, "text ids").reshape(-1)
        _check_range(array, self.vocabulary_size, "text id")
        object.__setattr__(self, "ids", _frozen(array))

    def __len__(self) -> int:
        return int(self.ids.shape[0])

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, TextTokens)
            and self.vocabulary_size == other.vocabulary_size
            and np.array_equal(self.ids, other.ids)
        )


@dataclass(frozen=True, eq=False)
class TokenMask:
    """Which tokens of a grid are to be regenerated.

    Args:
        flags: (H, W) bool, True = regenerate; copied and made read-only.

    Raises:
        MaskError: not a 2-D grid of booleans.
    """

    flags: Flags

    def __post_init__(self) -> None:
        array = np.asarray(self.flags)
        if array.ndim != 2 or array.dtype != np.bool_:
            raise MaskError(
                f"a token mask must be an (H, W) grid of booleans, "
                f"got {array.dtype} of shape {array.shape}"
            )
        check_grid(*array.shape)
        object.__setattr__(self, "flags", _frozen(array))

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) in tokens."""
        return self.flags.shape[0], self.flags.shape[1]

    @property
    def count(self) -> int:
        """Number of tokens to regenerate."""
        return int(self.flags.sum())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TokenMask) and np.array_equal(self.flags, other.flags)


@dataclass(frozen=True, eq=False)
class KnownTokens:
    """Image tokens that both ends have before a message travels, so that it need not carry them.

    Args:
        codes: (H, W) int32, read where `flags`; made 0 elsewhere.
        flags: (H, W) bool, True where both ends have the token.

    Raises:
        TokenRangeError: the two are not grids of one shape.
    """

    codes: Codes
    flags: Flags

    def __post_init__(self) -> None:
        codes, flags = _integers(self.codes, "image codes"), np.asarray(self.flags)
        if codes.ndim != 2 or codes.shape != flags.shape or flags.dtype != np.bool_:
            raise TokenRangeError(
                f"known tokens are codes and flags of one (H, W) grid, "
                f"got {codes.shape} and {flags.dtype} {flags.shape}"
            )
        check_grid(*codes.shape)
        object.__setattr__(self, "codes", _frozen(np.where(flags, codes, 0).astype(np.int32)))
        object.__setattr__(self, "flags", _frozen(flags))

    @classmethod
    def all_of(cls, image: ImageTokens) -> KnownTokens:
        """All of a picture is known."""
        return cls(image.codes, np.ones(image.shape, dtype=bool))

    @classmethod
    def none(cls, grid: tuple[int, int]) -> KnownTokens:
        """Nothing is known of a picture of (H, W) tokens."""
        return cls(np.zeros(grid, dtype=np.int32), np.zeros(grid, dtype=bool))

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) in tokens."""
        return self.flags.shape[0], self.flags.shape[1]
