"""Image quality measures by `pyiqa`: TOPIQ and the others that CMC-Bench reports.

They run only where the package and the weights lie on this machine already, and are None elsewhere
("not available here"). The package is not part of the extra `bench`: it needs torchvision, which
asks for a torch of its own. Nothing here downloads anything.

`sharpness` is no such measure: it needs no weights, and stands in under its own name.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from edge_client.evaluation.metrics.extra import extra_module, has_module
from edge_client.evaluation.metrics.optional import hub_folder
from edge_client.evaluation.metrics.wanted import PYIQA_FILES
from shared_protocol.tokenizers.image import Pixels

_OFFLINE = "HF_HUB_OFFLINE"

REFERENCED = ("TOPIQ-FR", "AHIQ", "DISTS", "PieAPP")
"""Measures of a picture against its reference; the others look at the picture alone."""


def iqa(name: str, pictures: Sequence[Pixels], references: Sequence[Pixels] = ()) -> float | None:
    """Mean of a measure over pictures.

    Args:
        name: one of `PYIQA_FILES`.
        pictures: (H, W, 3) uint8 each.
        references: as many, for those in `REFERENCED`.
    """
    measure = _measure(name)
    if measure is None or not pictures:
        return None
    import torch

    values = []
    with torch.inference_mode():
        for place, pixels in enumerate(pictures):
            words = [pixels, references[place]] if name in REFERENCED else [pixels]
            values.append(float(measure(*(_tensor(one) for one in words))))
    return float(np.mean(values))


def sharpness(pixels: Pixels) -> float:
    """One less scikit-image's measure of blur (Crete et al. 2007): 0 blurred, 1 sharp.

    Raises:
        ConfigError: scikit-image is not installed.
    """
    library = extra_module("skimage.measure", "sharpness")
    blur = float(library.blur_effect(pixels, channel_axis=2))
    return 1.0 - blur if np.isfinite(blur) else 0.0  # a flat picture has no edge to look at


@cache
def _measure(name: str) -> Any:
    made, file = PYIQA_FILES[name]
    if not has_module("pyiqa") or not _is_here(file):
        return None
    with _offline():
        try:
            return extra_module("pyiqa", name).create_metric(made, device="cpu")
        except (OSError, RuntimeError, ValueError):  # a backbone of it is not here
            return None


@contextmanager
def _offline() -> Iterator[None]:
    """Have the hub's client fetch nothing meanwhile, and leave the environment as it was."""
    before = os.environ.get(_OFFLINE)
    os.environ[_OFFLINE] = "1"
    try:
        yield
    finally:
        del os.environ[_OFFLINE]
        if before is not None:
            os.environ[_OFFLINE] = before


def _is_here(file: str) -> bool:
    folders = (hub_folder() / "pyiqa", Path.home() / ".cache" / "clip")
    return any((folder / file).is_file() for folder in folders)


def _tensor(pixels: Pixels) -> Any:
    import torch

    unit = np.ascontiguousarray(pixels, dtype=np.float32) / np.float32(255)
    return torch.from_numpy(unit).permute(2, 0, 1)[None]
