"""The recipe of necks, run for a few tiny steps on stand-in scenes."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_clip import save_tiny_clip

from cloud_server.necks.cell_net import CellNet
from cloud_server.necks.classifier import Classifier
from cloud_server.necks.load import load_neck
from cloud_server.necks.neck_file import read_neck_file
from cloud_server.training.benchmark.judge_model import SHIPPED, Judge
from cloud_server.training.recipes.image_tokenizer.scores import (
    decode_pictures,
    mean_psnr,
    reconstruct,
)
from cloud_server.training.recipes.neck import recipe as necks
from cloud_server.training.recipes.neck.bit_prior import BitPrior
from cloud_server.training.recipes.neck.encoder_choice import choose_encoder
from cloud_server.training.recipes.neck.examples import to_pixels
from cloud_server.training.recipes.neck.neck_training import open_tokenizer
from cloud_server.training.scenes.render import Renderer
from cloud_server.training.scenes.stand_ins import write_stand_ins
from cloud_server.training.scenes.world import World
from cloud_server.training.tokens.shards import check_meta, write_shard
from cloud_server.training.tokens.token_cache import (
    BlockEncoder,
    encode_scenes,
    meta_of,
)
from shared_protocol.bundles.find import load_bundle
from shared_protocol.errors import CheckpointError, ConfigError
from shared_protocol.tokenizers.compact import load_compact
from shared_protocol.tokenizers.lfq import quantize

COUNT = 6


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `cache` (stand-in sprites), `tokens` and `encoder.safetensors`."""
    folder = tmp_path_factory.mktemp("neck")
    world = World.load()
    write_stand_ins(folder / "cache", world)
    (folder / "tokens").mkdir()
    path = load_bundle().path("image_tokenizer")
    check_meta(folder / "tokens", meta_of(path, 0, COUNT))
    rng = np.random.default_rng(7)
    scenes = [world.sample_scene(rng, "train") for _ in range(COUNT)]
    encoder = BlockEncoder(load_compact(path))
    codes = encode_scenes(encoder, Renderer(world, folder / "cache"), scenes)
    rows = [scene.to_dict() for scene in scenes]
    write_shard(folder / "tokens" / "train_00000.npy", codes, rows)
    torch.manual_seed(2)
    net = CellNet(len(world.names), len(world.backgrounds))
    Judge(net, world.names, world.backgrounds, {}).save(folder / "encoder.safetensors")
    return folder


