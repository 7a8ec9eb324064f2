"""Trains the entropy models on image tokens and exports their exact integer form.

Knows the schedule, the optimisers and the files; sequences come from `sequences`, the network and
its integer form from `shared_protocol.entropy`. One network is trained on a mixture of all
scenarios, or on those of one.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from cloud_server.training.recipes.entropy.float_again import float_again
from cloud_server.training.recipes.entropy.sequences import Example, Picture, Pool, Sampler, collate
from cloud_server.training.recipes.optimisers import Optimisers, Rates
from cloud_server.training.recipes.run_loop import Chore, Length, run_to_the_end
from cloud_server.training.recipes.runs import (
    CHECKPOINT,
    Progress,
    autocast,
    load_checkpoint,
    read_recipe,
    save_checkpoint,
)
from shared_protocol.entropy.checkpoint import load, quantise, save
from shared_protocol.entropy.config import KIND_TARGET, EntropyConfig
from shared_protocol.entropy.model import Batch, EntropyModel
from shared_protocol.errors import ConfigError
from shared_protocol.tasks import Scenario
from shared_protocol.tokenizers.text import TextTokenizer

logger = logging.getLogger(__name__)

DEFAULT_CONFIG = Path(__file__).parents[2] / "configs" / "entropy.toml"
EXPORT_NAME = "entropy.safetensors"
LOG_EVERY = 25
REFRESH_EVERY = 200
HELD_OUT_BATCH = 25
SCENARIO_SHARES = {
    "all": ("generic", "generic_subset", "masked", "text", "text_inside", "text_border"),
    "generic": ("generic", "generic_subset"),
    "masked": ("masked",),
    "text_conditioned": ("text", "text_inside", "text_border"),
    "adapted": ("text", "text_inside", "text_border"),
}


@dataclass(frozen=True)
class EntropyRecipe:
    """Everything that shapes the result, as in configs/entropy.toml."""

    seed: int
    network: dict[str, int]
    optimiser: dict[str, float]
    batches: dict[str, float]
    data: dict[str, float]
    shares: dict[str, float]

    @classmethod
    def load(cls, path: Path | None = None) -> EntropyRecipe:
        """Read a TOML file; without `path`, the shipped recipe."""
        return read_recipe(cls, path or DEFAULT_CONFIG)

    def narrowed(self, scenario: str) -> EntropyRecipe:
        """The same recipe with the shares of one scenario."""
        return replace(self, shares={way: self.shares[way] for way in SCENARIO_SHARES[scenario]})

    def tiny(self) -> EntropyRecipe:
        """A recipe whose steps take no time."""
        network = {**self.network, "width": 32, "layers": 2, "heads": 2, "hidden": 64}
        network |= {"code_width": 8, "text_width": 8, "low_width": 32}
        data = {**self.data, "held_out": 2, "calibration": 1}
        return replace(self, network=network, batches={**self.batches, "sequences": 2}, data=data)


def asked_recipe(args: argparse.Namespace) -> EntropyRecipe:
    """The recipe as --config, --scenario, --seed, --generated-share and --smoke want it.

    Raises:
        ConfigError: --config is no recipe.
    """
    recipe = EntropyRecipe.load(args.config).narrowed(args.scenario)
    if args.seed is not None:
        recipe = replace(recipe, seed=args.seed)
    if args.generated_share is not None:
        batches = {**recipe.batches, "generated_share": args.generated_share}
        recipe = replace(recipe, batches=batches)
    return recipe.tiny() if args.smoke else recipe


class Corpus:
    """The pools of pictures and how batches mix them."""

    def __init__(self, recipe: EntropyRecipe, args: argparse.Namespace, side: int) -> None:
        tokenizer = TextTokenizer.load(args.text_tokenizer) if args.text_tokenizer else None
        self.recipe = recipe
        self.sampler = Sampler(tokenizer, recipe.shares, recipe.data, side)
        self.scenes = Pool(args.tokens)
        self.photos = Pool(args.photo_tokens)
        self.generated = Pool(args.generated_tokens, scenario=Scenario.ADAPTED)
        self.refresh()
        kept = int(recipe.data["held_out"])
        if len(self.scenes.pictures) <= kept:
            raise ConfigError(
                f"{args.tokens} holds {len(self.scenes.pictures)} pictures, too few to learn from",
                f"give more than the {kept} that are held out",
            )
        self.held_out, self.scenes.pictures = (
            self.scenes.pictures[:kept],
            self.scenes.pictures[kept:],
        )

    def refresh(self) -> None:
        """Pick up shards that arrived since."""
        for pool in (self.scenes, self.photos, self.generated):
            pool.refresh()

    def examples(self, count: int, rng: np.random.Generator) -> list[Example]:
        """A batch's examples."""
        return [self.sampler.draw(self._picture(rng), rng) for _ in range(count)]

    def _picture(self, rng: np.random.Generator) -> Picture:
        shares, drawn = self.recipe.batches, rng.random()
        pool = self.scenes
        if self.photos.pictures and drawn < shares["photo_share"]:
            pool = self.photos
        elif self.generated.pictures and drawn > 1 - shares["generated_share"]:
            pool = self.generated
        picture = pool.pictures[int(rng.integers(len(pool.pictures)))]
        if pool is self.photos and rng.random() < self.recipe.data["wrong_text_share"]:
            other = self.scenes.pictures[int(rng.integers(len(self.scenes.pictures)))]
            return replace(picture, scene=other.scene)
        return picture


