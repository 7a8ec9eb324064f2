"""Recipe: trains the judge of generated pictures on drawn scenes, and says how often it is right.

Knows the schedule and the files; pictures come from `judge_data`, the network from `judge_model`.
The judge never sees a backbone's output or an answer of it.
`cloud-server train judge --out FILE`; the same seed makes it again, up to the arithmetic of the
machine.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cloud_server.necks.cell_net import CellNet
from cloud_server.training.benchmark.judge_data import (
    Labelled,
    draw,
    labels,
    through_tokens,
    varied,
)
from cloud_server.training.benchmark.judge_model import (
    SHIPPED,
    Judge,
    Sighting,
    judge_loss,
    to_input,
)
from cloud_server.training.recipes.runs import (
    SMOKE_STEPS,
    Progress,
    add_run_arguments,
    autocast,
    load_checkpoint,
    save_checkpoint,
)
from cloud_server.training.scenes.language import relation_of
from cloud_server.training.scenes.render import Renderer
from cloud_server.training.scenes.sprites import default_cache_dir
from cloud_server.training.scenes.world import Scene, World
from cloud_server.training.tokens.token_cache import BlockEncoder
from shared_protocol.bundles.find import bundle_folder
from shared_protocol.bundles.manifest import BUILTIN
from shared_protocol.tokenizers.compact import CompactTokenizer, load_compact

logger = logging.getLogger(__name__)

BATCH = 24
TOKENISED = 1200
"""Pictures that went through the tokenizer; half of every batch is drawn from them."""
LEARNING_RATE, WARM_UP, WEIGHT_DECAY = 3e-3, 0.05, 0.02
STEPS, SEED = 900, 77
LOG_EVERY, KEEP_EVERY = 25, 100
SCORED = 400
SCORE_SEED = 4100
NEAR = 24.0
"""Pixels between a seen and a true centre that still count as the same place."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of this recipe."""
    parser.add_argument("--out", type=Path, default=SHIPPED, help="file [the shipped one]")
    parser.add_argument("--tokenizer", type=Path, help="image tokenizer; default: the built-in")
    parser.add_argument("--world", type=Path, help="another world.toml")
    parser.add_argument("--cache", type=Path, help="folder for downloads (default: $UNIMIC_CACHE)")
    parser.add_argument(
        "--tokenised",
        type=int,
        default=TOKENISED,
        help="pictures that pass the tokenizer [%(default)s]",
    )
    parser.add_argument("--scored", type=int, default=SCORED, help="held-out scenes it is tried on")
    add_run_arguments(parser, steps=STEPS, seed=SEED)


def run(args: argparse.Namespace) -> int:
    """Train, export, report; returns the process's exit status."""
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.smoke:
        args.steps, args.scored, args.tokenised = SMOKE_STEPS, 4, 4
    args.out.parent.mkdir(parents=True, exist_ok=True)
    world = World.load(args.world)
    studio = Studio(
        world,
        Renderer(world, args.cache or default_cache_dir()),
        load_compact(args.tokenizer or bundle_folder(BUILTIN) / "image_tokenizer.safetensors"),
    )
    net = JudgeTrainer(studio, args).train()
    about = {"seed": str(args.seed), "steps": str(args.steps)}
    judge = Judge(net.cpu().float(), world.names, world.backgrounds, about)
    judge.save(args.out)
    scores = scores_of(Judge.load(args.out), studio, args.scored)
    args.out.with_suffix(".json").write_text(json.dumps(scores, indent=2) + "\n", encoding="utf-8")
    logger.info("judge %s: %s", args.out.name, json.dumps(scores))
    return 0


@dataclass(frozen=True)
class Studio:
    """Draws pictures, and passes them through the image tokenizer."""

    world: World
    renderer: Renderer
    tokenizer: CompactTokenizer

    def tokenised(self, items: list[Labelled]) -> list[Labelled]:
        """The same items as they look after the image tokenizer."""
        pictures = np.stack([item.picture for item in items])
        outputs = through_tokens(self.tokenizer, BlockEncoder(self.tokenizer), pictures)
        return [Labelled(p, item.scene) for p, item in zip(outputs, items, strict=True)]


class JudgeTrainer:
    """One run; it can be resumed from the checkpoint beside `args.out`."""

    def __init__(self, studio: Studio, args: argparse.Namespace) -> None:
        torch.manual_seed(args.seed)
        self.studio, self.args, self.progress = studio, args, Progress()
        net = CellNet(len(studio.world.names), len(studio.world.backgrounds))
        self.net = net.to(args.device)
        self._optimiser = torch.optim.AdamW(
            self.net.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY
        )
        if args.resume and self._checkpoint.exists():
            self.progress, states = load_checkpoint(self._checkpoint, args.device)
            self.net.load_state_dict(states["net"])
            self._optimiser.load_state_dict(states["optimiser"])
        self.size = 2 if args.smoke else BATCH
        rng = np.random.default_rng((args.seed, 1))
        drawn = [draw(studio.world, studio.renderer, rng) for _ in range(args.tokenised)]
        self._pool = studio.tokenised(drawn)
        logger.info("%d pictures went through the tokenizer", len(self._pool))

    @property
    def _checkpoint(self) -> Path:
        return Path(self.args.out).with_suffix(".pt")

    def train(self) -> CellNet:
        """Run to the last step; returns the trained network."""
        progress, started = self.progress, time.monotonic() - self.progress.seconds
        while progress.step < self.args.steps:
            loss = self.advance(progress.share(self.args.steps, 0.0))
            progress.step += 1
            progress.seconds = time.monotonic() - started
            if progress.step % LOG_EVERY == 0:
                logger.info("step %d, %.0f s: loss %.3f", progress.step, progress.seconds, loss)
            if progress.step % KEEP_EVERY == 0:
                states = {"net": self.net.state_dict(), "optimiser": self._optimiser.state_dict()}
                save_checkpoint(self._checkpoint, progress, **states)
        self._checkpoint.unlink(missing_ok=True)
        return self.net

    def advance(self, share: float) -> Tensor:
        """One update, at a share of the run; returns the loss."""
        for group in self._optimiser.param_groups:
            group["lr"] = LEARNING_RATE * schedule(share)
        seed = (self.args.seed, 2, self.progress.step)
        loss = _step(self.net, _batch(self.studio, self._pool, self.size, seed), self.args)
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        return loss


