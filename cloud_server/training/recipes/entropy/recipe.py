"""Recipe: the entropy models, of the built-in bundle or of any other; the flags and what they mean.

It does not know how they are trained (see `trainer`). `--scenario` narrows the mixture of
scenarios, `--start` begins with the weights of another run, so that specialised models are a short
fine-tuning. Device, precision and length are flags::

    cloud-server train entropy --tokens DIR --text-tokenizer FILE --out DIR --minutes 60
    cloud-server train entropy --bundle show-o --images DIR --captions FILE --out DIR

The second form makes the models of any bundle, see `any_bundle`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from cloud_server.training.recipes.entropy import any_bundle
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
    parser.add_argument("--start", type=Path, help="checkpoint of another run to begin with")
    add_run_arguments(parser, minutes=60.0)
    parser.set_defaults(device=None)  # auto with --bundle, else cpu
    parser.add_argument("--rate", type=float, default=1.0, help="factor on both learning rates")
    parser.add_argument("--evaluate-minutes", type=float, default=8.0)
    parser.add_argument("--config", type=Path, help="another entropy.toml")


def run(args: argparse.Namespace) -> int:
    """Train, evaluate and export; returns the process's exit status.

    Raises:
        ConfigError: nothing names what to learn from.
    """
    if (args.bundle is None) == (args.tokens is None):
        raise ConfigError("what to learn from is not clear", "name either --tokens or --bundle")
    if args.threads:
        torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    if args.bundle is not None:
        return any_bundle.run(args)
    args.device = args.device or "cpu"
    recipe = asked_recipe(args)
    if args.smoke:
        args.steps = SMOKE_STEPS
    EntropyTrainer(recipe, args).train()
    return 0