class EntropyTrainer:
    """One run, from the first or the last checkpointed step to the export."""

    def __init__(self, recipe: EntropyRecipe, args: argparse.Namespace) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.args = recipe, args
        begun = float_again(load(args.start_from)) if args.start_from else None
        self.config = EntropyConfig(**recipe.network) if begun is None else begun.config
        self.corpus = Corpus(recipe, args, self.config.side)
        self.model = (begun or EntropyModel(self.config)).to(args.device)
        self.progress, self.fitted = Progress(), False
        self._bits: list[float] = []
        if args.start:
            self._start(args.start)
        if begun is not None:
            self.fitted = not kinds_are_shared(begun, Scenario.ADAPTED, Scenario.TEXT_CONDITIONED)
        self.optimisers = _optimisers(self.model, recipe.optimiser, args.rate)
        if args.resume and (args.out / CHECKPOINT).is_file():
            self._resume()

    def train(self) -> None:
        """Run to the planned end, with an evaluation and a checkpoint now and then."""
        args = self.args
        run_to_the_end(
            self.progress,
            Length(args.steps, args.minutes),
            self.advance,
            self.log,
            log_every=LOG_EVERY,
            chores=[Chore(args.evaluate_minutes, self._look)],
        )
        self._look()

    def advance(self, share: float) -> None:
        """One update, at a share of the run."""
        if self.progress.step and self.progress.step % REFRESH_EVERY == 0:
            self.corpus.refresh()
        rng = np.random.default_rng((self.recipe.seed, self.progress.step))
        count = int(self.recipe.batches["sequences"])
        batch = collate(self.corpus.examples(count, rng), self.config).to(self.args.device)
        loss = self._nats(batch).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.optimiser["clip_norm"])
        self.optimisers.step(self._schedule(share))
        self._bits.append(float(loss.detach()) / float(np.log(2)))

    def log(self, share: float) -> None:
        """Print where the run stands: bits a token since the last time."""
        step, seconds, bits = self.progress.step, self.progress.seconds, np.mean(self._bits)
        logger.info("step %d %.0f s %.1f %% %.3f", step, seconds, 100 * share, bits)
        self._bits.clear()

    def _nats(self, batch: Batch) -> torch.Tensor:
        with autocast(self.args.device, self.args.precision):
            nats: torch.Tensor = self.model(batch)
        return nats

    def _schedule(self, share: float) -> float:
        """Trapezoid over the run: linear up, flat, linear to zero."""
        rates = self.recipe.optimiser
        up = min(1.0, (share + 1e-3) / rates["warm_up_share"])
        return max(0.0, min(up, (1.0 - share) / rates["cool_down_share"]))

    def _look(self) -> None:
        """Keep a checkpoint, export, then evaluate on held-out scenes."""
        self.save()
        self.export()
        for way, bits in self.evaluate().items():
            logger.info("held out %-16s %.3f bits a token", way, bits)

    def save(self) -> None:
        """Write the checkpoint that --resume and --start read."""
        save_checkpoint(
            self.args.out / CHECKPOINT,
            self.progress,
            model=self.model.state_dict(),
            optimisers=self.optimisers.state(),
            adapted=self._is_fitted(),
        )

    def evaluate(self) -> dict[str, float]:
        """Bits per token on held-out scenes for every way to code them, in floating point."""
        found = {way: self.held_out_bits(way) for way in self.recipe.shares}
        return {way: float(bits.sum() / tokens.sum()) for way, (bits, tokens) in found.items()}

    def held_out_bits(self, way: str) -> tuple[np.ndarray, np.ndarray]:
        """(N,) bits of each held-out scene coded in one way, in floating point, and its tokens."""
        self.model.eval()
        rng = np.random.default_rng(0)
        bits, tokens = [], []
        with torch.no_grad():
            for batch in self._held_out_batches(way, rng):
                counts = batch.is_target.sum(1).tolist()
                nats = torch.split(self._nats(batch).cpu(), counts)
                bits += [float(some.double().sum()) / float(np.log(2)) for some in nats]
                tokens += counts
        self.model.train()
        return np.array(bits), np.array(tokens)

    def _held_out_batches(self, way: str, rng: np.random.Generator) -> Iterable[Batch]:
        pictures = self.corpus.held_out
        for begin in range(0, len(pictures), HELD_OUT_BATCH):
            some = pictures[begin : begin + HELD_OUT_BATCH]
            examples = [self.corpus.sampler.draw(picture, rng, way) for picture in some]
            yield collate(examples, self.config).to(self.args.device)

    def export(self) -> Path:
        """Write the exact integer weights; they are checked against every bound on the way."""
        rng = np.random.default_rng(self.recipe.seed)
        count = int(self.recipe.batches["sequences"])
        model = EntropyModel(self.config)
        model.load_state_dict(self.model.state_dict())
        if not self._is_fitted():
            share_kind(model, Scenario.ADAPTED, Scenario.TEXT_CONDITIONED)
        batches = [
            collate(self.corpus.examples(count, rng), self.config)
            for _ in range(int(self.recipe.data["calibration"]))
        ]
        path: Path = self.args.export or self.args.out / EXPORT_NAME
        save(quantise(model, batches), path)
        logger.info("exported %s", json.dumps({"file": path.name, "bytes": path.stat().st_size}))
        return path

    def _is_fitted(self) -> bool:
        """Whether the targets of `adapted` have a kind row of their own."""
        fits = bool(self.corpus.generated.pictures) or self.args.scenario == "adapted"
        return self.fitted or fits

    def _start(self, path: Path) -> None:
        _, states = load_checkpoint(path, self.args.device)
        self.model.load_state_dict(states["model"])
        self.fitted = states["adapted"]
        if not self.fitted:
            share_kind(self.model, Scenario.ADAPTED, Scenario.TEXT_CONDITIONED)

    def _resume(self) -> None:
        self.progress, states = load_checkpoint(self.args.out / CHECKPOINT, self.args.device)
        self.model.load_state_dict(states["model"])
        self.optimisers.load(states["optimisers"])
        self.fitted = states["adapted"]


def share_kind(model: EntropyModel, target: Scenario, source: Scenario) -> None:
    """Give the targets of one scenario the kind row of another."""
    rows = model.kind.weight.data
    rows[KIND_TARGET + target - 1] = rows[KIND_TARGET + source - 1]


def kinds_are_shared(model: EntropyModel, target: Scenario, source: Scenario) -> bool:
    """Whether the targets of two scenarios have the same kind row."""
    rows = model.kind.weight.data
    return torch.equal(rows[KIND_TARGET + target - 1], rows[KIND_TARGET + source - 1])


def _optimisers(model: EntropyModel, rates: dict[str, float], factor: float) -> Optimisers:
    inner = [*model.blocks.parameters(), model.join.weight, model.low_in.weight]
    matrix, table = rates["matrix_rate"] * factor, rates["table_rate"] * factor
    return Optimisers(model.parameters(), inner, Rates(matrix, rates["weight_decay"], table, 0.0))
