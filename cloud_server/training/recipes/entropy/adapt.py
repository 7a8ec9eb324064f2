"""Gives the `adapted` scenario a row of its own in exported weights, fitted to generated pictures.

It does not know how the weights were trained. In the shared network a scenario is the kind of its
target entries; this fits the one row of the kind table that stands for `adapted` and writes every
other integer as it was, so that all other scenarios stay the same to the bit::

    FILE ─► float network ─ all but one row frozen ─► row ─► rounded ─┐
    FILE ─────────────────────────────────────────── integers ────────┴─► OUT/entropy.safetensors

Every tenth training picture is kept back and decides which step's row is taken; if none is better
than the row that came, that row stays. Pictures named test_* are only measured.
It is `cloud-server train entropy --adapt-from FILE`, see `recipe`.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from cloud_server.training.recipes.entropy.float_again import float_again, residual_unit
from cloud_server.training.recipes.entropy.sequences import Example, Pool, Sampler, collate
from cloud_server.training.recipes.entropy.trainer import EXPORT_NAME, LOG_EVERY, asked_recipe
from cloud_server.training.recipes.runs import SMOKE_STEPS, autocast
from shared_protocol.entropy.checkpoint import load, save
from shared_protocol.entropy.coder import EntropyModels
from shared_protocol.entropy.config import KIND_TARGET, RESIDUAL_MAX
from shared_protocol.entropy.weights import ExactWeights
from shared_protocol.errors import ConfigError
from shared_protocol.selfcheck.recorded_digests import write_digests
from shared_protocol.tasks import Scenario
from shared_protocol.tokenizers.text import TextTokenizer

logger = logging.getLogger(__name__)

OWN_ROW = KIND_TARGET + Scenario.ADAPTED - 1
REPORT_NAME = "adapted.json"
KEPT_BACK_EVERY = 10
RATE = 0.02
"""Of Adam, for numbers whose root mean square is about 0.3; falls to zero over the run."""
LOOKS = 12
"""How often the kept back pictures are coded; each look costs about as much as ten steps."""
WAYS_BY_TASK = {"t2i": "text", "inpaint": "text_inside"}


def run(args: argparse.Namespace) -> int:
    """Fit the row, write the weights, their digests and a report; the process's exit status.

    Raises:
        ConfigError: no generated pictures to fit to.
        CheckpointError: --adapt-from is no exported file.
    """
    weights = load(args.adapt_from)
    pool = Pool(args.generated_tokens, scenario=Scenario.ADAPTED)
    if args.generated_tokens is None or pool.refresh() < 2:
        raise ConfigError(
            "there are no generated pictures to fit to",
            "make some with 'cloud-server train generated-tokens' and name --generated-tokens",
        )
    began = time.monotonic()
    found = with_row(weights, _Fit(weights, pool, args).row())
    path: Path = args.export or args.out / EXPORT_NAME
    save(found, path)
    models = EntropyModels.load(dict.fromkeys((*Scenario,)[1:], path))
    write_digests(models, path.parent)
    report = {
        "training pictures": len(pool.pictures),
        "minutes": round((time.monotonic() - began) / 60, 1),
        "bits a token of test pictures": measure(models, args),
    }
    (path.parent / REPORT_NAME).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    logger.info("%s", json.dumps(report))
    return 0


def with_row(weights: ExactWeights, row: np.ndarray) -> ExactWeights:
    """The same weights with another row for the targets of `adapted`.

    Args:
        weights: not changed.
        row: (D,) int16, within the residual stream's range.
    """
    kind = weights["kind"].copy()
    kind[OWN_ROW] = row
    return ExactWeights(weights.config, {**weights.arrays, "kind": kind})


def measure(models: EntropyModels, args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Bits a token of the held-out generated pictures by the exact models, each task apart.

    Returns:
        Task to "pictures", "tokens" and the bits a token of `adapted`, `text_conditioned` and
        `generic`; tasks without pictures are left out.
    """
    pool = Pool(args.generated_tokens, "test_*.npy", Scenario.ADAPTED)
    pool.refresh()
    sampler = _sampler(args, {"text": 1.0})
    found = {}
    for task, way in WAYS_BY_TASK.items():
        shown = [each for each in pool.pictures if (each.targets is None) == (task == "t2i")]
        rng = np.random.default_rng(0)
        examples = [sampler.draw(picture, rng, way) for picture in shown]
        if not examples:
            continue
        tokens = sum(len(example.codes) for example in examples)
        rates: dict[str, float] = {"pictures": len(examples), "tokens": tokens}
        for scenario in (Scenario.ADAPTED, Scenario.TEXT_CONDITIONED, Scenario.GENERIC):
            bits = [models.code_length(scenario, e.codes, e.context) for e in examples]
            rates[scenario.slug] = round(sum(bits) / tokens, 4)
        found[task] = rates
    return found


