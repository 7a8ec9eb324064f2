"""Recipe: makes the entropy models of any bundle from a folder of pictures, Show-o's included.

Knows the order of the steps and which file each hands to the next; `entropy` trains::

    images ─► codes of the bundle's image tokenizer ─┐
    captions ────────────────────────────────────────┼─► entropy models ─► --entropy FILE
    captions or prompts ─► the backbone's drawings ──┘

    OUT/pictures/  OUT/drawings/    shards of codes, see `folder_tokens` and `drawings`
    OUT/checkpoint.pt               goes on with --resume
    OUT/entropy.safetensors         the models
    OUT/entropy_digests.json        what they must compute on every machine
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from cloud_server.serving.load import choose_device
from cloud_server.training.recipes.entropy.sequences import Picture, Pool
from cloud_server.training.recipes.entropy.trainer import (
    EXPORT_NAME,
    EntropyRecipe,
    EntropyTrainer,
    asked_recipe,
)
from cloud_server.training.recipes.runs import SMOKE_STEPS
from cloud_server.training.tokens.drawings import Plan, draw, find_backbone, read_words
from cloud_server.training.tokens.folder_tokens import Split, split_pictures, tokenise
from cloud_server.training.tokens.picture_folder import find_pictures
from shared_protocol.bundles.bundle import Bundle
from shared_protocol.bundles.find import load_bundle
from shared_protocol.bundles.with_entropy import with_entropy
from shared_protocol.errors import ConfigError
from shared_protocol.selfcheck.recorded_digests import DIGESTS_FILE, write_digests

logger = logging.getLogger(__name__)

DRAWINGS_ON_GPU, DRAWINGS_ON_CPU, SMOKE_DRAWINGS = 600, 32, 4
SMOKE_PICTURES = 40
TEXT_TABLE_ENTRIES = 1 << 20
"""Most numbers of the text table: with Show-o's 50,295 ids its rows are 16 wide, not 64."""
NATIVE_TOKENS = 256
"""Tokens of the pictures that the shipped recipe's batch size was chosen for."""
MOST_REPEATS = 4.0
"""How much oftener than a picture a drawing is shown at most: few would be learnt by heart."""


def run(args: argparse.Namespace) -> int:
    """Tokenise, draw, train and export; returns the process's exit status.

    Raises:
        ConfigError: no such bundle, no pictures, or captions that do not belong to them.
        ImageError: a picture cannot be read.
        CheckpointError: weights of the bundle are missing or damaged.
    """
    if args.images is None:
        raise ConfigError("--bundle needs pictures to learn from", "name a folder with --images")
    bundle = load_bundle(args.bundle)
    material = prepare(args, bundle, choose_device(args.device or "auto"))
    path = train(args, bundle, material)
    extended = with_entropy(bundle, path)
    write_digests(extended.entropy, path.parent)
    logger.info("fingerprint %s", extended.fingerprint.hex())
    logger.info("serve it:   cloud-server --bundle %s --entropy %s", args.bundle, path)
    logger.info("measure it: %s", _measuring(args, path, material))
    return 0


@dataclass(frozen=True)
class Material:
    """What there is to learn from.

    Args:
        pictures, drawings: folders of shards; no drawings where nothing was drawn.
        picture_count, drawing_count: of them for training.
        device: where to train.
    """

    pictures: Path
    drawings: Path | None
    picture_count: int
    drawing_count: int
    device: str


def prepare(args: argparse.Namespace, bundle: Bundle, device: str) -> Material:
    """Tokenise the pictures and let the backbone draw."""
    found = find_pictures(args.images, args.captions)
    split = split_pictures(found[:SMOKE_PICTURES] if args.smoke else found, 0)
    folder = args.out / "pictures"
    tokenise(split, bundle, folder, device)
    drawn = _draw(args, bundle, split, folder, device)
    drawings = args.out / "drawings" if drawn else None
    return Material(folder, drawings, len(split.train), drawn, device)


def _draw(args: argparse.Namespace, bundle: Bundle, split: Split, folder: Path, device: str) -> int:
    """How many drawings for training there are now."""
    words = _words(args, split)
    backbone = find_backbone(bundle, args.backbone)
    count = _count(args, device)
    reasons = {
        "none are wanted": count < 1,
        "there are neither captions nor prompts": not words,
        f"the backbone of {bundle.name} is not on this machine": backbone is None,
    }
    for reason in (reason for reason, holds in reasons.items() if holds):
        logger.info("no drawings: %s; `adapted` will be `text_conditioned`", reason)
        return 0
    assert backbone is not None
    plan = Plan(words, _pictures(folder), count, 1 if args.smoke else None, 0)
    return draw(plan, bundle, backbone, args.out / "drawings", device)


