"""What people say of pictures: opinion scores, outliers, rank correlations, and CMC-Bench's score.

It does not know pictures or models. Ratings are (images, viewers); CMC-Bench's appendix A.2 has the
steps, and section 4.1 the score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from edge_client.evaluation.metrics.extra import extra_module
from shared_protocol.errors import InvalidInputError

Ratings = npt.NDArray[np.float64]

LEAST_SRCC = 0.6
"""Of a viewer with the mean of all; who agrees less is left out."""
MIDDLE = 2.5
"""Of the scale from 0 to 5, where each session's mean is put."""
CONTENT = {"NSI": 0.4, "SCI": 0.3, "AIGI": 0.3}
"""Share of each kind of content in CMC-Bench: natural scenes, screens, generated pictures."""


def srcc(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's rank correlation, ties at their mean rank; nan where one is constant.

    Raises:
        InvalidInputError: not two equally long rows of at least two numbers.
        ConfigError: scipy is not installed.
    """
    _check_rows(first, second)
    if _constant(first) or _constant(second):
        return float("nan")
    return float(extra_module("scipy.stats", "SRCC").spearmanr(first, second).statistic)


def krcc(first: Sequence[float], second: Sequence[float]) -> float:
    """Kendall's rank correlation (tau-b); nan where one is constant.

    Raises:
        InvalidInputError: not two equally long rows of at least two numbers.
        ConfigError: scipy is not installed.
    """
    _check_rows(first, second)
    if _constant(first) or _constant(second):
        return float("nan")
    return float(extra_module("scipy.stats", "KRCC").kendalltau(first, second).statistic)


def outliers(ratings: Ratings, least: float = LEAST_SRCC) -> list[int]:
    """The viewers whose ranks agree with those of everybody's mean by less than `least`."""
    _check_ratings(ratings)
    overall = ratings.mean(axis=1)
    agreement = [srcc(column, overall) for column in ratings.T]
    return [viewer for viewer, value in enumerate(agreement) if not value >= least]


def session_scores(ratings: Ratings, sessions: Sequence[int]) -> Ratings:
    """Each viewer's ratings less their mean in the session, plus 2.5 (the paper's equation 1).

    The printed sum runs over all images up to the session's last; it is read as the session's own,
    as its divisor is.

    Args:
        ratings: (images, viewers).
        sessions: (images,) the session of each.
    """
    _check_ratings(ratings)
    groups = np.asarray(sessions)
    if groups.shape != ratings.shape[:1]:
        raise InvalidInputError(
            f"{len(groups)} sessions for {len(ratings)} images", "name the session of each image"
        )
    scores = ratings.copy()
    for group in np.unique(groups):
        mine = groups == group
        scores[mine] += MIDDLE - ratings[mine].mean(axis=0)
    return scores


def z_scores(scores: Ratings) -> Ratings:
    """Each viewer's scores by their mean and deviation (n-1), the paper's equation 2.

    Raises:
        InvalidInputError: a viewer gave every image the same score.
    """
    _check_ratings(scores)
    deviation = scores.std(axis=0, ddof=1)
    if not (deviation > 0).all():
        viewer = int(np.argmin(deviation))
        raise InvalidInputError(f"viewer {viewer} gave one score to all", "leave them out")
    found: Ratings = (scores - scores.mean(axis=0)) / deviation
    return found


def mos(ratings: Ratings, sessions: Sequence[int] | None = None) -> Ratings:
    """(images,) mean opinion scores: outliers out, sessions levelled, z-scores, their mean.

    Args:
        ratings: (images, viewers), raw.
        sessions: (images,) the session of each; None = one.

    Raises:
        InvalidInputError: nobody is left, or the shapes do not fit.
    """
    gone = outliers(ratings)
    kept = np.delete(ratings, gone, axis=1)
    if not kept.shape[1]:
        raise InvalidInputError(f"all {len(gone)} viewers are outliers", "ask others")
    levelled = session_scores(kept, [0] * len(kept) if sessions is None else sessions)
    found: Ratings = z_scores(levelled).mean(axis=1)
    return found


def content_mean(by_kind: Mapping[str, float], weights: Mapping[str, float] = CONTENT) -> float:
    """Mean over kinds of content by their weights; of those that are there, scaled to one.

    >>> round(content_mean({"NSI": 3.052, "SCI": 2.785, "AIGI": 2.877}), 4)
    2.9194
    """
    known = {kind: value for kind, value in by_kind.items() if kind in weights}
    if not known:
        raise InvalidInputError(f"no known content in {sorted(by_kind)}", f"use {list(weights)}")
    total = sum(weights[kind] for kind in known)
    return sum(weights[kind] * value for kind, value in known.items()) / total


def overall(consistency: Sequence[float], perception: Sequence[float]) -> float:
    """CMC-Bench's score: consistency counts twice, as its range is the smaller one.

    Args:
        consistency: content mean of the FR measure in each mode.
        perception: as many, of the NR measure.

    >>> round(overall([2.9194, 2.8627], [2.5803, 1.7342]), 3)
    2.646
    """
    if not consistency or len(consistency) != len(perception):
        raise InvalidInputError(
            f"{len(consistency)} FR and {len(perception)} NR values", "give one of each a mode"
        )
    return (2 * sum(consistency) + sum(perception)) / (3 * len(consistency))


def _constant(row: Sequence[float]) -> bool:
    return len(set(map(float, row))) == 1


def _check_rows(first: Sequence[float], second: Sequence[float]) -> None:
    if len(first) != len(second) or len(first) < 2:
        raise InvalidInputError(
            f"a correlation of {len(first)} and {len(second)} values", "give two rows of one length"
        )


def _check_ratings(ratings: Ratings) -> None:
    if ratings.ndim != 2 or min(ratings.shape) < 1 or not np.isfinite(ratings).all():
        raise InvalidInputError(
            f"ratings of shape {ratings.shape}", "give (images, viewers), all of them numbers"
        )
