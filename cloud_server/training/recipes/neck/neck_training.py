"""Phase 1 of the paper: a neck is trained, and the image tokenizer stays as it is (setting d1).

The encoder does, too, and the model behind the encoder takes no part. `recipe` has the flags.
"""

from __future__ import annotations

import argparse
import logging
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from cloud_server.necks.encoders import Encoder
from cloud_server.necks.neck_file import NECK, NeckFile, write_neck_file
from cloud_server.necks.networks import NeckSizes, build_neck
from cloud_server.necks.surrogate import Schedule, distillation, surrogate
from cloud_server.training.recipes.neck.encoder_choice import carried
from cloud_server.training.recipes.neck.examples import Example, Pool, Sources
from cloud_server.training.recipes.neck.students import NeckStudent, PostStudent, Student, UNet
from cloud_server.training.recipes.run_loop import Chore, Length, run_to_the_end
from cloud_server.training.recipes.runs import (
    CHECKPOINT,
    Progress,
    autocast,
    load_checkpoint,
    save_checkpoint,
)
from shared_protocol.bundles.bundle import Bundle
from shared_protocol.errors import ConfigError
from shared_protocol.tokenizers.compact import CompactTokenizer, load_compact

logger = logging.getLogger(__name__)

EXPORT_NAME, POST_NAME = "neck.safetensors", "post_processing.pt"
NONE, JOINT = "none", "joint"
UPDATES = (NONE, JOINT, "machine")
"""Settings d1, d2 and d3 of the paper."""
LOG_EVERY, KEEP_MINUTES = 50, 2.0


@dataclass(frozen=True)
class NeckRecipe:
    """Everything that shapes the result, as in configs/neck.toml."""

    seed: int
    batch: int
    learning_rate: float
    warm_up_share: float
    clip_norm: float
    first_share: float
    second_share: float
    blocks: int
    heads: int


def open_tokenizer(bundle: Bundle) -> CompactTokenizer:
    """The bundle's image tokenizer, for training.

    Raises:
        ConfigError: it is of another kind than the built-in bundle's.
    """
    if bundle.manifest.image_tokenizer != "compact":
        raise ConfigError(
            f"the image tokenizer of {bundle.name} is a {bundle.manifest.image_tokenizer}",
            "decoders are measured and trained of compact tokenizers alone; a neck can be trained",
        )
    return load_compact(bundle.path("image_tokenizer"))


def sources_of(args: argparse.Namespace, bundle: Bundle, pictures: bool = False) -> Sources:
    """Where the flags say that examples come from."""
    return Sources(
        args.images,
        args.examples,
        bundle.image_tokenizer(),
        bundle.manifest.digest("image_tokenizer") or "",
        cache=args.cache,
        world=args.world,
        keep_pictures=pictures,
    )


