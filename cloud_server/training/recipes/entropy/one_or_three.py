"""One entropy model for all scenarios against three specialised ones of the same size together.

Knows the sizes of the four networks and how the two sides are made equal; the training itself is
`trainer`'s. Every specialist sees as many sequences of its own scenario as the one model saw of it
(equal sequences), and once more three times as many, since a step of a network of a third of the
size costs about a third (equal work)::

    one     600k  ── N steps of the mixture ───────────────────────────┐
    generic 200k  ── N x share of generic steps ──┐                    │
    masked  200k  ── N x share of masked steps ───┼─ the same, x 3 ────┴─► held-out bits a token
    text    200k  ── N x share of text steps ─────┘

It does not know photographs or a backbone's pictures: scenes alone, so that it can be run anywhere.
The table again: `cloud-server train one-or-three --tokens DIR --text-tokenizer FILE --out DIR`.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from cloud_server.training.recipes.entropy.trainer import (
    LOG_EVERY,
    SCENARIO_SHARES,
    EntropyRecipe,
    EntropyTrainer,
)
from cloud_server.training.recipes.run_loop import Length, run_to_the_end
from cloud_server.training.recipes.runs import SMOKE_STEPS, add_run_arguments
from shared_protocol.entropy.config import EntropyConfig

logger = logging.getLogger(__name__)

NAME = "entropy_one_or_three"
ALL = "all"
NETWORKS: Mapping[str, Mapping[str, int]] = {
    ALL: {"width": 112, "hidden": 448, "code_width": 22, "text_width": 8, "low_width": 112},
    "generic": {"width": 64, "hidden": 256, "code_width": 8, "text_size": 1, "text_width": 1},
    "masked": {"width": 64, "hidden": 256, "code_width": 8, "text_size": 1, "text_width": 1},
    "text_conditioned": {"width": 60, "hidden": 240, "code_width": 8, "text_width": 4},
}
"""Sizes that differ; the models that read no text need no table of words and spend it inside."""
COMMON = {"layers": 2, "heads": 4, "side": 16, "low_width": 64}
REPEATS = (1, 3)
"""A specialist's sequences in multiples of those that the one model saw of its scenario."""


@dataclass(frozen=True)
class Trained:
    """One network after its run.

    Args:
        scenario: whose sequences it saw.
        repeats: of `REPEATS`.
        parameters: how many it has.
        steps, sequences: how long it was trained.
        seconds: of that, by the clock.
        bits: way to (N,) bits of each held-out picture; not part of the JSON.
        tokens: way to (N,) tokens of the same.
    """

    scenario: str
    repeats: int
    parameters: int
    steps: int
    sequences: int
    seconds: float
    bits: dict[str, np.ndarray]
    tokens: dict[str, np.ndarray]

    def rate(self, way: str) -> float:
        """Bits a token of one way to code the held-out pictures."""
        return float(self.bits[way].sum() / self.tokens[way].sum())

    def facts(self) -> dict[str, str | int | float]:
        """All but the bits, for the JSON."""
        names = ("scenario", "repeats", "parameters", "steps", "sequences")
        return {name: getattr(self, name) for name in names} | {"seconds": round(self.seconds, 1)}


