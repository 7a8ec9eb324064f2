"""Distances between two pictures, pixel by pixel.

It does not know how the pictures were made.
"""

from __future__ import annotations

import math

import numpy as np

from edge_client.evaluation.metrics.extra import extra_module
from shared_protocol.errors import ImageError
from shared_protocol.tokenizers.image import Pixels
from shared_protocol.tokens import Flags

PEAK = 255.0
WINDOW = 7
"""Side of the SSIM window (uniform weights), scikit-image's default."""


def psnr(first: Pixels, second: Pixels, where: Flags | None = None) -> float:
    """Peak signal-to-noise ratio over all three channels together.

    Args:
        first, second: (H, W, 3) uint8 RGB.
        where: (H, W) bool, the pixels that count; None = all.

    Returns:
        dB; infinite for equal pictures.

    Raises:
        ImageError: the shapes or types differ, or `where` selects nothing.

    >>> grey = np.full((8, 8, 3), 100, dtype=np.uint8)
    >>> round(psnr(grey, grey + 10), 3)
    28.131
    """
    check_pair(first, second)
    difference = first.astype(np.float64) - second
    if where is not None:
        if where.shape != first.shape[:2] or not where.any():
            raise ImageError(
                f"the region of shape {where.shape} selects {int(where.sum())} pixels of a "
                f"{first.shape[0]}x{first.shape[1]} picture",
                "mark at least one pixel in an array of the picture's height and width",
            )
        difference = difference[where]
    error = float(np.mean(difference**2))
    return math.inf if error == 0.0 else 10.0 * math.log10(PEAK**2 / error)


def ssim(first: Pixels, second: Pixels) -> float:
    """Structural similarity, mean over windows and the three channels, by scikit-image.

    Args:
        first, second: (H, W, 3) uint8 RGB, sides of at least `WINDOW`.

    Returns:
        At most 1; 1 for equal pictures.

    Raises:
        ImageError: the shapes or types differ.
        ConfigError: scikit-image is not installed.
    """
    check_pair(first, second)
    library = extra_module("skimage.metrics", "SSIM")
    value = library.structural_similarity(
        first, second, win_size=WINDOW, channel_axis=2, data_range=PEAK
    )
    return float(value)


def check_pair(first: Pixels, second: Pixels) -> None:
    """Raise `ImageError` unless both are (H, W, 3) uint8 of one shape."""
    for pixels in (first, second):
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
            raise ImageError(
                f"cannot compare a {pixels.dtype} array of shape {pixels.shape}",
                "give (H, W, 3) uint8",
            )
    if first.shape != second.shape:
        raise ImageError(
            f"cannot compare pictures of shapes {first.shape} and {second.shape}",
            "bring them to one size first",
        )
