"""ST-LPIPS: the shift-tolerant perceptual distance of Ghildyal and Liu (ECCV 2022).

It is not the standard LPIPS, and its numbers do not compare with LPIPS numbers of papers. Only the
weights come from the package `stlpips-pytorch` (BSD-2-Clause); the network is written here, because
the package's own code needs packages that it does not declare.

::

    RGB in -1..1 ─ scale ─ conv 11 ─ blur/2 ─ relu ─┬─ pool ─ blur/2 ─ conv 5 ─ relu ─┬─ … five taps
                                                    ▼                                 ▼
                              unit length over channels, squared difference, 1x1 weights, mean; sum
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edge_client.evaluation.metrics.extra import extra_module
from edge_client.evaluation.metrics.pixels import check_pair
from shared_protocol.errors import CheckpointError, ConfigError, ImageError
from shared_protocol.tokenizers.image import Pixels

if TYPE_CHECKING:
    import torch

PACKAGE = "stlpips_pytorch"
WEIGHTS = Path("weights/vST0.0/alex_shift_tolerant.pth")
MIN_SIDE = 64
"""Below this the deepest tap has no place left."""
_SHIFT = np.array([-0.030, -0.088, -0.188], dtype=np.float32)
_SCALE = np.array([0.458, 0.448, 0.450], dtype=np.float32)
_EPSILON = 1e-10

# (slice, index in it, stride, padding) of the convolutions, as the checkpoint's keys name them.
_CONVOLUTIONS = (("1", "0", 2), ("2", "5", 2), ("3", "9", 1), ("4", "11", 1), ("5", "13", 1))


def st_lpips(first: Pixels, second: Pixels) -> float:
    """Perceptual distance of two pictures, AlexNet trunk.

    Args:
        first, second: (H, W, 3) uint8 RGB, sides of at least `MIN_SIDE`.

    Returns:
        0 for equal pictures; larger is worse.

    Raises:
        ImageError: the shapes or types differ, or a side is too short.
        ConfigError: the package with the weights is not installed.
    """
    check_pair(first, second)
    if min(first.shape[:2]) < MIN_SIDE:
        raise ImageError(
            f"ST-LPIPS of a {first.shape[0]}x{first.shape[1]} picture",
            f"use at least {MIN_SIDE} pixels a side",
        )
    torch = extra_module("torch", "ST-LPIPS")
    with torch.inference_mode():
        return float(_distance(_network(), _tensor(first), _tensor(second)))


def _tensor(pixels: Pixels) -> torch.Tensor:
    """(H, W, 3) uint8 -> [1, 3, H, W], scaled as the network was trained."""
    import torch

    unit = pixels.astype(np.float32) / 127.5 - 1.0
    scaled: npt.NDArray[np.float32] = (unit - _SHIFT) / _SCALE
    return torch.from_numpy(np.ascontiguousarray(scaled)).permute(2, 0, 1)[None]


@cache
def _network() -> dict[str, torch.Tensor]:
    """The checkpoint's tensors."""
    import torch

    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ConfigError(
            f"ST-LPIPS needs {PACKAGE}, which is not installed",
            "install it: pip install -c docker/constraints.txt '.[bench]'",
        )
    path = Path(spec.origin).parent / WEIGHTS
    try:
        weights: dict[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}", "install again") from error
    return weights


def _distance(weights: dict[str, Any], first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    total = first.new_zeros(())
    pairs = zip(_taps(weights, first), _taps(weights, second), strict=True)
    for level, (one, other) in enumerate(pairs):
        difference = (_unit(one) - _unit(other)).square()
        linear = weights[f"lin{level}.model.1.weight"]  # 0 is dropout
        total = total + (difference * linear.reshape(1, -1, 1, 1)).sum(dim=1).mean()
    return total


def _unit(features: torch.Tensor) -> torch.Tensor:
    """Every position's channels scaled to unit length."""
    return features / (features.square().sum(dim=1, keepdim=True).sqrt() + _EPSILON)


def _taps(weights: dict[str, Any], x: torch.Tensor) -> list[torch.Tensor]:
    """[B, 3, H, W] -> features after each of the five convolutions."""
    import torch.nn.functional as functional

    taps = []
    for slice_name, index, padding in _CONVOLUTIONS:
        key = f"net.slice{slice_name}.{index}"
        if slice_name in "23":
            x = _blur(functional.max_pool2d(x, 3, stride=1))
        x = functional.conv2d(x, weights[f"{key}.weight"], weights[f"{key}.bias"], padding=padding)
        x = functional.relu(_blur(x) if slice_name == "1" else x)
        taps.append(x)
    return taps


def _blur(x: torch.Tensor) -> torch.Tensor:
    """Binomial 3x3 blur with reflected edges of two, every second position kept."""
    import torch
    import torch.nn.functional as functional

    row = torch.tensor([1.0, 2.0, 1.0]) / 4.0
    kernel = torch.outer(row, row).expand(x.shape[1], 1, 3, 3)
    padded = functional.pad(x, (2, 2, 2, 2), mode="reflect")
    return functional.conv2d(padded, kernel, stride=2, groups=x.shape[1])