def _count(args: argparse.Namespace, device: str) -> int:
    if args.generate is not None:
        return int(args.generate)
    if args.smoke:
        return SMOKE_DRAWINGS
    return DRAWINGS_ON_CPU if device == "cpu" else DRAWINGS_ON_GPU


def _words(args: argparse.Namespace, split: Split) -> list[str]:
    if args.prompts is not None:
        return read_words(args.prompts)
    return [words for picture in split.train for words in picture.captions]


def _pictures(folder: Path, pattern: str = "train_[0-9]*.npy") -> list[Picture]:
    """Those as they are, without the mirrored ones, unless another pattern says otherwise."""
    pool = Pool(folder, pattern)
    pool.refresh()
    return pool.pictures


def fit_recipe(
    recipe: EntropyRecipe, bundle: Bundle, pictures: int, drawings: int
) -> EntropyRecipe:
    """The recipe with the bundle's alphabets and grid, and shares that fit the material.

    Args:
        recipe: for the built-in alphabets.
        bundle: decides codes, text ids and positions.
        pictures, drawings: how many there are for training.
    """
    bits = (bundle.vocabulary.codebook_size - 1).bit_length()
    text_size, tokens = bundle.vocabulary.text_size, bundle.grid[0] * bundle.grid[1]
    room = max(8, TEXT_TABLE_ENTRIES // text_size // 8 * 8)
    network = recipe.network | {
        "high_bits": bits // 2,
        "low_bits": bits - bits // 2,
        "text_size": text_size,
        "text_width": min(recipe.network["text_width"], room),
        "side": max(recipe.network["side"], *bundle.grid),
    }
    sequences = recipe.batches["sequences"] * min(1.0, NATIVE_TOKENS / tokens)
    share = MOST_REPEATS * drawings / max(1, drawings + pictures)
    batches = recipe.batches | {
        "sequences": max(2, round(sequences)),
        "generated_share": min(recipe.batches["generated_share"], share),
    }
    return replace(recipe, network=network, batches=batches, data=recipe.data | {"held_out": 0})


def train(args: argparse.Namespace, bundle: Bundle, material: Material) -> Path:
    """Run `entropy` on the material; returns the exported file."""
    if args.smoke:
        args.steps = args.steps or SMOKE_STEPS
    recipe = fit_recipe(asked_recipe(args), bundle, material.picture_count, material.drawing_count)
    args.tokens, args.photo_tokens = material.pictures, None
    args.generated_tokens, args.device = material.drawings, material.device
    args.text_tokenizer = bundle.path("text_tokenizer")
    path: Path = args.export or args.out / EXPORT_NAME
    (path.parent / DIGESTS_FILE).unlink(missing_ok=True)  # those of an earlier run would not fit
    trainer = EntropyTrainer(recipe, args)
    trainer.corpus.held_out = _pictures(material.pictures, "test_*.npy")
    if trainer.progress.step == 0 and not (args.start or args.start_from):
        _forget_words(trainer)
    trainer.train()
    return path


def _forget_words(trainer: EntropyTrainer) -> None:
    """A word that no caption holds says nothing, instead of something random."""
    with torch.no_grad():
        trainer.model.text_table.weight.zero_()


def _measuring(args: argparse.Namespace, path: Path, material: Material) -> str:
    words: Sequence[object] = ["--bundle", args.bundle, "--weights", path]
    words = [*words, "--photo-tokens", material.pictures]
    if material.drawings is not None:
        words = [*words, "--generated-tokens", material.drawings]
    return " ".join(map(str, ["python -m cloud_server.training.benchmark.entropy_report", *words]))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags that this recipe adds to those of `entropy`."""
    group = parser.add_argument_group("models for a bundle from your own pictures, not --tokens")
    group.add_argument("--bundle", help="show-o, show-o-512, builtin or a folder")
    group.add_argument("--images", type=Path, help="folder of pictures")
    group.add_argument(
        "--captions",
        type=Path,
        help=".json, .jsonl or .tsv from file names to texts; without it, NAME.txt beside NAME.jpg",
    )
    group.add_argument("--prompts", type=Path, help="texts to draw, one a line, not the captions")
    group.add_argument(
        "--generate",
        type=int,
        metavar="N",
        help="pictures that the bundle's backbone draws, for `adapted` "
        f"[{DRAWINGS_ON_GPU} on a GPU, {DRAWINGS_ON_CPU} on a CPU]",
    )
    group.add_argument("--backbone", type=Path, help="its weights, if not with the bundle")