class NeckTrainer:
    """One run of phase 1: network, optimiser, clock."""

    def __init__(
        self, recipe: NeckRecipe, args: argparse.Namespace, bundle: Bundle, encoder: Encoder
    ) -> None:
        self.recipe, self.args, self.progress = recipe, args, Progress()
        self._bundle, self._encoder = bundle, encoder
        torch.manual_seed(recipe.seed)
        self.sizes = sizes_for(encoder, recipe, bundle)
        self.student = self._student()
        self.student.network.to(args.device)
        self.schedule = Schedule(args.objective, recipe.first_share, recipe.second_share)
        check_labels_for(self.schedule, encoder)
        self._optimiser = torch.optim.Adam(self.student.network.parameters())
        self._losses: dict[str, float] = {}
        if args.resume and self.checkpoint.exists():
            self.progress, states = load_checkpoint(self.checkpoint, args.device)
            self.student.network.load_state_dict(states["network"])
            self._optimiser.load_state_dict(states["optimiser"])

    def _student(self) -> Student:
        if self.args.post_processing:
            return PostStudent(UNet(), self._encoder, open_tokenizer(self._bundle))
        return NeckStudent(build_neck(self.sizes), self._encoder, self.sizes.bits)

    @property
    def checkpoint(self) -> Path:
        """The file that --resume reads."""
        return Path(self.args.out) / CHECKPOINT

    def train(self, pool: Pool) -> Student:
        """Steps until the planned length is reached; writes what was trained."""
        args = self.args
        self.student.network.train()
        run_to_the_end(
            self.progress,
            Length(args.steps, args.minutes),
            lambda share: self.advance(pool, share),
            lambda share: logger.info(
                "step %d share %.3f %s", self.progress.step, share, self._losses
            ),
            log_every=LOG_EVERY,
            chores=[Chore(KEEP_MINUTES, self.keep)],
        )
        self.keep()
        self.export()
        return self.student

    def advance(self, pool: Pool, share: float) -> None:
        """One update, at a share of the run."""
        for group in self._optimiser.param_groups:
            group["lr"] = rate_at(share, self.recipe)
        args = self.args
        batch = pool.batch(self.progress.step, self.recipe.batch, self.recipe.seed, args.device)
        with autocast(args.device, args.precision):
            features = self.student.features(batch.codes)
        loss = self._loss(features.float(), batch, share)
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.student.network.parameters(), self.recipe.clip_norm)
        self._optimiser.step()

    def _loss(self, features: Tensor, batch: Example, share: float) -> Tensor:
        weights = self.schedule.weights(share)
        scores = self._encoder.scores(features) if weights[0] else None
        distance = distillation(features, batch.wanted)
        loss = surrogate(weights, scores, batch.truth, distance)
        self._losses = {"loss": round(loss.item(), 4), "distance": round(distance.item(), 5)}
        return loss

    def keep(self) -> None:
        """Write the checkpoint."""
        states = {
            "network": self.student.network.state_dict(),
            "optimiser": self._optimiser.state_dict(),
        }
        save_checkpoint(self.checkpoint, self.progress, **states)

    def export(self) -> None:
        """Write the neck's file, or the baseline's weights."""
        self.student.network.eval()
        if self.args.post_processing:
            torch.save(self.student.network.state_dict(), self.args.out / POST_NAME)
            return
        path = self.args.export or self.args.out / EXPORT_NAME
        notes = {
            "recipe": f"{self.args.objective}, {self.progress.step} steps of {self.recipe.batch}, "
            f"seed {self.recipe.seed}"
        }
        fingerprint = self._bundle.tokenizer_fingerprint.hex()
        save_neck(path, self.student.network, self.sizes, self._encoder, fingerprint, notes)
        logger.info("wrote %s", path)


def save_neck(
    path: Path,
    neck: nn.Module,
    sizes: NeckSizes,
    encoder: Encoder,
    tokenizer: str,
    notes: dict[str, str],
) -> None:
    """Write a neck with what its encoder gives along."""
    entry = int(getattr(encoder, "entry", 0))
    tensors = {f"{NECK}{name}": tensor for name, tensor in neck.state_dict().items()}
    tensors |= carried(encoder)
    write_neck_file(
        path, NeckFile(sizes, tokenizer, encoder.name, entry, encoder.labels, tensors, notes)
    )


def sizes_for(encoder: Encoder, recipe: NeckRecipe, bundle: Bundle) -> NeckSizes:
    """The neck that suits an encoder and a bundle's codes."""
    bits = int(math.log2(bundle.vocabulary.codebook_size))
    width = encoder.middle_width
    heads = math.gcd(recipe.heads, width) if encoder.neck_kind == "vit" else 1
    return NeckSizes(encoder.neck_kind, width, encoder.middle_side, recipe.blocks, heads, bits)


def check_labels_for(schedule: Schedule, encoder: Encoder) -> None:
    """Raise `ConfigError` where a loss needs labels that the encoder has not."""
    stages = [schedule.weights(share / 10) for share in range(11)]
    if not encoder.labels and any(cross for cross, _ in stages):
        raise ConfigError(
            f"the objective {schedule.objective!r} needs labels, this encoder has none",
            "name them with --labels, or train with --objective distillation",
        )


def rate_at(share: float, recipe: NeckRecipe) -> float:
    """Linear warm-up, then a cosine to zero at the end of the planned length."""
    if share < recipe.warm_up_share:
        return recipe.learning_rate * (share / recipe.warm_up_share + 0.01)
    rest = (share - recipe.warm_up_share) / (1 - recipe.warm_up_share)
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * min(rest, 1.0)))
