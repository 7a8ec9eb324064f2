"""Opinion scores, rank correlations and CMC-Bench's score, against numbers worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from edge_client.evaluation import opinions
from edge_client.evaluation.metrics.opinions import (
    content_mean,
    krcc,
    mos,
    outliers,
    overall,
    session_scores,
    srcc,
    z_scores,
)
from shared_protocol.errors import ConfigError, InvalidInputError

pytest.importorskip("scipy")

# FR and NR by content (NSI, SCI, AIGI) of the two modes, and the overall score as printed:
# Table 3 (full, image) and Table 4 (pixel, text).
PRINTED = {
    "DiffBIR": (
        ((3.052, 2.785, 2.877), (2.899, 2.804, 2.873)),
        ((2.778, 2.380, 2.517), (1.847, 1.644, 1.674)),
        2.647,
    ),
    "PG25, pixel and text": (
        ((1.789, 1.641, 1.779), (1.798, 1.634, 1.762)),
        ((3.542, 3.425, 3.939), (3.646, 3.628, 3.944)),
        2.386,
    ),
    "RealVis": (
        ((2.617, 2.475, 2.584), (2.509, 2.441, 2.558)),
        ((1.914, 1.808, 2.445), (1.686, 1.675, 2.110)),
        2.331,
    ),
}


@pytest.mark.parametrize("model", PRINTED)
def test_the_score_is_that_of_the_papers_tables(model: str) -> None:
    consistency, perception, printed = PRINTED[model]
    means = [
        [content_mean(dict(zip(("NSI", "SCI", "AIGI"), row, strict=True))) for row in rows]
        for rows in (consistency, perception)
    ]
    assert overall(*means) == pytest.approx(printed, abs=0.001)


def test_content_that_is_missing_leaves_its_weight_to_the_rest() -> None:
    assert content_mean({"NSI": 1.0, "SCI": 2.0}) == pytest.approx((0.4 + 0.6) / 0.7)
    with pytest.raises(InvalidInputError, match="no known content"):
        content_mean({"paintings": 1.0})
    with pytest.raises(InvalidInputError, match="2 FR and 1 NR"):
        overall([1.0, 2.0], [3.0])


def test_rank_correlations_of_short_rows() -> None:
    # Ranks 1 2 3 4 5 against 2 1 4 3 5: squared differences 4, 1 - 6 * 4 / (5 * 24) = 0.8;
    # 8 of 10 pairs agree, 2 do not: 0.6.
    first, second = [10, 20, 30, 40, 50], [2.0, 1.0, 4.0, 3.0, 5.0]
    assert srcc(first, second) == pytest.approx(0.8)
    assert krcc(first, second) == pytest.approx(0.6)
    # Ties: ranks 1.5 1.5 3 against 1 2 3: Pearson of them is sqrt(3) / 2.
    assert srcc([7, 7, 9], [1, 2, 3]) == pytest.approx(math.sqrt(3) / 2)
    # tau-b: 2 pairs agree, one is tied in the first: 2 / sqrt(2 * 3).
    assert krcc([7, 7, 9], [1, 2, 3]) == pytest.approx(2 / math.sqrt(6))
    assert math.isnan(srcc([1, 1], [1, 2]))
    assert math.isnan(krcc([1, 2], [3, 3]))
    with pytest.raises(InvalidInputError, match="1 and 2 values"):
        srcc([1], [1, 2])


RATINGS = np.array([[0.0, 1.0, 4.0], [2.0, 3.0, 3.0], [4.0, 5.0, 0.0]])
"""Two viewers who agree, and one who says the contrary."""


def test_viewers_who_disagree_or_say_nothing_are_left_out() -> None:
    # Means 5/3, 8/3, 3 rise as the first two do and the third falls.
    assert outliers(RATINGS) == [2]
    assert outliers(np.array([[1.0, 3.0], [2.0, 3.0], [3.0, 3.0]])) == [1]


def test_sessions_are_levelled_at_the_middle() -> None:
    scores = session_scores(np.array([[1.0], [3.0], [4.0], [5.0]]), [0, 0, 1, 1])
    assert scores[:, 0].tolist() == [1.5, 3.5, 2.0, 3.0]
    with pytest.raises(InvalidInputError, match="1 sessions for 4"):
        session_scores(np.ones((4, 1)), [0])


def test_z_scores_take_each_viewers_own_scale() -> None:
    found = z_scores(np.array([[1.0, 0.0], [2.0, 5.0], [3.0, 10.0]]))
    assert found.tolist() == [[-1.0, -1.0], [0.0, 0.0], [1.0, 1.0]]
    with pytest.raises(InvalidInputError, match="viewer 1 gave one score"):
        z_scores(np.array([[1.0, 4.0], [2.0, 4.0]]))


def test_opinion_scores_are_the_mean_of_those_who_are_left() -> None:
    # Both remaining viewers have deviation 2 and go up by one deviation a picture.
    assert mos(RATINGS).tolist() == pytest.approx([-1.0, 0.0, 1.0])
    with pytest.raises(InvalidInputError, match="all 2 viewers"):
        mos(np.array([[3.0, 3.0], [3.0, 3.0]]))
    with pytest.raises(InvalidInputError, match="numbers"):
        mos(np.array([[1.0, np.nan]]))


def test_a_file_of_ratings_gets_its_scores_and_correlations(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "ratings.csv"
    lines = ["image,viewer1,viewer2,viewer3,TOPIQ", "a,0,1,4,0.1", "b,2,3,3,0.3", "c,4,5,0,0.2"]
    path.write_text("\n".join(lines), encoding="utf-8")
    assert opinions.main([str(path)]) == 0
    shown = capsys.readouterr().out
    assert "outliers: viewer3" in shown
    assert "-1.000" in shown
    # Ranks 1 3 2 against 1 2 3.
    assert shown.splitlines()[-1].split() == ["TOPIQ", "0.500", "0.333"]
    path.write_text("image,viewer1\na,x\n", encoding="utf-8")
    assert opinions.main([str(path)]) == 2
    path.write_text("image\na\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="begins with 'viewer'"):
        opinions.report(path)