def arguments(place: Path, out: Path, *more: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    necks.add_arguments(parser)
    flags = ["--encoder", place / "encoder.safetensors", "--images", place / "tokens"]
    flags += ["--out", out, "--cache", place / "cache", "--precision", "fp32"]
    flags += ["--examples", COUNT, "--steps", 3, *more]
    return parser.parse_args([str(flag) for flag in flags])


def batches_of_two(folder: Path, **changes: object) -> Path:
    lines = necks.DEFAULT_CONFIG.read_text(encoding="utf-8").splitlines()
    told = {"batch": 2, **changes}
    kept = [line for line in lines if line.partition(" ")[0] not in told]
    path = folder / "neck.toml"
    path.write_text("\n".join([*kept, *(f"{k} = {v}" for k, v in told.items())]))
    return path


def test_a_trained_neck_answers_for_the_bundle_and_leaves_it_as_it_was(
    place: Path, tmp_path: Path
) -> None:
    bundle = load_bundle()
    before = bundle.tokenizer_fingerprint, bundle.fingerprint
    tokenizer = load_compact(bundle.path("image_tokenizer"))
    world = World.load()
    scene = world.sample_scene(np.random.default_rng(3), "test")
    pictures = Renderer(world, place / "cache").render(scene)[None]
    quality = mean_psnr(pictures, reconstruct(tokenizer, pictures)[1])
    assert necks.run(arguments(place, tmp_path, "--config", batches_of_two(tmp_path))) == 0
    again = load_bundle()
    assert (again.tokenizer_fingerprint, again.fingerprint) == before
    tokenizer = load_compact(again.path("image_tokenizer"))
    assert mean_psnr(pictures, reconstruct(tokenizer, pictures)[1]) == quality
    neck = load_neck(
        tmp_path / "neck.safetensors", tokenizer_fingerprint=again.tokenizer_fingerprint.hex()
    )
    assert isinstance(neck, Classifier)
    assert neck.labels == world.names
    codes = reconstruct(tokenizer, pictures)[0].astype(np.int64)
    assert neck.classify(codes.reshape(1, -1)).shape == (1, len(world.names))


def test_training_changes_the_neck_and_nothing_of_the_encoder(place: Path, tmp_path: Path) -> None:
    args = arguments(place, tmp_path, "--config", batches_of_two(tmp_path))
    recipe = necks.read_recipe(necks.NeckRecipe, args.config)
    bundle = load_bundle()
    encoder = choose_encoder(args.encoder)
    before = {name: t.clone() for name, t in encoder.network().state_dict().items()}
    trainer = necks.NeckTrainer(recipe, args, bundle, encoder)
    start = {name: t.clone() for name, t in trainer.student.network.state_dict().items()}
    pool = necks.fill_pool(necks.sources_of(args, bundle), encoder)
    for share in (0.1, 0.5, 0.9):  # each stage of the schedule
        trainer.advance(pool, share)
        neck = list(trainer.student.network.parameters())
        assert all(each.grad is not None for each in neck)
        assert all(each.grad is None for each in encoder.network().parameters())
    after = encoder.network().state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert any(
        not torch.equal(start[n], t) for n, t in trainer.student.network.state_dict().items()
    )


def test_an_interrupted_run_ends_where_a_whole_one_ends(place: Path, tmp_path: Path) -> None:
    config = batches_of_two(tmp_path)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    necks.run(arguments(place, whole, "--config", config))
    recipe = necks.read_recipe(necks.NeckRecipe, config)
    args = arguments(place, parts, "--config", config, "--resume")
    parts.mkdir()
    encoder, bundle = choose_encoder(args.encoder), load_bundle()
    pool = necks.fill_pool(necks.sources_of(args, bundle), encoder)
    first = necks.NeckTrainer(recipe, args, bundle, encoder)
    first.student.network.train()
    first.advance(pool, 0.0)
    first.progress.step = 1
    first.keep()
    necks.run(args)
    found, wanted = (read_neck_file(f / "neck.safetensors").tensors for f in (parts, whole))
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_the_judge_never_trains_what_it_examines(place: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is the judge"):
        necks.run(arguments(place, tmp_path, "--encoder", SHIPPED))


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--encoder", "resnet"), "no encoder 'resnet'"),
        (("--entry", "7"), "entry 7"),
        (("--update-codec", "joint"), "goes on from a trained neck"),
        (("--labels", "absent.txt"), "cannot read the labels"),
    ],
)
def test_what_cannot_be_trained_is_told(
    place: Path, tmp_path: Path, flags: tuple[str, ...], told: str
) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        necks.run(arguments(place, tmp_path, *flags))
    assert caught.value.remedy


