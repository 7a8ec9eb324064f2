"""Scores of one picture against another as a record keeps them, and their summary over cases.

It does not know where pictures come from. A score that needs a missing package is None.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edge_client.evaluation import metrics
from edge_client.evaluation.metrics import optional
from edge_client.evaluation.tables.quality import SKIPPED
from edge_client.evaluation.tables.results import Cell
from shared_protocol.errors import ConfigError
from shared_protocol.tokenizers.image import Pixels
from shared_protocol.tokens import Flags

LOSSLESS = "lossless"


def scores(picture: Pixels, reference: Pixels, where: Flags | None = None) -> dict[str, Any]:
    """PSNR and ST-LPIPS, JSON-ready.

    Args:
        picture, reference: (H, W, 3) uint8.
        where: (H, W) bool, the pixels that count; outside them ST-LPIPS sees the reference twice.

    Returns:
        "psnr" in dB, None for equal pixels, "equal", and "st_lpips", None where it is not
        available.
    """
    value = metrics.psnr(picture, reference, where)
    if where is not None:
        picture = np.where(where[..., None], picture, reference)
    equal = math.isinf(value)
    return {
        "psnr": None if equal else round(value, 4),
        "equal": equal,
        "st_lpips": 0.0 if equal else st_lpips_or_none(picture, reference),
    }


def st_lpips_or_none(picture: Pixels, reference: Pixels) -> float | None:
    """ST-LPIPS, or None where its package is not installed."""
    try:
        return round(metrics.st_lpips(picture, reference), 6)
    except ConfigError:
        return None


def ssim_or_none(picture: Pixels, reference: Pixels) -> float | None:
    """SSIM, or None where scikit-image is not installed."""
    try:
        return round(metrics.ssim(picture, reference), 6)
    except ConfigError:
        return None


def lpips_or_none(pairs: Sequence[tuple[Pixels, Pixels]]) -> Cell:
    """Mean standard LPIPS of pairs of pictures; "–" without any, None without its weights."""
    if not pairs:
        return SKIPPED
    return mean([0.0 if np.array_equal(*pair) else optional.lpips(*pair) for pair in pairs])


def fid_cell(made: Sequence[Pixels], reference: Sequence[Pixels]) -> Cell:
    """FID on Inception features; "–" for fewer than two pictures, None without its weights."""
    return (
        SKIPPED if min(len(made), len(reference)) < 2 else optional.inception_fid(made, reference)
    )


def frechet_cell(made: Sequence[Pixels], reference: Sequence[Pixels]) -> Cell:
    """Frechet distance; "–" for fewer than two pictures, None where its package is missing."""
    if min(len(made), len(reference)) < 2:
        return SKIPPED
    try:
        rows = [metrics.picture_features(pictures) for pictures in (made, reference)]
    except ConfigError:
        return None
    return round(metrics.frechet(*rows), 4)


def mean_psnr(found: Iterable[Mapping[str, Any] | None]) -> Cell:
    """Mean over the pictures that differ at all; "lossless" if none does, "–" if there is none."""
    known = [one for one in found if one is not None]
    values = [float(one["psnr"]) for one in known if not one["equal"]]
    if values:
        return float(np.mean(values))
    return LOSSLESS if known else SKIPPED


def mean_score(found: Iterable[Mapping[str, Any] | None], name: str) -> Cell:
    """Mean of a score; None where it is not available, "–" where there is nothing to score."""
    known = [one for one in found if one is not None]
    if not known:
        return SKIPPED
    return mean([one.get(name) for one in known])


def mean(values: Iterable[float | None]) -> float | None:
    """Mean, or None where there is no value or one is missing."""
    known = list(values)
    numbers = [value for value in known if value is not None]
    return float(np.mean(numbers)) if numbers and len(numbers) == len(known) else None


def interval(values: Sequence[float]) -> str:
    """Ends of the bootstrapped 95 % interval of the mean; "–" for fewer than two values."""
    if len(values) < 2:
        return SKIPPED
    found = metrics.bootstrap(values)
    return f"{found.low:.2f} to {found.high:.2f}"


def read_pixels(path: Path) -> Pixels:
    """A picture that this evaluation has written itself, (H, W, 3) uint8."""
    with Image.open(path) as image:
        return np.array(image.convert("RGB"), dtype=np.uint8)


def flat_name(path: Path, folder: Path) -> str:
    """The name of a picture below `folder` as one file name.

    >>> flat_name(Path("data/a/b.png"), Path("data"))
    'a_b.png'
    """
    return "_".join(path.relative_to(folder).parts)


def pixel_flags(flags: Flags, stride: int) -> Flags:
    """(h, w) flags of tokens to (h*stride, w*stride) flags of their pixels."""
    grown: Flags = np.kron(flags, np.ones((stride, stride), dtype=bool))
    return grown
