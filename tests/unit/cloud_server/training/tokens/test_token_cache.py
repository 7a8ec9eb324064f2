"""Shards of codes and the tokenizer's recipe, with drawn shapes for sprites and random weights."""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cloud_server.training.recipes.image_tokenizer import recipe as image_tokenizer
from cloud_server.training.recipes.image_tokenizer.crops import load_photos, object_window
from cloud_server.training.recipes.image_tokenizer.scores import (
    encode_pictures,
    mean_psnr,
    psnr,
    report,
)
from cloud_server.training.scenes.render import Renderer
from cloud_server.training.scenes.world import PlacedSprite, Scene, World
from cloud_server.training.tokens import token_cache
from cloud_server.training.tokens.scene_tokens import TokenShards
from cloud_server.training.tokens.shards import check_meta
from cloud_server.training.tokens.token_cache import meta_of, plan_shards, shard_scenes, write_shard
from shared_protocol.errors import ConfigError, InvalidInputError
from shared_protocol.tokenizers.compact import CompactTokenizer, load_compact, save_compact
from shared_protocol.tokenizers.sizes import CompactConfig

WORLD = World.load(None)
SMALL = CompactConfig(encoder_channels=(8, 8, 16), decoder_channels=(8, 8, 16))


@pytest.fixture
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def tokenizer_file(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "tokenizer.safetensors"
    save_compact(CompactTokenizer(SMALL), path, {})
    return path


def cache_arguments(tokenizer: Path, out: Path, cache: Path) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    token_cache.add_arguments(parser)
    flags = ["--tokenizer", tokenizer, "--out", out, "--cache", cache, "--scenes", 5, "--shard", 3]
    return parser.parse_args([str(flag) for flag in flags])


def test_shards_hold_the_codes_of_their_scenes(
    tmp_path: Path, sprite_cache: Path, tokenizer_file: Path, one_thread: None
) -> None:
    args = cache_arguments(tokenizer_file, tmp_path / "out", sprite_cache)
    args.out.mkdir()
    jobs = plan_shards(args)
    assert [write_shard(job).name for job in jobs] == ["train_00000.npy", "train_00001.npy"]
    shards = TokenShards(args.out)
    scenes = [shards[index].scene for index in range(len(shards))]
    codes = np.stack([shards[index].codes for index in range(len(shards))])
    assert codes.shape == (5, 16, 16)
    assert codes.dtype == np.uint16
    assert scenes[:3] == shard_scenes(WORLD, jobs[0])
    pictures = np.stack([Renderer(WORLD, sprite_cache).render(scene) for scene in scenes])
    assert np.array_equal(encode_pictures(load_compact(tokenizer_file), pictures), codes)


def test_a_folder_of_another_tokenizer_is_refused(tmp_path: Path, tokenizer_file: Path) -> None:
    check_meta(tmp_path, meta_of(tokenizer_file, seed=0, shard=3))
    check_meta(tmp_path, meta_of(tokenizer_file, seed=0, shard=3))
    with pytest.raises(ConfigError, match="empty folder"):
        check_meta(tmp_path, meta_of(tokenizer_file, seed=1, shard=3))


def test_the_recipe_runs_resumes_and_exports(tmp_path: Path, sprite_cache: Path) -> None:
    out = tmp_path / "run"
    flags = ["--out", str(out), "--cache", str(sprite_cache), "--smoke"]
    assert image_tokenizer.main(flags) == 0
    assert image_tokenizer.main([*flags, "--resume"]) == 0
    state = torch.load(out / "checkpoint.pt", weights_only=True)
    assert state["progress"]["step"] == image_tokenizer.SMOKE_STEPS
    assert load_compact(out / image_tokenizer.EXPORT_NAME).config == CompactConfig()


def test_the_learning_rate_warms_up_and_ends_at_zero() -> None:
    recipe = image_tokenizer.TokenizerRecipe.load()
    rates = [image_tokenizer.learning_rate_at(s, recipe) for s in (0.0, recipe.warm_up_share, 1.0)]
    assert rates[0] < rates[1] == pytest.approx(recipe.learning_rate)
    assert rates[2] == pytest.approx(0.0)


def test_windows_of_scenes_stay_on_the_grid_and_on_the_canvas() -> None:
    rng = np.random.default_rng(0)
    scene = Scene((PlacedSprite("fox", 150, 37, 96),), "snow")
    corners = [object_window(scene, 128, 16, rng) for _ in range(200)]
    assert all(x % 16 == y % 16 == 0 for x, y in corners)
    assert all(0 <= x <= 128 and 0 <= y <= 128 for x, y in corners)


def test_batches_depend_on_seed_and_step_alone(sprite_cache: Path) -> None:
    parser = argparse.ArgumentParser()
    image_tokenizer.add_arguments(parser)
    args = parser.parse_args(["--out", "out", "--cache", str(sprite_cache)])
    source = image_tokenizer.TokenizerTrainer(image_tokenizer.TokenizerRecipe.load(), args).source
    assert np.array_equal(source.batch(3, 2), source.batch(3, 2))
    assert not np.array_equal(source.batch(3, 2), source.batch(4, 2))
    assert not np.array_equal(source.batch(3, 2), replace(source, seed=9).batch(3, 2))


def test_photographs_are_scaled_and_cut(tmp_path: Path) -> None:
    Image.new("RGB", (300, 600), (9, 8, 7)).save(tmp_path / "a.png")
    assert load_photos(tmp_path).shape == (1, 256, 256, 3)
    assert load_photos(None).shape == (0, 256, 256, 3)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(InvalidInputError, match=r"broken\.png"):
        load_photos(tmp_path)


def test_a_folder_without_photographs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="no pictures"):
        load_photos(tmp_path)


def test_psnr_of_a_known_error() -> None:
    dark, light = np.zeros((1, 2, 2, 3), np.uint8), np.full((1, 2, 2, 3), 255, np.uint8)
    assert psnr(dark, light) == pytest.approx(0.0)
    assert mean_psnr(dark, dark) > 100


def test_a_report_scores_scenes_and_draws_a_sheet(
    tmp_path: Path, sprite_cache: Path, tokenizer_file: Path
) -> None:
    tokenizer, renderer = load_compact(tokenizer_file), Renderer(WORLD, sprite_cache)
    photos = load_photos(None)
    scores = report(tokenizer, WORLD, renderer, photos, tmp_path / "sheet.png", scenes=16)
    assert 0 < scores["scenes"] < 60
    assert (tmp_path / "sheet.png").exists()
