"""Steps a second of every recipe that trains a network, on the processor and on the GPU.

It does not look at what is learned: scenes have random codes, and sprites are stand-ins.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from cloud_server.benchmarks.tables import Attempts, Cell, Setup, Table, say, seconds
from cloud_server.training.benchmark import judge
from cloud_server.training.recipes.backbone import recipe as backbone
from cloud_server.training.recipes.entropy import recipe as entropy
from cloud_server.training.recipes.entropy.trainer import EntropyTrainer, asked_recipe
from cloud_server.training.recipes.image_tokenizer import recipe as image_tokenizer
from cloud_server.training.recipes.runs import Progress
from cloud_server.training.scenes.render import Renderer
from cloud_server.training.scenes.stand_ins import write_stand_ins
from cloud_server.training.scenes.world import World
from cloud_server.training.tokens.shards import write_shard
from shared_protocol.bundles.find import load_bundle
from shared_protocol.tokenizers.compact import load_compact

SCENES, FEW_SCENES = 1000, 12
WARM = {"cpu": 1, "cuda": 6}
STEPS = {"cpu": 3, "cuda": 30}
LARGER = 8
"""How many times the recipe's sequences a larger batch has."""
MOST_WORKERS = 6
LONGEST_S = 6.0
"""After which no further step of a recipe is taken."""
TOY_NETWORK = {"hidden_size": 32, "intermediate_size": 64, "layers": 3, "heads": 2, "stem_width": 4}
SHARE = 0.5
"""Of the run, at which the steps are taken: all losses count."""


class Trainer(Protocol):
    """What every recipe's trainer has."""

    progress: Progress

    def advance(self, share: float) -> Any:
        """One update."""
        ...


@dataclass(frozen=True)
class Files:
    """What recipes read, made up for this run."""

    folder: Path
    small: bool

    @classmethod
    def made(cls, folder: Path, small: bool) -> Files:
        world, rng = World.load(), np.random.default_rng(0)
        count = FEW_SCENES if small else SCENES
        scenes = [world.sample_scene(rng, "train") for _ in range(count)]
        codes = rng.integers(0, 8192, (count, 16, 16))
        write_shard(folder / "train_00000.npy", codes, [scene.to_dict() for scene in scenes])
        write_stand_ins(folder / "cache", world)
        return cls(folder, small)

    def arguments(self, recipe: ModuleType, device: str, *flags: object) -> argparse.Namespace:
        """The flags of a recipe."""
        parser = argparse.ArgumentParser()
        recipe.add_arguments(parser)
        words = [*flags, "--device", device, "--out", self.folder / "out"]
        if self.small:
            words.append("--smoke")
        return parser.parse_args([str(word) for word in words])

    @property
    def tokens(self) -> list[object]:
        words = load_bundle().path("text_tokenizer")
        return ["--tokens", self.folder, "--text-tokenizer", words]


def training_steps(setup: Setup) -> Iterator[Table]:
    """A table of all recipes, and one of the backbone's batches."""
    with tempfile.TemporaryDirectory() as place:
        files = Files.made(Path(place), setup.small)
        (files.folder / "out").mkdir()
        attempts = Attempts()
        rows = [
            attempts.of(f"{name} on {device}", partial(_row, name, make, files, device, setup))
            or [name, device, None, None, None]
            for device in setup.devices
            for name, make in TRAINERS.items()
        ]
        columns = ["recipe", "device", "sequences or pictures a step", "steps/s", "of them /s"]
        yield Table("Steps of training, recipes as shipped, mixed with bfloat16", columns, rows)
        yield _batch_table(files, setup, attempts)
        attempts.finish()


def _row(name: str, make: Make, files: Files, device: str, setup: Setup) -> list[Cell]:
    trainer, size = make(files, device)
    rate = steps_a_second(trainer, device, setup)
    say(f"  {name} on {device}: {rate:.2f} steps/s")
    return [name, device, size, rate, rate * size]


