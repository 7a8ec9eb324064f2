"""Writes the mean of two exports of the unified transformer, of which one began at the other.

Weights that were trained further know more and forget some; half way between is often better than
both ("Robust fine-tuning of zero-shot models", arXiv:2109.01903). Knows exports only, no training::

    cloud-server train average OLD NEW --share 0.5 --out DIR
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from cloud_server.generation.backbone.checkpoint import (
    load_builtin_backbone,
    save_builtin_backbone,
)
from cloud_server.training.recipes.backbone.starting_weights import plain_state
from shared_protocol.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("old", type=Path, help="an export: a compact file, or a folder of shards")
    parser.add_argument("new", type=Path, help="one of the same shape")
    parser.add_argument("--share", type=float, default=0.5, help="of NEW, 0 to 1 [0.5]")
    parser.add_argument("--out", type=Path, required=True, help="folder that gets the mean")


def run(args: argparse.Namespace) -> int:
    """Write it; returns the process's exit status.

    Raises:
        CheckpointError: there is no readable export.
        ConfigError: two of different shapes, a share beyond 0 to 1, or OUT is one of the two.
    """
    for path in average(args.old, args.new, args.share, args.out):
        sys.stdout.write(f"{path}\n")
    return 0


def average(old: Path, new: Path, share: float, out: Path) -> list[Path]:
    """Write (1 - share) old + share new, rounded as every export is; returns the files.

    Args:
        old, new: compact files, or folders of shards.
        share: of `new`, 0 to 1.
        out: folder; older shards in it are removed.

    Raises:
        CheckpointError, ConfigError: see `run`.
    """
    if not 0 <= share <= 1:
        raise ConfigError(f"a share of {share} is not within 0 to 1", "give one like 0.5")
    if out.resolve() in (old.resolve(), new.resolve()):
        raise ConfigError(f"{out} is one of the two", "name another folder with --out")
    first, second = load_builtin_backbone(old), load_builtin_backbone(new)
    if first.card != second.card:
        raise ConfigError(
            f"the weights at {old} are {first.card}, those at {new} {second.card}",
            "take two of one shape, the one trained on from the other (--start-from)",
        )
    ours, theirs = plain_state(first), plain_state(second)
    mean = {name: (1 - share) * ours[name] + share * theirs[name] for name in ours}
    return save_builtin_backbone(mean, first.card, out)