def _sampler(args: argparse.Namespace, shares: dict[str, float]) -> Sampler:
    """Whole pictures in place, since that is how a backbone's pictures travel."""
    tokenizer = TextTokenizer.load(args.text_tokenizer) if args.text_tokenizer else None
    return Sampler(tokenizer, shares, {"window_share": 0.0, "offset_share": 0.0}, 0)


class _Fit:
    """One run over the generated pictures."""

    def __init__(self, weights: ExactWeights, pool: Pool, args: argparse.Namespace) -> None:
        recipe = asked_recipe(args).narrowed("adapted")
        self.weights, self.args = weights, args
        self.seed, self.size = recipe.seed, int(recipe.batches["sequences"])
        self.sampler = _sampler(args, recipe.shares)
        self.kept = pool.pictures[::KEPT_BACK_EVERY]
        self.shown = [p for i, p in enumerate(pool.pictures) if i % KEPT_BACK_EVERY]
        self.model = float_again(weights).to(args.device)
        self.model.requires_grad_(False)
        self.table = self.model.kind.weight.requires_grad_()
        self.optimiser = torch.optim.Adam([self.table], lr=RATE * args.rate, betas=(0.9, 0.98))

    def row(self) -> np.ndarray:
        """(D,) int16: the row of the best look, or the one that came with the weights."""
        torch.manual_seed(self.seed)
        began, step, nats, share = time.monotonic(), 0, 0.0, 0.0
        best, best_bits = self._whole(), self._look()
        logger.info("kept back pictures: %.4f bits a token before", best_bits)
        next_look = 1 / LOOKS
        while share < 1.0:
            nats += self._advance(step, share)
            step += 1
            share = self._share(step, began)
            if step % LOG_EVERY == 0:
                logger.info("step %d %.1f %% %.3f", step, 100 * share, nats / LOG_EVERY / np.log(2))
                nats = 0.0
            if share >= next_look:
                next_look += 1 / LOOKS
                bits = self._look()
                logger.info("kept back pictures: %.4f bits a token", bits)
                if bits < best_bits:
                    best, best_bits = self._whole(), bits
        return best

    def _share(self, step: int, began: float) -> float:
        steps = SMOKE_STEPS if self.args.smoke else self.args.steps
        done = step / steps if steps else (time.monotonic() - began) / (60 * self.args.minutes)
        return min(1.0, done)

    def _advance(self, step: int, share: float) -> float:
        """One update of the row; the loss in nats a token."""
        rng = np.random.default_rng((self.seed, step))
        drawn = rng.integers(len(self.shown), size=self.size)
        loss = self._nats([self.sampler.draw(self.shown[int(i)], rng) for i in drawn]).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        gradient = self.table.grad
        assert gradient is not None, "the loss depends on the row"
        gradient[:OWN_ROW] = 0  # Adam leaves alone what never has a gradient
        gradient[OWN_ROW + 1 :] = 0
        for group in self.optimiser.param_groups:
            group["lr"] = RATE * self.args.rate * (1 - share)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        return float(loss.detach())

    def _nats(self, examples: Sequence[Example]) -> torch.Tensor:
        batch = collate(examples, self.weights.config).to(self.args.device)
        with autocast(self.args.device, self.args.precision):
            nats: torch.Tensor = self.model(batch)
        return nats

    def _look(self) -> float:
        """Bits a token of the kept back pictures, in floating point."""
        rng = np.random.default_rng(self.seed)
        ways = [None if picture.targets is not None else "text" for picture in self.kept]
        examples = [
            self.sampler.draw(picture, rng, way)
            for picture, way in zip(self.kept, ways, strict=True)
        ]
        with torch.no_grad():
            parts = [
                self._nats(examples[start : start + self.size])
                for start in range(0, len(examples), self.size)
            ]
        return float(torch.cat(parts).double().mean()) / float(np.log(2))

    def _whole(self) -> np.ndarray:
        """The row as it is now, in steps of the residual stream."""
        row = self.table.detach()[OWN_ROW].double().cpu().numpy() / residual_unit(self.weights)
        return np.clip(np.rint(row), -RESIDUAL_MAX, RESIDUAL_MAX).astype(np.int16)
