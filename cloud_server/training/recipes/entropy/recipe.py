"""Recipe: the entropy models, of the built-in bundle or of any other; its flags and their meaning.

It does not know how they are trained (see `trainer`). `--scenario` narrows the mixture of
scenarios, `--start` begins with the weights of another run, so that specialised models are a short
fine-tuning; `--start-from` does so with an exported file. Device, precision and length are flags::

    cloud-server train entropy --tokens DIR --text-tokenizer FILE --out DIR --minutes 60
    cloud-server train entropy --bundle show-o --images DIR --captions FILE --out DIR
    cloud-server train entropy --adapt-from FILE --generated-tokens DIR --text-tokenizer FILE \
        --out DIR

The second form makes the models of any bundle, see `any_bundle`. The third fits `adapted` alone to
a backbone's pictures and leaves every other scenario as it is, see `adapt`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from cloud_server.training.recipes.entropy import adapt, any_bundle
from cloud_server.training.recipes.entropy.trainer import (
    EXPORT_NAME,
    SCENARIO_SHARES,
    EntropyTrainer,
    asked_recipe,
)
from cloud_server.training.recipes.runs import SMOKE_STEPS, add_run_arguments
from shared_protocol.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of this recipe."""
    any_bundle.add_arguments(parser)
    parser.add_argument("--tokens", type=Path, help="folder of train_*.npy + .jsonl")
    parser.add_argument("--photo-tokens", type=Path, help="folder of train_*.npy of photographs")
    parser.add_argument("--generated-tokens", type=Path, help="a backbone's outputs, with texts")
    parser.add_argument("--text-tokenizer", type=Path, help="JSON file; without it, no texts")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoint and export")
    parser.add_argument("--export", type=Path, help=f"file; default: OUT/{EXPORT_NAME}")
    parser.add_argument("--scenario", choices=sorted(SCENARIO_SHARES), default="all")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--start", type=Path, help="checkpoint of another run to begin with")
    start.add_argument("--start-from", type=Path, help="exported weights to begin with")
    start.add_argument(
        "--adapt-from", type=Path, help="exported weights of which only `adapted` is fitted"
    )
    parser.add_argument(
        "--generated-share", type=float, help="of sequences, instead of the recipe's"
    )
    add_run_arguments(parser, minutes=60.0)
    parser.set_defaults(device=None)  # auto with --bundle, else cpu
    parser.add_argument("--rate", type=float, default=1.0, help="factor on both learning rates")
    parser.add_argument("--evaluate-minutes", type=float, default=8.0)
    parser.add_argument("--config", type=Path, help="another entropy.toml")


def run(args: argparse.Namespace) -> int:
    """Train, evaluate and export; returns the process's exit status.

    Raises:
        ConfigError: nothing, or too much, names what to learn from.
    """
    sources = [args.bundle, args.tokens, args.adapt_from]
    if sum(source is not None for source in sources) != 1:
        raise ConfigError(
            "what to learn from is not clear", "name one of --tokens, --bundle and --adapt-from"
        )
    if args.threads:
        torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    if args.bundle is not None:
        return any_bundle.run(args)
    args.device = args.device or "cpu"
    if args.adapt_from is not None:
        return adapt.run(args)
    recipe = asked_recipe(args)
    if args.smoke:
        args.steps = SMOKE_STEPS
    EntropyTrainer(recipe, args).train()
    return 0
