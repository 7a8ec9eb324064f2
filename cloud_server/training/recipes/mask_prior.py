"""Recipe of the mask coder's prior: counts of every pattern over masks drawn at random.

It does not know images. The masks are of the kinds that people paint: boxes, outlines of objects,
brush strokes and loose blobs, drawn in pixels and reduced to tokens like a user's mask is.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from shared_protocol.coding.mask_codec import (
    MAX_COUNT,
    PATTERNS,
    TEMPLATE,
    UNIT,
    MaskPrior,
    save_mask_prior,
)
from shared_protocol.tokens import Flags

DEFAULT_OUTPUT = Path(__file__).parents[3] / "shared_protocol" / "weights" / "builtin"
PRIOR_FILE = "mask_prior.msgpack"
SMOKE_MASKS = 200
PIXELS = 8
"""Pixels per token side while drawing."""
OBJECT_COVERED, STROKE_COVERED = 0.5, 0.3
"""Share of a token that must be covered for it to count."""

Floats = npt.NDArray[np.float64]


def rectangle(rng: np.random.Generator, height: int, width: int) -> Flags:
    """One box of at least 2 x 2 tokens."""
    flags = np.zeros((height, width), dtype=bool)
    top, left = int(rng.integers(0, height - 1)), int(rng.integers(0, width - 1))
    bottom, right = int(rng.integers(top + 2, height + 1)), int(rng.integers(left + 2, width + 1))
    flags[top:bottom, left:right] = True
    return flags


def thing(rng: np.random.Generator, height: int, width: int) -> Flags:
    """The outline of an object: a few ellipses and boxes around one centre."""
    rows, columns = _pixels(height, width)
    canvas = np.zeros(rows.shape, dtype=bool)
    size = rng.uniform(0.12, 0.3) * min(height, width) * PIXELS
    y, x = rng.uniform(0.25, 0.75, 2) * (height * PIXELS, width * PIXELS)
    for _ in range(int(rng.integers(1, 4))):
        dy, dx = rng.normal(0, size / 3, 2)
        ry, rx = size * rng.uniform(0.5, 1.2, 2)
        angle = rng.uniform(0, np.pi)
        u, v = _turned(rows - y - dy, columns - x - dx, angle)
        power = 2 if rng.random() < 0.8 else 6
        canvas |= np.abs(u / ry) ** power + np.abs(v / rx) ** power < 1
    return _tokens(canvas, OBJECT_COVERED)


def stroke(rng: np.random.Generator, height: int, width: int) -> Flags:
    """A painted line of two to six strokes with a round brush."""
    rows, columns = _pixels(height, width)
    canvas = np.zeros(rows.shape, dtype=bool)
    radius = rng.uniform(0.5, 1.4) * PIXELS
    place = rng.uniform(0.15, 0.85, 2) * (height * PIXELS, width * PIXELS)
    heading = rng.uniform(0, 2 * np.pi)
    for _ in range(int(rng.integers(8, 28))):
        canvas |= (rows - place[0]) ** 2 + (columns - place[1]) ** 2 < radius**2
        heading += rng.normal(0, 0.35)
        place = place + PIXELS * 0.7 * np.array([np.sin(heading), np.cos(heading)])
    return _tokens(canvas, STROKE_COVERED)


def blob(rng: np.random.Generator, height: int, width: int) -> Flags:
    """Loose regions: noise, smoothed three to five times, above a level."""
    return _regions(rng, height, width, int(rng.integers(3, 6)))


def rough_blob(rng: np.random.Generator, height: int, width: int) -> Flags:
    """The same with rougher edges: smoothed two to four times."""
    return _regions(rng, height, width, int(rng.integers(2, 5)))


def _regions(rng: np.random.Generator, height: int, width: int, smoothings: int) -> Flags:
    field = rng.normal(size=(height + 8, width + 8))
    for _ in range(smoothings):
        field = _smoothed(field)
    field = field[4:-4, 4:-4]
    flags: Flags = field > np.quantile(field, rng.uniform(0.6, 0.9))
    return flags


KINDS: dict[str, Callable[[np.random.Generator, int, int], Flags]] = {
    "rectangle": rectangle,
    "object": thing,
    "brush": stroke,
    "blob": blob,
    "rough blob": rough_blob,
}
"""Kind -> function that draws one (H, W) mask."""

_SHARES = {"rectangle": 0.05, "object": 0.2, "brush": 0.2, "blob": 0.3, "rough blob": 0.25}
"""More blobs than people draw: they are the masks that cost most, and the others hardly lose."""


def draw(kind: str, rng: np.random.Generator, height: int = 16, width: int = 16) -> Flags:
    """One mask of a kind that selects something, (H, W) bool."""
    while True:
        flags = KINDS[kind](rng, height, width)
        if flags.any():
            return flags


def training_masks(count: int, seed: int) -> Iterator[Flags]:
    """`count` masks of all kinds; most of 16 x 16 tokens, some larger or oblong."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        kind = str(rng.choice(list(_SHARES), p=list(_SHARES.values())))
        height, width = (16, 16) if rng.random() < 0.8 else rng.integers(12, 33, 2).tolist()
        yield draw(kind, rng, height, width)


