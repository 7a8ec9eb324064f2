"""Tables of how near pictures are to what they should show, by every metric that is here.

It does not know servers or messages. A metric whose package or weights are missing leaves its cells
empty, which are shown as not available, so that the others are not lost with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from edge_client.evaluation import metrics
from edge_client.evaluation.metrics import optional
from edge_client.evaluation.tables.results import Cell, Table
from shared_protocol.errors import ConfigError
from shared_protocol.tokenizers.image import Pixels
from shared_protocol.tokens import Flags

T = TypeVar("T")

COLUMNS = (
    "result against",
    "pictures",
    "PSNR, dB",
    "identical",
    "ST-LPIPS",
    "Frechet, EfficientNet-Lite0",
    "CLIP-T",
    "CLIP-I",
    "R-CLIP-I",
    "LPIPS",
    "FID, Inception",
)
SKIPPED = "–"
"""What does not apply; what applies and is missing is None."""
MIN_PICTURES = 2
"""A Frechet distance needs as many."""
NOTES = (
    "PSNR is the mean over pictures that differ, with a bootstrapped 95 % interval; identical ones "
    "are counted.",
    "Frechet distances of few pictures are large and no more than comparable within this table.",
    "R-CLIP-I: CLIP-I of a part, the rest grey in both pictures; the (ST-)LPIPS of a part has the "
    "rest equal.",
)


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pictures beside what they are compared with.

    Args:
        label: of the row.
        results: (H, W, 3) uint8 each.
        references: as many; empty = none, then only what needs no counterpart is measured.
        where: (H, W) bool each, pixels that count; empty = all. Frechet distances, which know whole
            pictures only, are left out then.
        texts: what each result should show; empty = no CLIP-T.
        real: pictures that the results are compared with as a set; empty = the references.
    """

    label: str
    results: Sequence[Pixels]
    references: Sequence[Pixels] = ()
    where: Sequence[Flags] = ()
    texts: Sequence[str] = ()
    real: Sequence[Pixels] = ()


def quality_table(name: str, title: str, rows: Sequence[Pairs]) -> Table:
    """One row for each set of pairs."""
    return Table(name, title, COLUMNS, tuple(_row(pairs) for pairs in rows), NOTES)


def _row(pairs: Pairs) -> tuple[Cell, ...]:
    psnr, identical = _psnr(pairs)
    return (
        pairs.label,
        len(pairs.results),
        psnr,
        identical,
        *_perceptual(pairs),
    )


def _psnr(pairs: Pairs) -> tuple[Cell, Cell]:
    if not pairs.references:
        return SKIPPED, SKIPPED
    values = psnr_values(pairs)
    finite = [value for value in values if math.isfinite(value)]
    mean = str(metrics.bootstrap(finite)) if finite else SKIPPED
    return mean, len(values) - len(finite)


def psnr_values(pairs: Pairs) -> list[float]:
    """dB of each pair, infinite where it is identical."""
    regions: Sequence[Flags | None] = pairs.where or [None] * len(pairs.results)
    triples = zip(pairs.results, pairs.references, regions, strict=True)
    return [metrics.psnr(result, reference, where) for result, reference, where in triples]


def _perceptual(pairs: Pairs) -> list[Cell]:
    results, references, where = pairs.results, pairs.references, pairs.where
    real = () if where else pairs.real or references
    many = min(len(results), len(real)) >= MIN_PICTURES
    whole, part = bool(references and not where), bool(references and where)
    measures: list[tuple[bool, Callable[[], float | None]]] = [
        (bool(references), lambda: _mean(metrics.st_lpips, pairs)),
        (many, lambda: frechet(results, real)),
        (bool(pairs.texts), lambda: optional.clip_t(results, pairs.texts)),
        (whole, lambda: optional.clip_i(results, references)),
        (part, lambda: optional.r_clip_i(results, references, where)),
        (bool(references), lambda: _mean(optional.lpips, pairs)),
        (many, lambda: optional.inception_fid(results, real)),
    ]
    return [available(measure) if applies else SKIPPED for applies, measure in measures]


def frechet(first: Sequence[Pixels], second: Sequence[Pixels]) -> float:
    """Frechet distance of two sets of pictures on EfficientNet-Lite0's features."""
    return metrics.frechet(metrics.picture_features(first), metrics.picture_features(second))


def _mean(metric: Callable[[Pixels, Pixels], float | None], pairs: Pairs) -> float | None:
    values = [metric(*pair) for pair in _compared(pairs)]
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) else None


def _compared(pairs: Pairs) -> list[tuple[Pixels, Pixels]]:
    """Each result beside its reference; outside `where` it is the reference."""
    both = list(zip(pairs.results, pairs.references, strict=True))
    if not pairs.where:
        return both
    return [
        (np.where(where[..., None], result, reference), reference)
        for (result, reference), where in zip(both, pairs.where, strict=True)
    ]


def available(measure: Callable[[], T]) -> T | None:
    """What `measure` finds; None where a package that it needs is not installed."""
    try:
        return measure()
    except ConfigError:
        return None