def test_shards_of_another_tokenizer_are_refused(place: Path, tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    shards.mkdir()
    check_meta(shards, {"tokenizer_sha256": "0" * 64, "seed": 0, "shard": 2})
    with pytest.raises(ConfigError, match="000000000"):
        necks.run(arguments(place, tmp_path, "--images", shards))


def test_a_neck_into_clip_is_trained_on_photographs(place: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    noise = np.random.default_rng(1).integers(0, 256, (2, 256, 256, 3), dtype=np.uint8)
    for number, picture in enumerate(noise):
        Image.fromarray(picture).save(photos / f"{number}.png")
    folder = save_tiny_clip(tmp_path / "encoder")
    flags = ("--encoder", folder, "--images", photos, "--config", batches_of_two(tmp_path))
    with pytest.raises(ConfigError, match="needs labels"):
        necks.run(arguments(place, tmp_path, *flags))
    necks.run(arguments(place, tmp_path, *flags, "--objective", "distillation"))
    fingerprint = load_bundle().tokenizer_fingerprint.hex()
    neck = load_neck(tmp_path / "neck.safetensors", tokenizer_fingerprint=fingerprint)
    assert neck.features(np.zeros((1, 256), np.int64)).shape == (1, 16, 16)  # type: ignore[union-attr]


def test_post_processing_starts_as_decoding_first(place: Path, tmp_path: Path) -> None:
    args = arguments(place, tmp_path, "--post-processing")
    recipe = necks.read_recipe(necks.NeckRecipe, necks.DEFAULT_CONFIG)
    encoder, bundle = choose_encoder(args.encoder), load_bundle()
    trainer = necks.NeckTrainer(recipe, args, bundle, encoder)
    codes = torch.zeros(1, 16, 16, dtype=torch.int64)
    tokenizer = open_tokenizer(bundle)
    seen = encoder.full(to_pixels(decode_pictures(tokenizer, codes.numpy())))
    torch.testing.assert_close(trainer.student.features(codes), seen, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("setting", ["joint", "machine"])
def test_an_updated_codec_is_another_tokenizer_with_a_neck_of_its_own(
    place: Path, tmp_path: Path, setting: str
) -> None:
    config, old = batches_of_two(tmp_path), load_bundle()
    start = tmp_path / "start"
    necks.run(arguments(place, start, "--config", config))
    flags = ("--config", config, "--update-codec", setting, "--start", start / "neck.safetensors")
    necks.run(arguments(place, tmp_path, *flags))
    bundle = load_bundle(str(tmp_path / "bundle"))
    assert bundle.name == f"builtin-{setting}"
    assert bundle.tokenizer_fingerprint != old.tokenizer_fingerprint
    path = tmp_path / "neck.safetensors"
    neck = load_neck(path, tokenizer_fingerprint=bundle.tokenizer_fingerprint.hex())
    assert isinstance(neck, Classifier)
    with pytest.raises(CheckpointError, match="reads tokens of"):
        load_neck(path, tokenizer_fingerprint=old.tokenizer_fingerprint.hex())
    was, now = (load_compact(each.path("image_tokenizer")) for each in (old, bundle))
    changed = {
        half: any(
            not torch.equal(a, b)
            for a, b in zip(
                getattr(was, half).parameters(), getattr(now, half).parameters(), strict=True
            )
        )
        for half in ("encoder", "decoder")
    }
    assert changed == {"encoder": True, "decoder": setting == "joint"}


def test_the_prior_of_bits_is_a_rate_with_a_gradient() -> None:
    torch.manual_seed(0)
    prior = BitPrior(13)
    values = quantize(torch.randn(1, 13, 16, 16, requires_grad=True))
    with torch.no_grad():
        for layer in (prior.look, prior.chances):
            layer.weight.zero_()
            assert layer.bias is not None
            layer.bias.zero_()
    assert float(prior(values).detach()) == pytest.approx(13.0)  # nothing is known: one bit a bit
    prior = BitPrior(13)
    z = torch.randn(1, 13, 4, 4, requires_grad=True)
    prior(quantize(z)).backward()
    assert z.grad is not None
    assert float(z.grad.abs().sum()) > 0


@torch.no_grad()
def test_a_token_is_priced_by_those_before_it_alone() -> None:
    torch.manual_seed(0)
    prior = BitPrior(2)
    values = quantize(torch.randn(1, 2, 4, 4))
    seen = prior.look.weight * prior.mask
    assert float(seen[:, :, 1, 1].abs().sum() + seen[:, :, 1, 2].abs().sum()) == 0
    assert float(seen[:, :, 2].abs().sum()) == 0
    flipped = values.clone()
    flipped[0, :, 3, 3] *= -1  # the last token is nobody's neighbour
    difference = float(prior(flipped) - prior(values)) * 16
    chances = prior.chances(
        torch.relu(torch.nn.functional.conv2d(values, seen, prior.look.bias, padding=1))
    )[0, :, 3, 3]
    wanted = float((values[0, :, 3, 3] * chances).sum()) / np.log(2)
    assert difference == pytest.approx(wanted, abs=1e-4)
