"""Pixel masks to token masks, as Show-o does it: bicubic sampling, >= 0.5 is regenerated.

It opens no files and does not know tasks or the network.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from shared_protocol.errors import MaskError
from shared_protocol.tokenizers.image import Pixels
from shared_protocol.tokens import Flags, TokenMask


def token_mask(mask: Pixels, grid: tuple[int, int]) -> TokenMask:
    """Sample a pixel mask down to the token grid: >= 0.5 is regenerated, as Show-o does.

    Args:
        mask: (H, W) uint8, white = regenerate.
        grid: (h, w) in tokens.

    Raises:
        MaskError: nothing is left to regenerate.
    """
    rows = _bicubic_weights(mask.shape[0], grid[0])
    columns = _bicubic_weights(mask.shape[1], grid[1])
    flags = rows @ (mask.astype(np.float32) / np.float32(255)) @ columns.T >= 0.5
    if not flags.any():
        patch = mask.shape[0] // grid[0]
        white = "has white parts, all too thin" if (mask >= 128).any() else "has no white part"
        raise MaskError(
            f"the mask selects nothing to regenerate: it {white} once it is brought to "
            f"{mask.shape[1]}x{mask.shape[0]} pixels",
            f"white = regenerate; use parts at least {patch} of those pixels wide, inside the crop",
        )
    return TokenMask(flags)


def vanished_share(mask: Pixels, tokens: TokenMask) -> float:
    """Share of the white pixels with no regenerated token at or beside them (thin strokes)."""
    height, width = tokens.shape
    white = (mask >= 128).reshape(height, mask.shape[0] // height, width, mask.shape[1] // width)
    per_token = white.sum(axis=(1, 3))  # (h, w)
    total = int(per_token.sum())
    return float(per_token[~_grown(tokens.flags)].sum()) / total if total else 0.0


def paste_outside(original: Pixels, result: Pixels, tokens: TokenMask) -> Pixels:
    """`result` under the token mask, `original` elsewhere; all (H, W, 3) uint8."""
    height, width = original.shape[0] // tokens.shape[0], original.shape[1] // tokens.shape[1]
    inside = np.kron(tokens.flags, np.ones((height, width), dtype=bool))[..., None]
    return np.where(inside, result, original)


def _bicubic_weights(size: int, samples: int) -> npt.NDArray[np.float32]:
    """(samples, size) rows of cubic convolution weights, a = -0.75, edges clamped.

    What torch's `interpolate(mode="bicubic", align_corners=False, antialias=False)` does along one
    axis, so that a mask gives the reference's tokens.
    """
    weights = np.zeros((samples, size), dtype=np.float32)
    for row in range(samples):
        centre = (row + 0.5) * size / samples - 0.5
        first = int(np.floor(centre)) - 1
        for tap in range(first, first + 4):
            weights[row, min(max(tap, 0), size - 1)] += _cubic(abs(centre - tap))
    return weights


def _cubic(x: float, a: float = -0.75) -> float:
    if x <= 1.0:
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    return ((x - 5.0) * x + 8.0) * x * a - 4.0 * a


def _grown(flags: Flags) -> Flags:
    padded = np.pad(flags, 1)
    height, width = flags.shape
    shifts = [padded[y : y + height, x : x + width] for y in range(3) for x in range(3)]
    grown: Flags = np.logical_or.reduce(shifts)
    return grown