def steps_a_second(trainer: Trainer, device: str, setup: Setup) -> float:
    """Of a trainer, after steps that are not counted."""
    kind = "cpu" if device == "cpu" else "cuda"
    most = 1 if setup.small else STEPS[kind]
    done, patience = 0, 0.0

    def advance(steps: int) -> None:
        nonlocal done, patience
        done, patience = 0, time.monotonic() + LONGEST_S
        while done < steps and (not done or time.monotonic() < patience):
            trainer.advance(SHARE)
            trainer.progress.step += 1
            done += 1

    if not setup.small:
        advance(WARM[kind])
    taken = seconds(lambda: advance(most), setup)
    return done / taken


def _backbone(
    files: Files, device: str, times: int = 1, workers: int = 0
) -> tuple[backbone.BackboneTrainer, int]:
    args = files.arguments(backbone, device, *files.tokens, "--workers", workers)
    recipe = backbone.BackboneRecipe.load(backbone.DEFAULT_CONFIG.with_name("backbone_more.toml"))
    counts = {kind: 1 if files.small else int(recipe.batches[kind]) for kind in ("t2i", "mmu")}
    for kind, count in counts.items():
        recipe.batches[kind] = count * times
    if files.small:
        recipe.network.update(TOY_NETWORK, probe_layer=2)
    return backbone.BackboneTrainer(recipe, args), times * sum(counts.values())


def _entropy(files: Files, device: str) -> tuple[Trainer, int]:
    args = files.arguments(entropy, device, *files.tokens)
    recipe = asked_recipe(args)
    return EntropyTrainer(recipe, args), int(recipe.batches["sequences"])


def _image_tokenizer(files: Files, device: str) -> tuple[Trainer, int]:
    args = files.arguments(image_tokenizer, device, "--cache", files.folder / "cache")
    recipe = image_tokenizer.TokenizerRecipe.load()
    if files.small:
        recipe = image_tokenizer.tiny(recipe)
    return image_tokenizer.TokenizerTrainer(recipe, args), recipe.batch


def _judge(files: Files, device: str) -> tuple[Trainer, int]:
    args = files.arguments(judge, device, "--tokenised", 4 if files.small else 2 * judge.BATCH)
    args.out, args.smoke = args.out / "judge.safetensors", files.small
    args.tokenised = 4 if files.small else args.tokenised
    world = World.load()
    tokenizer = load_compact(load_bundle().path("image_tokenizer"))
    studio = judge.Studio(world, Renderer(world, files.folder / "cache"), tokenizer)
    trainer = judge.JudgeTrainer(studio, args)
    return trainer, trainer.size


Make = Callable[[Files, str], tuple[Trainer, int]]
TRAINERS: dict[str, Make] = {
    "backbone": _backbone,
    "entropy": _entropy,
    "image-tokenizer": _image_tokenizer,
    "judge": _judge,
}


def _batch_table(files: Files, setup: Setup, attempts: Attempts) -> Table:
    """What making the backbone's batches takes, beside the step that learns from them."""
    workers = max(1, min(MOST_WORKERS, (os.cpu_count() or 2) - 2))
    trials = [(1, 0), (1, 1)] if setup.small else [(1, 0), (LARGER, 0), (LARGER, workers)]
    rows = [
        attempts.of(
            f"{times} times, {count} workers", partial(_of_batches, files, setup, times, count)
        )
        or [None, count, None, None, None]
        for times, count in trials
    ]
    columns = ["sequences a step", "workers", "making them, ms", "whole step, ms", "sequences/s"]
    return Table(f"Batches of the backbone's recipe on {setup.device}", columns, rows)


def _of_batches(files: Files, setup: Setup, times: int, workers: int) -> list[Cell]:
    trainer, size = _backbone(files, setup.device, times, workers)
    try:
        rate = steps_a_second(trainer, setup.device, setup)
    finally:
        trainer.close()
    made = None if workers else 1000 * seconds(partial(_make, trainer), setup)
    say(f"  backbone, {size} sequences, {workers} workers: {rate:.2f} steps/s")
    return [size, workers, made, 1000 / rate, rate * size]


def _make(trainer: backbone.BackboneTrainer) -> None:
    trainer.source.batches(trainer.progress.step, SHARE)
