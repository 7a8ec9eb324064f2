"""Phase 2 of the paper: the image tokenizer and the neck trained together (settings d2 and d3).

It does not know how a neck is trained alone. The quantiser's signs let gradients straight through;
the rate is that of `BitPrior`. With R in bits a pixel and pictures in 0..1::

    joint    (d2)  R + lambda (60 MSE + distillation)     encoder, decoder, neck
    machine  (d3)  R + lambda distillation                encoder, neck

A new tokenizer has a new fingerprint: what was trained on the old one's tokens (backbone, entropy
models) does not understand the new ones, so that its bundle serves classifying and storing alone.
"""

from __future__ import annotations

import argparse
import logging
import shutil
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cloud_server.necks.encoders import Encoder
from cloud_server.necks.neck_file import NECK, NeckFile, read_neck_file
from cloud_server.necks.networks import build_neck
from cloud_server.necks.surrogate import distillation
from cloud_server.training.recipes.neck.bit_prior import BitPrior
from cloud_server.training.recipes.neck.examples import Example, Pool, fill_pool, to_pixels
from cloud_server.training.recipes.neck.neck_training import (
    EXPORT_NAME,
    JOINT,
    KEEP_MINUTES,
    NeckRecipe,
    open_tokenizer,
    rate_at,
    save_neck,
    sources_of,
)
from cloud_server.training.recipes.neck.students import NeckStudent
from cloud_server.training.recipes.run_loop import Chore, Length, run_to_the_end
from cloud_server.training.recipes.runs import (
    CHECKPOINT,
    Progress,
    load_checkpoint,
    save_checkpoint,
)
from shared_protocol.bundles.bundle import Bundle
from shared_protocol.bundles.manifest import read_manifest, write_manifest
from shared_protocol.errors import CheckpointError, ConfigError
from shared_protocol.tokenizers.compact import CompactTokenizer, save_compact
from shared_protocol.tokenizers.lfq import quantize

logger = logging.getLogger(__name__)

GAMMA, DELTA = 60.0, 1.0
"""Weights of the picture's error and of distillation in d2, as in the paper."""
SLOWER = 0.1
"""The tokenizer's learning rate over the neck's."""
BATCH = 8
LOG_EVERY = 20
BUNDLE = "bundle"
TOKENIZER = "image_tokenizer.safetensors"


def update_codec(
    recipe: NeckRecipe, args: argparse.Namespace, bundle: Bundle, encoder: Encoder
) -> Path:
    """Train tokenizer and neck together; returns the folder of the new bundle.

    Raises:
        ConfigError: no neck to start from, or a trade-off that is no positive number.
        CheckpointError: the neck is of another tokenizer or encoder.
    """
    if args.start is None:
        raise ConfigError(
            f"--update-codec {args.update_codec} goes on from a trained neck",
            "train one first, then name it: --start FILE",
        )
    if not args.trade_off > 0:
        raise ConfigError(f"--trade-off {args.trade_off}", "use a number above 0")
    start = neck_to_start_from(args.start, bundle, encoder)
    pool = fill_pool(sources_of(args, bundle, pictures=True), encoder)
    trainer = CodecTrainer(recipe, args, encoder, start, open_tokenizer(bundle))
    trainer.train(pool)
    return trainer.export(bundle)


def neck_to_start_from(path: Path, bundle: Bundle, encoder: Encoder) -> NeckFile:
    """The neck of phase 1.

    Raises:
        CheckpointError: it is of another tokenizer or encoder.
    """
    start = read_neck_file(path)
    wanted = (bundle.tokenizer_fingerprint.hex(), encoder.name)
    if (start.tokenizer, start.encoder) != wanted:
        raise CheckpointError(
            f"the neck {path} leads from the tokenizer {start.tokenizer[:16]}… into "
            f"{start.encoder}, not from {wanted[0][:16]}… into {wanted[1]}",
            "start from a neck of the same bundle and encoder",
        )
    return start


@dataclass
class Parts:
    """What is trained."""

    tokenizer: CompactTokenizer
    neck: nn.Module
    prior: BitPrior

    def states(self) -> dict[str, Any]:
        """State dicts, by name."""
        return {name: getattr(self, name).state_dict() for name in self.__dataclass_fields__}

    def load(self, states: dict[str, Any]) -> None:
        """Go on from `states`."""
        for name in self.__dataclass_fields__:
            getattr(self, name).load_state_dict(states[name])


