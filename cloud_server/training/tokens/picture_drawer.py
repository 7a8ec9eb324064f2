"""Lets the backbone draw scenes of the training split and keeps the pictures that pass a check.

Knows scenes, words and the engine that serves; no entropy model, and no network's insides. Requests
pass through the same translation as a server's. A picture is asked for with the canonical
description of its scene, and passes if the backbone itself, asked to describe it and to count its
objects, says just that: everything once, in its place, before its background. A shard is a pure
function of (backbone, bundle, world, options, seed, number); see `kept_pictures` for what it holds.

`cloud-server train kept-pictures --out DIR --pictures 2000 --workers 1`, then
`cloud-server train backbone --kept-pictures DIR ...` with `kept` sequences a step.
"""

from __future__ import annotations

import argparse
import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cloud_server.generation.work import AnswerResult, PictureResult
from cloud_server.serving.load import load_engine
from cloud_server.serving.loaded_model import Runner
from cloud_server.serving.translation import to_work
from cloud_server.training.scenes.language import describe
from cloud_server.training.scenes.word_lists import COUNT, DESCRIBE
from cloud_server.training.scenes.world import Scene, World
from cloud_server.training.tokens.drawing_jobs import backbone_of, share_out
from cloud_server.training.tokens.kept_pictures import DrawingPath, KeptPicture, write_kept
from cloud_server.training.tokens.shards import check_meta
from shared_protocol.bundles.bundle import Bundle
from shared_protocol.bundles.digests import digest_of_weights
from shared_protocol.bundles.find import load_bundle
from shared_protocol.bundles.manifest import BUILTIN
from shared_protocol.messages import Options, Request
from shared_protocol.tasks import Task
from shared_protocol.tokens import ImageTokens, TextTokens

logger = logging.getLogger(__name__)

GUIDANCE = 1.0
"""Descriptions leave little to guide to: more of it draws more copies of what is asked for."""
_SEEDS = 1 << 32


@dataclass(frozen=True)
class Job:
    """Everything that one shard depends on; small, so that it can be sent to a worker process."""

    out: Path
    bundle: str
    backbone: Path | None
    world: Path | None
    options: Options
    seed: int
    number: int
    size: int

    @property
    def codes_path(self) -> Path:
        """Where the codes go; its presence means that the shard is complete."""
        return self.out / f"train_{self.number:05d}.npy"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("--out", type=Path, required=True, help="folder for the shards")
    parser.add_argument("--bundle", default=BUILTIN, help="name or folder of the bundle")
    parser.add_argument("--backbone", type=Path, help="folder of its weights; default: as served")
    parser.add_argument("--steps", type=int, help="decoding steps; default: the bundle's")
    parser.add_argument("--guidance", type=float, default=GUIDANCE, help=f"[{GUIDANCE}]")
    parser.add_argument("--pictures", type=int, default=2000, help="to draw, not to keep [2000]")
    parser.add_argument("--shard", type=int, default=20, help="drawn pictures a shard [20]")
    parser.add_argument("--minutes", type=float, help="start no further shard after so long")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1, help="processes of one thread each")
    parser.add_argument("--world", type=Path, help="another world.toml")
    parser.add_argument("--smoke", action="store_true", help="one picture, one decoding step")


def run(args: argparse.Namespace) -> int:
    """Write the shards that are missing; returns the process's exit status.

    Raises:
        ConfigError: the folder holds shards that were made otherwise.
        InvalidInputError: steps or guidance out of range.
    """
    if args.smoke:
        args.pictures, args.steps, args.workers = 1, 1, 1
    args.out.mkdir(parents=True, exist_ok=True)
    jobs = [job for job in plan(args) if not job.codes_path.exists()]
    check_meta(args.out, _meta(args))
    share_out(jobs, work, args.workers, args.minutes)
    return 0


def plan(args: argparse.Namespace) -> list[Job]:
    """All shards, in order."""
    options = Options(steps=args.steps, guidance=args.guidance)
    starts = range(0, args.pictures, args.shard)
    sizes = [min(args.shard, args.pictures - start) for start in starts]
    return [
        Job(args.out, args.bundle, args.backbone, args.world, options, args.seed, number, size)
        for number, size in enumerate(sizes)
    ]


def _meta(args: argparse.Namespace) -> dict[str, Any]:
    bundle = load_bundle(args.bundle)
    return {
        "backbone_sha256": digest_of_weights(backbone_of(bundle, args.backbone)),
        "image_tokenizer_sha256": bundle.manifest.sha256[bundle.manifest.files["image_tokenizer"]],
        "steps": args.steps or bundle.defaults.steps,
        "guidance": args.guidance,
        "seed": args.seed,
        "shard": args.shard,
    }


def work(jobs: list[Job], deadline: float | None) -> int:
    """Write shard after shard until the deadline; returns how many."""
    torch.set_num_threads(1)  # one worker a core
    if not jobs:
        return 0
    bundle, world = load_bundle(jobs[0].bundle), World.load(jobs[0].world)
    drawer = PictureDrawer(
        load_engine(bundle, backbone_of(bundle, jobs[0].backbone), "cpu", 1), bundle
    )
    for count, job in enumerate(jobs):
        if deadline is not None and time.time() > deadline:
            return count
        kept = write_shard(job, drawer, world)
        logger.info("wrote %s: %d of %d kept", job.codes_path.name, kept, job.size)
    return len(jobs)


def write_shard(job: Job, drawer: PictureDrawer, world: World) -> int:
    """Draw, check and write one shard; returns how many pictures passed."""
    rng = np.random.default_rng((job.seed, job.number))
    drawn = [
        drawer.draw(world.sample_scene(rng, "train"), job.options, int(rng.integers(_SEEDS)))
        for _ in range(job.size)
    ]
    kept = [picture for picture in drawn if drawer.passes(picture)]
    write_kept(job.codes_path, kept, drawer.bundle.grid)
    return len(kept)


@dataclass(frozen=True)
class PictureDrawer:
    """Draws scenes and says what came of them.

    Args:
        engine: runs requests, one by one.
        bundle: the engine's.
    """

    engine: Runner
    bundle: Bundle

    def draw(self, scene: Scene, options: Options, seed: int) -> KeptPicture:
        """A picture of the scene's canonical description.

        Args:
            scene: what to draw.
            options: steps and guidance.
            seed: of the drawing.
        """
        words = describe(scene)
        text = self.bundle.text_tokenizer.encode(words)
        request = Request(Task.T2I, text, options=replace(options, seed=seed))
        path = DrawingPath()
        (result,) = self.engine.run([to_work(request, self.bundle, path.note)])
        assert isinstance(result, PictureResult), "a picture was asked for"
        codes = result.codes
        return KeptPicture(scene, words, codes, path.order(codes), path.draft(codes))

    def passes(self, picture: KeptPicture) -> bool:
        """Whether the backbone describes and counts what it drew as what was asked for."""
        wanted = {DESCRIBE[0]: picture.prompt, COUNT[0]: str(len(picture.scene.objects))}
        return all(self._answer(asked, picture) == answer for asked, answer in wanted.items())

    def _answer(self, question: str, picture: KeptPicture) -> str:
        image = ImageTokens(picture.codes.astype(np.int32), self.bundle.vocabulary.codebook_size)
        request = Request(Task.VQA, self.bundle.text_tokenizer.encode(question), image)
        (result,) = self.engine.run([to_work(request, self.bundle)])
        assert isinstance(result, AnswerResult), "an answer was asked for"
        ids = TextTokens(result.text_ids.astype(np.int32), self.bundle.vocabulary.text_size)
        return self.bundle.text_tokenizer.decode(ids).strip()
