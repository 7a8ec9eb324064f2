"""Recipe: trains the built-in unified transformer on tokenised scenes and exports it.

Knows the schedule, the optimisers and the files; batches come from `backbone_data`, the network
from `backbone_model`, scores from `backbone_eval`. The same command makes the shipped weights on a
CPU or a GPU: device, precision and length are flags. Run it through
`cloud-server train backbone --tokens DIR --text-tokenizer FILE --out DIR --minutes 70`.
"""

from __future__ import annotations

import argparse
import logging
from collections import defaultdict
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cloud_server.generation.backbone.checkpoint import (
    BackboneCard,
    load_builtin_backbone,
    save_builtin_backbone,
)
from cloud_server.generation.backbone.showo import ShowoConfig
from cloud_server.generation.engine import Engine, EngineOptions
from cloud_server.generation.prompting import QuestionFrame
from cloud_server.training.recipes.backbone.batch import Batch
from cloud_server.training.recipes.backbone.batch_maker import BatchMaker
from cloud_server.training.recipes.backbone.batch_source import HELD_OUT_SCENES, BatchSource
from cloud_server.training.recipes.backbone.batch_workers import BatchWorkers, Source
from cloud_server.training.recipes.backbone.data_config import DataConfig
from cloud_server.training.recipes.backbone.network import TrainedBackbone
from cloud_server.training.recipes.backbone.schedule import Averages, probe_share, rate_factor
from cloud_server.training.recipes.backbone.scores import (
    PrototypeDetector,
    answer_accuracy,
    contact_sheet,
    draw_prompts,
    held_out_losses,
)
from cloud_server.training.recipes.backbone.starting_weights import start_from
from cloud_server.training.recipes.backbone.word_coder import WordCoder
from cloud_server.training.recipes.optimisers import Optimisers, Rates
from cloud_server.training.recipes.run_loop import Chore, Length, run_to_the_end
from cloud_server.training.recipes.runs import (
    CHECKPOINT,
    SMOKE_STEPS,
    Progress,
    add_run_arguments,
    autocast,
    load_checkpoint,
    read_recipe,
    save_checkpoint,
)
from cloud_server.training.scenes.world import World
from cloud_server.training.tokens.easy_vqa import load as load_easy_vqa
from cloud_server.training.tokens.kept_pictures import load_kept
from cloud_server.training.tokens.scene_tokens import TokenisedScene, TokenShards
from shared_protocol.errors import ConfigError
from shared_protocol.tokenizers.compact import load_compact
from shared_protocol.vocabulary import Vocabulary

logger = logging.getLogger(__name__)

DEFAULT_CONFIG = Path(__file__).parents[2] / "configs" / "backbone.toml"
SCORED_SCENES = 80
SHEET_SCENES = 8
LOG_EVERY = 25
SIDE = 16
BATCH_KINDS = ("t2i", "mmu", "t2i_window", "mmu_window", "easy_vqa", "kept")
CODES = 8192


