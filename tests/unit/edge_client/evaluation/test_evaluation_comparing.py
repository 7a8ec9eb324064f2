"""Scores as records keep them, and what is made of several of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_client.evaluation import metrics
from edge_client.evaluation.grading import RULE, YES_OR_NO, is_right
from edge_client.evaluation.tables import comparing, rate_curves
from edge_client.evaluation.tables.quality import SKIPPED
from shared_protocol.cases import Case
from shared_protocol.errors import ConfigError


def grey(level: int) -> np.ndarray:
    return np.full((64, 64, 3), level, dtype=np.uint8)


def missing(*_: object) -> float:
    raise ConfigError("not installed")


def test_equal_pictures_are_told_without_infinity() -> None:
    assert comparing.scores(grey(5), grey(5)) == {"psnr": None, "equal": True, "st_lpips": 0.0}


def test_scores_of_a_region_see_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(metrics, "st_lpips", lambda first, _: float(seen.append(first) or 0.25))
    changed = grey(100)
    changed[:32] = 0
    changed[40:] = 110
    lower = np.zeros((64, 64), dtype=bool)
    lower[32:] = True
    found = comparing.scores(changed, grey(100), lower)
    # 24 of the 32 rows differ by 10.
    assert found["psnr"] == pytest.approx(10 * np.log10(255**2 / 75), abs=1e-4)
    assert (seen[0][:32] == 100).all()
    assert (seen[0][40:] == 110).all()


def test_scores_without_their_packages_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("st_lpips", "ssim", "picture_features"):
        monkeypatch.setattr(metrics, name, missing)
    assert comparing.scores(grey(1), grey(2))["st_lpips"] is None
    assert comparing.ssim_or_none(grey(1), grey(2)) is None
    assert comparing.frechet_cell([grey(1)] * 2, [grey(2)] * 2) is None
    assert comparing.frechet_cell([grey(1)], [grey(2)] * 2) == SKIPPED


def test_means_tell_lossless_missing_and_nothing_apart() -> None:
    equal = {"psnr": None, "equal": True, "st_lpips": 0.0}
    near = {"psnr": 30.0, "equal": False, "st_lpips": 0.2}
    blind = {"psnr": 20.0, "equal": False, "st_lpips": None}
    assert comparing.mean_psnr([equal, equal]) == comparing.LOSSLESS
    assert comparing.mean_psnr([equal, near, blind]) == pytest.approx(25.0)
    assert comparing.mean_psnr([None]) == SKIPPED
    assert comparing.mean_score([equal, near], "st_lpips") == pytest.approx(0.1)
    assert comparing.mean_score([near, blind], "st_lpips") is None
    assert comparing.mean_score([None], "st_lpips") == SKIPPED


def test_pictures_of_one_name_in_two_folders_keep_apart() -> None:
    folder = Path("data")
    names = {comparing.flat_name(folder / part, folder) for part in ("a/1.png", "b/1.png")}
    assert names == {"a_1.png", "b_1.png"}


def test_flags_of_tokens_become_flags_of_their_pixels() -> None:
    flags = np.array([[True, False]])
    grown = comparing.pixel_flags(flags, 16)
    assert grown.shape == (16, 32)
    assert grown[:, :16].all()
    assert not grown[:, 16:].any()


@pytest.mark.parametrize(
    ("answer", "accepted", "expected"),
    [
        ("Two!", ("2", "two"), True),
        ("two foxes", ("two",), False),
        ("", ("no",), False),
        ("anything", (), False),
    ],
)
def test_an_answer_is_right_when_its_words_are(answer, accepted, expected) -> None:
    case = Case("a", "vqa", "how many?", "a.png", answers=accepted)
    assert is_right(case, answer) is expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [("Yes, two of them.", True), ("There is none, no. Yes?", False), ("a fox", True)],
)
def test_yes_and_no_are_read_out_of_a_sentence(answer: str, expected: bool) -> None:
    case = Case("a", "vqa", "a fox?", "a.png", answers=("yes",), truth={RULE: YES_OR_NO})
    assert is_right(case, answer) is expected


def test_curves_hold_the_rate_that_a_codec_saves() -> None:
    pytest.importorskip("scipy")

    def points(method: str, scale: float) -> list[dict]:
        return [
            {
                "method": method,
                "setting": setting,
                "bpp": scale * bpp,
                "header_bpp": 0.01,
                "psnr": quality,
                "equal": False,
                "st_lpips": None,
            }
            for setting, bpp, quality in ((1, 0.1, 25.0), (2, 0.2, 30.0), (3, 0.4, 33.0))
        ]

    tokens = {**points("tokens", 0.1)[0], "setting": 0}
    found = [tokens, *points("jpeg", 1.0), *points("vvc", 0.25)]
    table, (psnr, perceptual) = rate_curves.table_and_plots(found, ["jpeg", "vvc"])
    saved = {row[0]: row[-1] for row in table.rows if row[-1] != SKIPPED}
    assert saved == {"jpeg": "+0.0%", "vvc": "-75.0%"}
    assert table.rows[1][2:5] == (pytest.approx(0.1), pytest.approx(0.11), 25.0)
    assert [series.label for series in psnr.series] == ["tokens", "jpeg", "vvc"]
    assert perceptual.series == ()
