"""Recipe of the text coder's static prior: counts of id runs, pruned and turned into integers.

It does not know where the texts come from, nor how the coder uses the prior.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared_protocol.coding.text_codec import MASS, ContextTable, Ints, TextPrior

Floats = npt.NDArray[np.float64]

DISCOUNT = 0.6
"""Taken off every counted run, so that unseen runs get a share (absolute discounting)."""
LEVELS_PER_OCTAVE = 4
"""Masses are rounded to this many steps per factor of two, for a smaller file."""
KEEP_STEP = 8
"""Keeps are rounded to multiples of this, for the same reason."""


@dataclass(frozen=True)
class Rows:
    """Id sequences of one source, with a weight per id.

    Args:
        sequences: lists of ids, each closed by the end id if the text ends there.
        weights: one number per sequence.
        opens: whether the sequences start a text (or else are pieces from its middle).
    """

    sequences: Sequence[Sequence[int]]
    weights: Sequence[float]
    opens: bool = True


@dataclass(frozen=True)
class _Runs:
    """Weighted counts of runs of `order` + 1 ids: keys (R,) ascending, counts (R,)."""

    order: int
    keys: Ints
    counts: Floats


def build_prior(sources: Sequence[Rows], size: int, end_id: int, entries: int) -> TextPrior:
    """A back-off prior of orders 0, 1 and 2.

    Args:
        sources: what to count.
        size: number V of ids.
        end_id: id that ends a text and stands before its first id.
        entries: how many (context, successor) pairs to keep in all; those that save most bits.
    """
    runs = [_count(sources, order, size, end_id) for order in range(3)]
    base = np.zeros(size)
    base[runs[0].keys] = runs[0].counts
    base = (base + 0.5) / (base + 0.5).sum()
    first = _estimate(runs[1], size, base[runs[1].keys % size])
    lower = _probabilities(first, size, base, runs[2].keys % size**2)
    second = _estimate(runs[2], size, lower)
    threshold = float(np.sort(np.concatenate([first.gains, second.gains]))[-entries:][0])
    tables = tuple(_table(model, size, threshold) for model in (first, second))
    return TextPrior(end_id, _base_frequencies(base), tables)


def _count(sources: Sequence[Rows], order: int, size: int, end_id: int) -> _Runs:
    keys: list[Ints] = []
    weights: list[Floats] = []
    for source in sources:
        start = [end_id] if source.opens else []
        skipped = order if not source.opens else max(order, 1)
        for sequence, weight in zip(source.sequences, source.weights, strict=True):
            row = np.array([*start, *sequence], dtype=np.int64)
            if len(row) <= skipped:
                continue
            key = row[skipped - order : len(row) - order].copy()
            for step in range(1, order + 1):
                key = key * size + row[skipped - order + step : len(row) - order + step]
            keys.append(key)
            weights.append(np.full(len(key), weight))
    unique, inverse = np.unique(np.concatenate(keys), return_inverse=True)
    counts = np.bincount(inverse, np.concatenate(weights)).astype(np.float64)
    return _Runs(order, unique, counts)


@dataclass(frozen=True)
class _Model:
    """Discounted shares of counted runs and what each saves, in bits over the corpus.

    Args:
        order: ids in a context.
        keys: (R,) runs, ascending.
        shares: (R,) of their contexts.
        gains: (R,) bits; negative where the discount leaves nothing.
    """

    order: int
    keys: Ints
    shares: Floats
    gains: Floats


def _estimate(runs: _Runs, size: int, lower: Floats) -> _Model:
    """Shares of the runs, given the (R,) probabilities that the lower orders give them."""
    _, row = np.unique(runs.keys // size, return_inverse=True)
    totals = np.bincount(row, runs.counts)
    shares = np.maximum(runs.counts - DISCOUNT, 0) / totals[row]
    rest = 1 - np.bincount(row, shares)
    gains = runs.counts * np.log2((shares + rest[row] * lower) / lower)
    gains[shares <= 0] = -1
    return _Model(runs.order, runs.keys, shares, gains)


def _probabilities(model: _Model, size: int, base: Floats, keys: Ints) -> Floats:
    """What `model` of order 1 over `base` gives the last id of runs (R,) of two ids."""
    contexts, row = np.unique(model.keys // size, return_inverse=True)
    rest = 1 - np.bincount(row, model.shares)
    place = np.minimum(np.searchsorted(model.keys, keys), len(model.keys) - 1)
    share = np.where(model.keys[place] == keys, model.shares[place], 0.0)
    context = np.minimum(np.searchsorted(contexts, keys // size), len(contexts) - 1)
    known = contexts[context] == keys // size
    result: Floats = share + np.where(known, rest[context], 1.0) * base[keys % size]
    return result


def _table(model: _Model, size: int, threshold: float) -> ContextTable:
    kept = model.gains >= threshold
    keys, shares = model.keys[kept], model.shares[kept]
    masses = _quantised(shares * MASS)
    contexts, row, counts = np.unique(keys // size, return_inverse=True, return_counts=True)
    sums = np.bincount(row, masses) / MASS
    over = sums[row] > 0.995
    masses[over] = np.floor(masses[over] * 0.995 / sums[row][over])
    rest = 1 - np.bincount(row, masses) / MASS
    keeps = np.clip(np.round(256 / KEEP_STEP * rest) * KEEP_STEP, KEEP_STEP, 255)
    return ContextTable(
        order=model.order,
        keys=contexts,
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        successors=keys % size,
        masses=np.maximum(masses, 1).astype(np.int64),
        keeps=keeps.astype(np.int64),
    )


def _quantised(masses: Floats) -> Floats:
    steps = np.round(np.log2(np.maximum(masses, 1)) * LEVELS_PER_OCTAVE)
    return np.floor(2 ** (steps / LEVELS_PER_OCTAVE))


def _base_frequencies(base: Floats) -> Ints:
    frequencies = np.maximum(1, np.floor(_quantised(base * MASS * 0.9)))
    return frequencies.astype(np.int64)