@dataclass(frozen=True)
class BackboneRecipe:
    """Everything that shapes the result, as in configs/backbone.toml."""

    seed: int
    network: dict[str, int]
    optimiser: dict[str, float]
    batches: dict[str, float]
    data: dict[str, Any]

    @classmethod
    def load(cls, path: Path | None = None) -> BackboneRecipe:
        """Reads a TOML file; without `path`, the shipped recipe."""
        return read_recipe(cls, path or DEFAULT_CONFIG)

    def architecture(self, vocabulary: Vocabulary) -> ShowoConfig:
        names = (
            "hidden_size", "intermediate_size", "layers", "heads", "max_positions", "stem_width"
        )  # fmt: skip
        return ShowoConfig(
            vocab_size=vocabulary.size,
            stem_codes=vocabulary.codebook_size,
            stem_side=SIDE,
            **{name: self.network[name] for name in names},
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags of this recipe."""
    parser.add_argument("--tokens", type=Path, required=True, help="folder of train_*.npy + .jsonl")
    parser.add_argument("--text-tokenizer", type=Path, required=True, help="tokenizer JSON file")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints and sheets")
    parser.add_argument("--image-tokenizer", type=Path, help="weights that draw the sample sheets")
    parser.add_argument("--easy-vqa", type=Path, help="folder of `train easy-vqa`")
    parser.add_argument("--kept-pictures", type=Path, help="folder of `train kept-pictures`")
    parser.add_argument("--export", type=Path, help="folder for the compact weights")
    parser.add_argument(
        "--start-from", type=Path, help="folder of compact weights to go on from, not from chance"
    )
    add_run_arguments(parser, minutes=70.0)
    parser.add_argument("--evaluate-minutes", type=float, default=10.0)
    parser.add_argument("--checkpoint-minutes", type=float, default=4.0)
    parser.add_argument(
        "--workers", type=int, default=0, help="processes that make batches ahead [0]"
    )
    parser.add_argument("--config", type=Path, help="another backbone.toml")
    parser.add_argument("--world", type=Path, help="another world.toml")


def run(args: argparse.Namespace) -> int:
    """Trains, evaluates and exports; returns the process's exit status."""
    if args.threads:
        torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    recipe = BackboneRecipe.load(args.config)
    if args.seed is not None:
        recipe = replace(recipe, seed=args.seed)
    if args.smoke:
        tiny = {**recipe.batches, **dict.fromkeys(BATCH_KINDS, 1)}
        recipe, args.steps = replace(recipe, batches=tiny), SMOKE_STEPS
    BackboneTrainer(recipe, args).train()
    return 0


@dataclass(frozen=True)
class Inputs:
    """The files that batches are made of; small, so that it can be sent to a worker process."""

    tokens: Path
    text_tokenizer: Path
    easy_vqa: Path | None
    kept_pictures: Path | None
    world: Path | None

    @classmethod
    def of(cls, args: argparse.Namespace) -> Inputs:
        """Those that the flags name."""
        return cls(*(getattr(args, name) for name in cls.__dataclass_fields__))


def source_of(recipe: BackboneRecipe, inputs: Inputs) -> BatchSource:
    """What makes the batches of this recipe from these files."""
    coder = WordCoder(inputs.text_tokenizer)
    maker = BatchMaker(
        DataConfig(**recipe.data),
        Vocabulary(coder.size, CODES),
        coder,
        World.load(inputs.world),
        SIDE,
        recipe.network["max_text_len"],
    )
    return BatchSource(
        maker,
        TokenShards(inputs.tokens),
        recipe.batches,
        recipe.seed,
        questioned=load_easy_vqa(inputs.easy_vqa) if inputs.easy_vqa else [],
        kept=load_kept(inputs.kept_pictures) if inputs.kept_pictures else [],
    )


class BackboneTrainer:
    """One run of the recipe."""

    def __init__(self, recipe: BackboneRecipe, args: argparse.Namespace) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.args, self.progress = recipe, args, Progress()
        inputs = Inputs.of(args)
        source = source_of(recipe, inputs)
        self.maker, self.shards = source.maker, source.shards
        self.coder, self.world = self.maker.coder, self.maker.world
        self.vocabulary = self.maker.vocabulary
        if not len(self.shards):
            raise ConfigError(
                f"no shards of scenes in {args.tokens}",
                f"make some: cloud-server train token-cache --out {args.tokens}",
            )
        self.source: Source = source
        self.workers = None
        if args.workers:
            self.workers = BatchWorkers(args.workers, partial(source_of, recipe, inputs))
            self.source = self.workers
        self.net = TrainedBackbone(
            recipe.architecture(self.vocabulary),
            self.vocabulary,
            self.maker.probe_classes,
            recipe.network["probe_layer"],
        ).to(args.device)
        if args.start_from:
            start_from(self.net, self._card(), args.start_from)
        rates, decay = recipe.optimiser, recipe.optimiser["weight_decay"]
        self.optimisers = Optimisers(
            self.net.parameters(),
            self.net.inner.parameters(),
            Rates(rates["matrix_rate"], decay, rates["table_rate"], decay),
        )
        self.averages = Averages(self.net, recipe.optimiser["ema"])
        self.sums: dict[str, list[Tensor]] = defaultdict(list)
        if args.resume and (args.out / CHECKPOINT).is_file():
            self._resume()

    # -- the loop -------------------------------------------------------------------------------

    def train(self) -> None:
        """Run to the planned length."""
        args = self.args
        if args.start_from and not (self.progress.step or args.smoke):
            self._report_scores()
        chores = [
            Chore(args.checkpoint_minutes, self._checkpoint),
            Chore(args.evaluate_minutes, self._look),
        ]
        try:
            run_to_the_end(
                self.progress,
                Length(args.steps, args.minutes),
                self.advance,
                self._log,
                log_every=1 if args.smoke else LOG_EVERY,
                chores=[] if args.smoke else chores,
            )
        finally:
            self.close()
        self._checkpoint()
        if not args.smoke:
            self._report()
        if args.export:
            self.export(args.export)

    def _look(self) -> None:
        self._checkpoint()
        self._report()

    def close(self) -> None:
        """End the worker processes, if there are any."""
        if self.workers is not None:
            self.workers.close()

    def advance(self, share: float) -> None:
        """One update, at a share of the run: the gradients of every kind of batch, together."""
        self.net.probe_share = probe_share(share, self.recipe.optimiser)
        batches = self.source.batches(self.progress.step, share)
        # All at once: a copy waits for what the GPU was told before it.
        for name, batch in [(name, batch.to(self.args.device)) for name, batch in batches]:
            self._accumulate(name, batch)
        nn.utils.clip_grad_norm_(self.net.parameters(), self.recipe.optimiser["clip_norm"])
        self.optimisers.step(rate_factor(share, self.recipe.optimiser))
        self.averages.update(self.net, self.progress.step)

    def _accumulate(self, name: str, batch: Batch) -> None:
        rates = self.recipe.optimiser
        with autocast(self.args.device, self.args.precision):
            each, hits, probe = self.net.losses(batch)
        loss = (each * batch.weights).sum() / batch.weights.sum().clamp(min=1)
        scale = rates["t2i_weight" if name.startswith("t2i") else "mmu_weight"]
        total = scale * loss + rates["probe_weight"] * probe
        total.backward()  # type: ignore[no-untyped-call]
        # Numbers are read when they are logged: to read one is to wait for the GPU.
        self.sums[name].append(loss.detach())
        self.sums[f"{name}_right"].append(hits.float().mean())
        self.sums[f"{name}_probe"].append(probe.detach())
        self.sums[f"{name}_links"].append(self.net.link_loss)

    def _log(self, share: float) -> None:
        means = {
            name: round(torch.stack(values).mean().item(), 3) for name, values in self.sums.items()
        }
        self.sums.clear()
        logger.info(
            "step %d, %.0f s, share %.3f, scenes %d: %s",
            self.progress.step, self.progress.seconds, share, len(self.shards), means,
        )  # fmt: skip

    # -- files ----------------------------------------------------------------------------------

    def _checkpoint(self) -> None:
        save_checkpoint(
            self.args.out / CHECKPOINT,
            self.progress,
            net=self.net.state_dict(),
            averages=self.averages.values,
            optimisers=self.optimisers.state(),
        )

    def _resume(self) -> None:
        self.progress, states = load_checkpoint(self.args.out / CHECKPOINT, self.args.device)
        self.net.load_state_dict(states["net"])
        self.averages.values = states["averages"]
        self.optimisers.load(states["optimisers"])

    def averaged(self) -> TrainedBackbone:
        """A copy of the network with the averaged weights."""
        net = TrainedBackbone(
            self.recipe.architecture(self.vocabulary),
            self.vocabulary,
            self.maker.probe_classes,
            self.recipe.network["probe_layer"],
        )
        net.load_state_dict(self.averages.values, strict=False)
        return net.to(self.args.device).eval()

    def export(self, folder: Path) -> list[Path]:
        """Write the averaged weights in compact form."""
        state = {name: value.cpu() for name, value in self.averaged().plain_state().items()}
        return save_builtin_backbone(state, self._card(), folder)

    def _card(self) -> BackboneCard:
        return BackboneCard(
            self.recipe.architecture(self.vocabulary),
            self.vocabulary.text_size,
            self.vocabulary.codebook_size,
            SIDE,
            self.maker.max_text_len,
            self.net.pointing,
        )

    # -- scores ---------------------------------------------------------------------------------

    def _held_out(self) -> list[TokenisedScene]:
        """Scenes of the test split if the folder has any, else training scenes never trained on."""
        test = TokenShards(self.args.tokens, "test_*.npy")
        source = test if len(test) else self.shards
        return [source[index] for index in range(min(HELD_OUT_SCENES, len(source)))]

    def _report(self) -> None:
        """Log scores of the averaged weights and draw a sheet of prompts."""
        self._report_scores()
        self._report_pictures(self._held_out()[:SHEET_SCENES])

    def _report_scores(self) -> None:
        scored, net = self._held_out()[:SCORED_SCENES], self.averaged()
        for what, score in (("losses", held_out_losses), ("answers", answer_accuracy)):
            scores = score(net, self.maker, scored, self.args.precision)
            logger.info("%s: %s", what, {kind: round(value, 3) for kind, value in scores.items()})

    def _report_pictures(self, items: list[TokenisedScene]) -> None:
        folder = self.args.out / "export"
        self.export(folder)
        engine = engine_of(folder, self.coder, self.args.device)
        drawn = draw_prompts(engine, self.coder, [item.scene for item in items])
        known = [self.shards[i] for i in range(min(4000, len(self.shards)))]
        detector = PrototypeDetector(self.world, known)
        found = [
            hit
            for item, (_, codes) in zip(items, drawn, strict=True)
            for hit in detector.present(codes, item.scene)
        ]
        logger.info("pictures: objects drawn %.3f of %d", float(np.mean(found)), len(found))
        for number, (prompt, _) in enumerate(drawn):
            logger.info("  %d: %s", number, prompt)
        if self.args.image_tokenizer and self.args.image_tokenizer.is_file():
            codes = torch.from_numpy(np.stack([grid for _, grid in drawn]))
            pixels: Tensor = load_compact(self.args.image_tokenizer).decode_codes(codes)
            contact_sheet(pixels, self.args.out / f"sheet_{self.progress.step:06d}.png")


def engine_of(folder: Path, coder: WordCoder, device: str = "cpu") -> Engine:
    """An engine over compact weights."""
    loaded = load_builtin_backbone(folder, device=device)
    options = EngineOptions(
        eot_id=coder.eot_id,
        frame=QuestionFrame(tuple(coder.before), tuple(coder.after)),
        side=loaded.card.side,
        max_text_len=loaded.card.max_text_len,
    )
    return Engine(loaded.backbone, loaded.card.vocabulary, options)