class CodecTrainer:
    """One run of phase 2."""

    def __init__(
        self,
        recipe: NeckRecipe,
        args: argparse.Namespace,
        encoder: Encoder,
        start: NeckFile,
        tokenizer: CompactTokenizer,
    ) -> None:
        self.recipe, self.args, self.encoder = recipe, args, encoder
        self.start, self.progress = start, Progress()
        torch.manual_seed(recipe.seed)
        neck = build_neck(start.sizes)
        neck.load_state_dict(start.part(NECK))
        self.parts = Parts(
            tokenizer.to(args.device).requires_grad_(True),
            neck.to(args.device).eval(),  # its norms keep what phase 1 measured
            BitPrior(start.sizes.bits).to(args.device),
        )
        if not self.for_people:
            self.parts.tokenizer.decoder.requires_grad_(False)
        self._student = NeckStudent(neck, encoder, start.sizes.bits)
        self._groups = [
            (SLOWER, [p for p in self.parts.tokenizer.parameters() if p.requires_grad]),
            (1.0, [*neck.parameters(), *self.parts.prior.parameters()]),
        ]
        self._optimiser = torch.optim.Adam([{"params": some} for _, some in self._groups])
        self._losses: dict[str, float] = {}
        if args.resume and self.checkpoint.exists():
            self.progress, states = load_checkpoint(self.checkpoint, args.device)
            self._optimiser.load_state_dict(states.pop("optimiser"))
            self.parts.load(states)

    @property
    def for_people(self) -> bool:
        """Setting d2: pictures are to stay good."""
        return bool(self.args.update_codec == JOINT)

    @property
    def checkpoint(self) -> Path:
        """The file that --resume reads."""
        return Path(self.args.out) / CHECKPOINT

    def train(self, pool: Pool) -> None:
        """Steps until the planned length is reached."""
        run_to_the_end(
            self.progress,
            Length(self.args.steps, self.args.minutes),
            lambda share: self.advance(pool, share),
            lambda share: logger.info("step %d %s", self.progress.step, self._losses),
            log_every=LOG_EVERY,
            chores=[Chore(KEEP_MINUTES, self.keep)],
        )
        self.keep()

    def keep(self) -> None:
        """Write the checkpoint."""
        states = {**self.parts.states(), "optimiser": self._optimiser.state_dict()}
        save_checkpoint(self.checkpoint, self.progress, **states)

    def advance(self, pool: Pool, share: float) -> None:
        """One update, at a share of the run."""
        for group, (factor, _) in zip(self._optimiser.param_groups, self._groups, strict=True):
            group["lr"] = factor * rate_at(share, self.recipe)
        size = min(BATCH, self.recipe.batch)
        batch = pool.batch(self.progress.step, size, self.recipe.seed, self.args.device)
        loss = self.loss(batch)
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(chain(*(some for _, some in self._groups)), self.recipe.clip_norm)
        self._optimiser.step()

    def loss(self, batch: Example) -> Tensor:
        """R + lambda (gamma MSE + delta distillation), or R + lambda distillation."""
        assert batch.pictures is not None, "phase 2 keeps its pictures"
        pixels = to_pixels(batch.pictures).to(self.args.device)
        values = quantize(self.parts.tokenizer.encoder(pixels))
        rate = self.parts.prior(values) * values.shape[2] * values.shape[3] / pixels[0, 0].numel()
        distance = distillation(self._student.features_of_values(values), batch.wanted)
        distortion = DELTA * distance
        told = {"bpp": rate, "distance": distance}
        if self.for_people:
            error = F.mse_loss(self.parts.tokenizer.decoder(values), pixels) / 4  # of 0..1
            distortion = distortion + GAMMA * error
            told["mse"] = error
        self._losses = {name: round(value.item(), 5) for name, value in told.items()}
        total: Tensor = rate + self.args.trade_off * distortion
        return total

    def export(self, bundle: Bundle) -> Path:
        """Write the new tokenizer in a bundle of its own, and its neck; returns the folder."""
        out: Path = self.args.out
        folder = out / BUNDLE
        folder.mkdir(parents=True, exist_ok=True)
        setting = self.args.update_codec
        notes = {"recipe": f"{bundle.name}, updated: {setting}, {self.progress.step} steps"}
        write_bundle(bundle, self.parts.tokenizer, folder, setting, notes)
        fingerprint = read_manifest(folder).tokenizer_fingerprint.hex()
        path = self.args.export or out / EXPORT_NAME
        save_neck(path, self.parts.neck, self.start.sizes, self.encoder, fingerprint, notes)
        logger.info("wrote %s and %s", folder, path)
        return folder


def write_bundle(
    bundle: Bundle, tokenizer: CompactTokenizer, folder: Path, setting: str, notes: dict[str, str]
) -> None:
    """The bundle with another image tokenizer, in a folder of its own, without a backbone."""
    content = bundle.manifest.content()
    content.pop("sha256")
    typing = dict(content.get("typing", {}))
    typing.pop("sha256", None)
    names = {**content["files"], "image_tokenizer": TOKENIZER}
    for role, name in names.items():
        if role != "image_tokenizer":
            shutil.copyfile(bundle.path(role), folder / name)
    if typing.get("world"):
        shutil.copyfile(bundle.file(typing["world"]), folder / typing["world"])
    save_compact(tokenizer, folder / TOKENIZER, notes)
    name = f"{bundle.name}-{setting}"
    write_manifest(folder, {**content, "name": name, "files": names, "typing": typing})