def schedule(share: float) -> float:
    """Factor on the learning rate: linear up, then linear to zero.

    >>> schedule(0.025), schedule(1.0)
    (0.5, 0.0)
    """
    return min(share / WARM_UP, (1 - share) / (1 - WARM_UP)) if share else 1e-3


def _batch(
    studio: Studio, pool: list[Labelled], size: int, seed: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pictures, classes and backgrounds of a step; a pure function of the seed."""
    rng = np.random.default_rng(seed)
    items = [pool[int(i)] for i in rng.integers(len(pool), size=size // 2)]
    items += [draw(studio.world, studio.renderer, rng) for _ in range(size - len(items))]
    pictures = varied(np.stack([item.picture for item in items]), rng)
    return pictures, *labels(items, studio.world)


def _step(
    net: CellNet, batch: tuple[np.ndarray, np.ndarray, np.ndarray], args: argparse.Namespace
) -> Tensor:
    """Gradients of one batch; returns its loss."""
    pictures, classes, backgrounds = batch
    net.train()
    with autocast(args.device, args.precision):
        cells, columns = net(to_input(pictures).to(args.device))
    targets = (torch.from_numpy(classes), torch.from_numpy(backgrounds))
    loss = judge_loss(cells.float(), columns.float(), *(t.to(args.device) for t in targets))
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
    return loss.detach()


def scores_of(judge: Judge, studio: Studio, count: int) -> dict[str, dict[str, float]]:
    """How often the judge is right on held-out scenes, as drawn and after the tokenizer."""
    rng = np.random.default_rng(SCORE_SEED)
    scenes = [studio.world.sample_scene(rng, "test") for _ in range(count)]
    plain = [Labelled(studio.renderer.render(scene), scene) for scene in scenes]
    fragments = [draw(studio.world, studio.renderer, rng) for _ in range(count)]
    sets = {
        "held-out scenes": plain,
        "held-out scenes, tokenised": studio.tokenised(plain),
        "with twins and fragments, tokenised": studio.tokenised(fragments),
    }
    return {name: score(judge, items) for name, items in sets.items()}


def score(judge: Judge, items: list[Labelled]) -> dict[str, float]:
    """Shares of pictures, objects and pairs that are judged right.

    Returns:
        "scenes" (exactly the true objects, each as often as it is there), "recall" and
        "precision" of objects in the right places, "relations" of true pairs, "backgrounds", and
        "count", the number of pictures.
    """
    exact, places = 0, 0
    tally: Counter[str] = Counter()
    for item in items:
        seen, columns = judge.look(item.picture)
        names = Counter(thing.name for thing in item.scene.objects)
        exact += names == Counter(sighting.name for sighting in seen)
        places += judge.background(columns) == item.scene.background
        tally["true"] += len(item.scene.objects)
        tally["seen"] += len(seen)
        tally["matched"] += matched(seen, item.scene)
        right, asked = _relations(seen, item.scene)
        tally["pairs"] += asked
        tally["pairs right"] += right
    share = {
        "scenes": exact / len(items),
        "recall": tally["matched"] / max(1, tally["true"]),
        "precision": tally["matched"] / max(1, tally["seen"]),
        "relations": tally["pairs right"] / max(1, tally["pairs"]),
        "backgrounds": places / len(items),
    }
    return {**{name: round(value, 4) for name, value in share.items()}, "count": len(items)}


def matched(seen: list[Sighting], scene: Scene) -> int:
    """How many objects of the scene are seen at their place."""
    left = list(seen)
    for thing in scene.objects:
        x, y = thing.centre
        for sighting in left:
            near = max(abs(sighting.x - x), abs(sighting.y - y)) <= NEAR
            if sighting.name == thing.name and near:
                left.remove(sighting)
                break
    return len(seen) - len(left)


def relation_holds(first: Sighting, second: Sighting, relation: str) -> bool:
    """Whether one centre lies left of, right of, above or below the other, mostly that way.

    >>> fox, car = Sighting("fox", 60.0, 90.0, 1.0), Sighting("car", 190.0, 70.0, 1.0)
    >>> relation_holds(fox, car, "left"), relation_holds(fox, car, "below")
    (True, False)
    """
    dx, dy = first.x - second.x, first.y - second.y
    sideways = abs(dx) >= abs(dy)
    return {
        "left": sideways and dx < 0,
        "right": sideways and dx > 0,
        "above": not sideways and dy < 0,
        "below": not sideways and dy > 0,
    }[relation]


def _relations(seen: list[Sighting], scene: Scene) -> tuple[int, int]:
    """(right, all) of the first two objects' relation, where the scene has two."""
    if len(scene.objects) != 2 or scene.objects[0].name == scene.objects[1].name:
        return 0, 0
    first, second = scene.objects
    by_name = {sighting.name: sighting for sighting in reversed(seen)}
    if first.name not in by_name or second.name not in by_name:
        return 0, 1
    relation = relation_of(first, second)
    return int(relation_holds(by_name[first.name], by_name[second.name], relation)), 1