@dataclass(frozen=True)
class Comparison:
    """One way to code the held-out pictures.

    Args:
        way: its name, as in configs/entropy.toml.
        scenario: the specialist's.
        tokens: how many were coded.
        one: bits a token of the one model.
        three: bits a token of the specialist, by `REPEATS`.
        less: by `REPEATS`, how many bits a token the one model takes less, with twice the standard
            error over pictures.
    """

    way: str
    scenario: str
    tokens: int
    one: float
    three: dict[int, float]
    less: dict[int, tuple[float, float]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of this recipe."""
    parser.add_argument("--tokens", type=Path, required=True, help="folder of train_*.npy + .jsonl")
    parser.add_argument("--text-tokenizer", type=Path, help="JSON file; without it, no texts")
    parser.add_argument("--out", type=Path, required=True, help=f"folder for {NAME}.json and .md")
    add_run_arguments(parser, steps=600)


def run(args: argparse.Namespace) -> int:
    """Train all networks and write the table; returns the process's exit status.

    Raises:
        ConfigError: too few scenes.
    """
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.smoke:
        args.steps = SMOKE_STEPS
    args.out.mkdir(parents=True, exist_ok=True)
    one = _train(ALL, 1, args)
    others = [
        _train(scenario, repeats, args)
        for scenario in NETWORKS
        if scenario != ALL
        for repeats in REPEATS
    ]
    rows = compare(one, others)
    about = {"pictures": len(next(iter(one.bits.values()))), "steps of the one": args.steps}
    found = {
        "about": about,
        "networks": [trained.facts() for trained in (one, *others)],
        "rows": [asdict(row) for row in rows],
    }
    path: Path = args.out / f"{NAME}.json"
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(as_markdown(rows, one, others), encoding="utf-8")
    logger.info("wrote %s", path)
    return 0


def recipe_of(scenario: str, seed: int | None, smoke: bool) -> EntropyRecipe:
    """The shipped recipe with the small network of a scenario and the shares of that scenario."""
    shipped = EntropyRecipe.load()
    network = {**shipped.network, **COMMON, **NETWORKS[scenario]}
    found = replace(shipped.narrowed(scenario), network=network)
    if seed is not None:
        found = replace(found, seed=seed)
    return found.tiny() if smoke else found


def steps_of(scenario: str, steps: int, repeats: int) -> int:
    """Steps of a specialist, when the one model takes `steps` of the mixture; at least 1.

    >>> steps_of("masked", 600, 1), steps_of("all", 600, 1)
    (120, 600)
    """
    shares = EntropyRecipe.load().shares
    own = sum(shares[way] for way in SCENARIO_SHARES[scenario]) / sum(shares.values())
    return max(1, round(steps * own * repeats))


def _train(scenario: str, repeats: int, args: argparse.Namespace) -> Trained:
    recipe = recipe_of(scenario, args.seed, args.smoke)
    steps = steps_of(scenario, args.steps, repeats)
    silent = scenario in ("generic", "masked")
    given = {
        **vars(args), "photo_tokens": None, "generated_tokens": None, "scenario": scenario,
        "text_tokenizer": None if silent else args.text_tokenizer,
        "start": None, "start_from": None, "resume": False, "rate": 1.0,
    }  # fmt: skip
    trainer = EntropyTrainer(recipe, argparse.Namespace(**given))
    run_to_the_end(
        trainer.progress, Length(steps), trainer.advance, trainer.log, log_every=LOG_EVERY
    )
    found = {way: trainer.held_out_bits(way) for way in recipe.shares}
    trained = Trained(
        scenario=scenario,
        repeats=repeats,
        parameters=parameters_of(EntropyConfig(**recipe.network)),
        steps=steps,
        sequences=steps * int(recipe.batches["sequences"]),
        seconds=trainer.progress.seconds,
        bits={way: bits for way, (bits, _) in found.items()},
        tokens={way: tokens for way, (_, tokens) in found.items()},
    )
    rates = {way: round(trained.rate(way), 3) for way in found}
    logger.info("%s %s", json.dumps(trained.facts()), json.dumps(rates))
    return trained


def parameters_of(config: EntropyConfig) -> int:
    """How many parameters a network of these sizes has."""
    from shared_protocol.entropy.model import EntropyModel

    return sum(parameter.numel() for parameter in EntropyModel(config).parameters())


def compare(one: Trained, others: list[Trained]) -> list[Comparison]:
    """Every way to code, the one model beside its specialist."""
    rows = []
    for scenario in dict.fromkeys(other.scenario for other in others):
        own = {other.repeats: other for other in others if other.scenario == scenario}
        for way in next(iter(own.values())).bits:
            rows.append(
                Comparison(
                    way=way,
                    scenario=scenario,
                    tokens=int(one.tokens[way].sum()),
                    one=one.rate(way),
                    three={repeats: other.rate(way) for repeats, other in own.items()},
                    less={repeats: _less(one, other, way) for repeats, other in own.items()},
                )
            )
    return rows


def _less(one: Trained, other: Trained, way: str) -> tuple[float, float]:
    """Bits a token that `one` takes less, and twice the standard error over pictures."""
    apart = other.bits[way] - one.bits[way]
    mean = one.tokens[way].mean()
    error = float(apart.std(ddof=1)) / len(apart) ** 0.5 if len(apart) > 1 else 0.0
    return float(apart.mean() / mean), float(2 * error / mean)


def as_markdown(rows: list[Comparison], one: Trained, others: list[Trained]) -> str:
    """The table, what was trained, and how far it may be trusted."""
    head = ["scenario", "stream", "tokens", "one model"]
    head += ["three, equal sequences", "three, equal work"]
    lines = [head, ["---", "---"] + ["---:"] * 4]
    for row in rows:
        cells = [row.scenario, row.way, f"{row.tokens:,}", f"{row.one:.3f}"]
        for repeats in REPEATS:
            less, error = row.less[repeats]
            cells.append(f"{row.three[repeats]:.3f} ({less:+.3f} ± {error:.3f})")
        lines.append(cells)
    runs = [["network", "parameters", "steps", "sequences", "seconds"], ["---"] + ["---:"] * 4]
    for trained in (one, *others):
        name = trained.scenario + (f", x {trained.repeats}" if trained.repeats > 1 else "")
        numbers = f"{trained.parameters:,}", f"{trained.steps:,}", f"{trained.sequences:,}"
        runs.append([name, *numbers, f"{trained.seconds:.0f}"])
    return "\n".join(
        [
            "# One entropy model or three of the same size together",
            "",
            "Held-out bits a token of drawn scenes in floating point, lower is better; in brackets "
            "how many the specialist takes more, ± twice the standard error over pictures.",
            "",
            *_lines(lines),
            "",
            "Every specialist has a third of the one model's parameters. Equal sequences: it saw "
            "as many sequences of its scenario as the one model saw of it. Equal work: three times "
            "as many, since a step costs about a third.",
            "",
            *_lines(runs),
            "",
            "How far this goes: small networks, short runs, one seed, drawn scenes alone. The "
            "shipped model has five times the parameters and was trained far longer; longer "
            "training may change the picture, above all where the runs had not levelled off.",
            "",
            f"Made by `cloud-server train one-or-three --steps {one.steps}`"
            f" on {os.uname().machine}.",
            "",
        ]
    )


def _lines(cells: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(line) + " |" for line in cells]
