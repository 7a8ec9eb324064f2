"""Keeps what the backbone answers, so that the `adapted` entropy model can be fitted to it.

Knows scenes, captions and the engine that serves, no entropy model: requests pass through the same
translation as a server's. Captions of scenes are drawn as whole pictures (t2i); regions of scenes
are filled in for the caption of another scene (inpaint). A shard is a pure function of (backbone,
bundle, seed, split, kind, number); see `kept_answers` for what it holds.

`cloud-server train generated-tokens --tokens DIR --out DIR --minutes 20 --workers 2`
"""

from __future__ import annotations

import argparse
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cloud_server.serving.load import load_engine
from cloud_server.serving.loaded_model import Runner
from cloud_server.training.recipes.entropy.sequences import Picture, Pool
from cloud_server.training.scenes.language import caption
from cloud_server.training.scenes.world import Scene, Split
from cloud_server.training.tokens.drawing_jobs import backbone_of, share_out
from cloud_server.training.tokens.kept_answers import (
    SPLITS,
    Asked,
    ask_to_draw,
    ask_to_fill,
    kind_of,
    options_with_seed,
    shard_path,
    shard_random,
    write_answers,
)
from cloud_server.training.tokens.shards import check_meta
from shared_protocol.bundles.bundle import Bundle
from shared_protocol.bundles.digests import digest_of_weights
from shared_protocol.bundles.find import load_bundle
from shared_protocol.bundles.manifest import BUILTIN
from shared_protocol.errors import ConfigError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """Everything that one shard depends on; small, so that it can be sent to a worker process."""

    tokens: Path
    out: Path
    bundle: str
    backbone: Path | None
    steps: int | None
    split: Split
    kind: str
    number: int
    size: int
    seed: int

    @property
    def codes_path(self) -> Path:
        """Where the codes go; its presence means that the shard is complete."""
        return shard_path(self.out, self.split, self.kind, self.number)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("--tokens", type=Path, required=True, help="folder of scene shards")
    parser.add_argument("--out", type=Path, required=True, help="folder for the shards")
    parser.add_argument("--bundle", default=BUILTIN, help="name or folder of the bundle")
    parser.add_argument("--backbone", type=Path, help="folder of its weights; default: as served")
    parser.add_argument("--steps", type=int, help="decoding steps; default: the bundle's")
    parser.add_argument("--pictures", type=int, default=600, help="training pictures [600]")
    parser.add_argument("--test-pictures", type=int, default=40, help="held-out pictures [40]")
    parser.add_argument("--shard", type=int, default=10, help="pictures a shard [10]")
    parser.add_argument("--minutes", type=float, help="start no further shard after so long")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--smoke", action="store_true", help="one picture, one decoding step")


def run(args: argparse.Namespace) -> int:
    """Write the shards that are missing; returns the process's exit status.

    Raises:
        ConfigError: the folder holds shards that were made otherwise, or there are no scenes.
    """
    if args.smoke:
        args.pictures, args.test_pictures, args.steps, args.workers = 1, 0, 1, 1
    args.out.mkdir(parents=True, exist_ok=True)
    check_meta(args.out, _meta(args))
    jobs = [job for job in plan(args) if not job.codes_path.exists()]
    share_out(jobs, work, args.workers, args.minutes)
    return 0


def plan(args: argparse.Namespace) -> list[Job]:
    """All shards; the held-out ones come first."""
    wanted: tuple[tuple[Split, int], ...] = (("test", args.test_pictures), ("train", args.pictures))
    return [
        Job(
            tokens=args.tokens,
            out=args.out,
            bundle=args.bundle,
            backbone=args.backbone,
            steps=args.steps,
            split=split,
            kind=kind_of(index),
            number=index,
            size=min(args.shard, pictures - start),
            seed=args.seed,
        )
        for split, pictures in wanted
        for index, start in enumerate(range(0, pictures, args.shard))
    ]


def _meta(args: argparse.Namespace) -> dict[str, Any]:
    bundle = load_bundle(args.bundle)
    steps = args.steps or bundle.defaults.steps
    tokenizer = bundle.manifest.sha256[bundle.manifest.files["image_tokenizer"]]
    return {
        "backbone_sha256": digest_of_weights(backbone_of(bundle, args.backbone)),
        "image_tokenizer_sha256": tokenizer,
        "steps": steps,
        "guidance": bundle.defaults.guidance,
        "seed": args.seed,
        "shard": args.shard,
    }


def work(jobs: list[Job], deadline: float | None) -> int:
    """Write shard after shard until the deadline; returns how many."""
    torch.set_num_threads(1)  # one worker a core
    if not jobs:
        return 0
    bundle = load_bundle(jobs[0].bundle)
    engine = load_engine(bundle, backbone_of(bundle, jobs[0].backbone), "cpu", 1)
    pools = {split: _scenes(jobs[0].tokens, split) for split in SPLITS}
    for count, job in enumerate(jobs):
        if deadline is not None and time.time() > deadline:
            return count
        write_shard(job, engine, bundle, pools[job.split])
        logger.info("wrote %s", job.codes_path.name)
    return len(jobs)


def _scenes(folder: Path, split: Split) -> list[Picture]:
    pool = Pool(folder, f"{split}_*.npy")
    pool.refresh()
    return [picture for picture in pool.pictures if picture.scene is not None]


def write_shard(job: Job, engine: Runner, bundle: Bundle, scenes: list[Picture]) -> None:
    """Ask, answer and write one shard.

    Raises:
        ConfigError: there are no scenes of this split to speak about.
    """
    if not scenes:
        raise ConfigError(
            f"{job.tokens} holds no {job.split} scenes",
            f"make them: 'cloud-server train token-cache --split {job.split}'",
        )
    rng = shard_random(job.seed, job.split, job.number)
    asked = [ask(job, bundle, scenes, rng) for _ in range(job.size)]
    write_answers(job.codes_path, asked, engine, bundle)


def ask(job: Job, bundle: Bundle, scenes: list[Picture], rng: np.random.Generator) -> Asked:
    """One request about random scenes."""
    shown, told = (scenes[int(rng.integers(len(scenes)))] for _ in range(2))
    words = caption(_scene(told), rng, job.split)
    text = bundle.text_tokenizer.encode(words)
    options = options_with_seed(job.steps, rng)
    if job.kind == "t2i":
        return ask_to_draw(words, text, options)
    return ask_to_fill(words, text, options, shown, bundle, rng)


def _scene(picture: Picture) -> Scene:
    assert picture.scene is not None
    return picture.scene