def make_prior(count: int, seed: int) -> MaskPrior:
    """Counts over `count` masks, scaled so that a well-known pattern still adapts a little."""
    seen = np.zeros((PATTERNS, 2))
    for flags in training_masks(count, seed):
        patterns = _patterns(flags)
        seen += np.stack(
            [np.bincount(patterns[flags == bit], minlength=PATTERNS) for bit in (False, True)],
            axis=1,
        )
    return _prior_from(seen)


def _prior_from(seen: Floats) -> MaskPrior:
    """Integer counts: the share of ones, and a total that grows with the evidence."""
    share = (seen[:, 1] + 0.4) / (seen.sum(axis=1) + 0.8)
    # Patterns whose flags vary from mask to mask adapt quickly; nearly certain ones hardly move.
    doubt = np.minimum(share, 1 - share)
    totals = np.clip(UNIT * 8 / np.maximum(doubt, 1e-6), UNIT, MAX_COUNT // 2)
    totals = np.minimum(totals, UNIT * (1 + seen.sum(axis=1)))
    totals = np.maximum(np.round(totals), 2).astype(np.int32)
    ones = np.clip(np.round(share * totals), 1, totals - 1).astype(np.int32)
    return MaskPrior(ones, totals)


def _patterns(flags: Flags) -> npt.NDArray[np.int64]:
    """(H, W) pattern numbers of the template around each flag."""
    height, width = flags.shape
    padded = np.pad(flags, 2).astype(np.int64)
    patterns = np.zeros((height, width), dtype=np.int64)
    for down, right in TEMPLATE:
        patterns = (
            patterns << 1 | padded[2 + down : 2 + down + height, 2 + right : 2 + right + width]
        )
    return patterns


def _pixels(height: int, width: int) -> tuple[Floats, Floats]:
    rows, columns = np.mgrid[: height * PIXELS, : width * PIXELS] + 0.5
    return rows, columns


def _turned(y: Floats, x: Floats, angle: float) -> tuple[Floats, Floats]:
    return y * np.cos(angle) + x * np.sin(angle), x * np.cos(angle) - y * np.sin(angle)


def _tokens(canvas: Flags, covered: float) -> Flags:
    height, width = canvas.shape[0] // PIXELS, canvas.shape[1] // PIXELS
    share = canvas.reshape(height, PIXELS, width, PIXELS).mean(axis=(1, 3))  # (H, W)
    flags: Flags = share >= covered
    return flags


def _smoothed(field: Floats) -> Floats:
    for axis in (0, 1):
        field = (np.roll(field, 1, axis) + 2 * field + np.roll(field, -1, axis)) / 4
    return field


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `cloud-server train mask-prior`."""
    parser.add_argument(
        "--out",
        "--output",
        dest="output",
        type=Path,
        default=DEFAULT_OUTPUT,
        help="folder of the file",
    )
    parser.add_argument("--masks", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--smoke", action="store_true", help=f"{SMOKE_MASKS} masks only")


def run(args: argparse.Namespace) -> int:
    """Draw, count, write `mask_prior.msgpack`."""
    masks = SMOKE_MASKS if args.smoke else args.masks
    save_mask_prior(make_prior(masks, args.seed), args.output / PRIOR_FILE)
    return 0
