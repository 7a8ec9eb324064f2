"""Recipe: trains a neck from a bundle's image tokens into a vision encoder, and writes its file.

Phase 1 of the paper is in `neck_training`; with --update-codec the tokenizer is trained along, from
a neck that is there (phase 2, see `codec_update`). An interrupted run goes on with --resume.
`cloud-server train neck --bundle builtin --encoder FILE --images SHARDS --out DIR --minutes 12`.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from cloud_server.necks.surrogate import OBJECTIVES, PROGRESSIVE
from cloud_server.training.recipes.neck.codec_update import update_codec
from cloud_server.training.recipes.neck.encoder_choice import choose_encoder
from cloud_server.training.recipes.neck.examples import fill_pool
from cloud_server.training.recipes.neck.neck_training import (
    EXPORT_NAME,
    NONE,
    UPDATES,
    NeckRecipe,
    NeckTrainer,
    sources_of,
)
from cloud_server.training.recipes.runs import SMOKE_STEPS, add_run_arguments, read_recipe
from shared_protocol.bundles.find import load_bundle
from shared_protocol.bundles.manifest import BUILTIN
from shared_protocol.compute import Compute

DEFAULT_CONFIG = Path(__file__).parents[2] / "configs" / "neck.toml"
EXAMPLES, SMOKE_EXAMPLES = 8_000, 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of this recipe."""
    parser.add_argument("--bundle", default=BUILTIN, help="whose tokens are read [builtin]")
    parser.add_argument(
        "--encoder",
        required=True,
        help="efficientnet-lite0, a file of 'cloud-server train judge', or the folder of a CLIP",
    )
    parser.add_argument("--images", type=Path, required=True, help="photographs, or scene shards")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoint and neck")
    parser.add_argument("--export", type=Path, help=f"file; default: OUT/{EXPORT_NAME}")
    parser.add_argument(
        "--examples", type=int, default=EXAMPLES, help="most pictures [%(default)s]"
    )
    parser.add_argument("--labels", type=Path, help="labels of the encoder, one a line")
    parser.add_argument("--entry", type=int, help="blocks or layers to skip [the encoder's usual]")
    parser.add_argument(
        "--objective", choices=OBJECTIVES, default=PROGRESSIVE, help="[%(default)s]"
    )
    parser.add_argument(
        "--post-processing", action="store_true", help="train the paper's baseline instead"
    )
    add_run_arguments(parser, minutes=12.0)
    _add_codec_arguments(parser)
    parser.add_argument("--config", type=Path, help="another neck.toml")
    parser.add_argument("--world", type=Path, help="another world.toml")
    parser.add_argument("--cache", type=Path, help="folder for downloads (default: $UNIMIC_CACHE)")


def _add_codec_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("phase 2: the image tokenizer is trained along")
    group.add_argument(
        "--update-codec",
        choices=UPDATES,
        default=NONE,
        help="none (d1), joint (d2: for people and machines), machine (d3) [%(default)s]",
    )
    group.add_argument("--start", type=Path, help="neck of phase 1 to go on from")
    group.add_argument(
        "--trade-off", type=float, default=1.0, help="lambda, of distortion against rate [1]"
    )


def run(args: argparse.Namespace) -> int:
    """Train and export; returns the process's exit status.

    Raises:
        ConfigError: contradictory flags, no such encoder, or no tokenizer that can be trained.
        CheckpointError: files that cannot be read, or of another tokenizer.
    """
    if args.threads:
        torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    recipe = read_recipe(NeckRecipe, args.config or DEFAULT_CONFIG)
    if args.seed is not None:
        recipe = replace(recipe, seed=args.seed)
    if args.smoke:
        recipe, args.steps = replace(recipe, batch=2), SMOKE_STEPS
        args.examples = SMOKE_EXAMPLES
    bundle = load_bundle(args.bundle, Compute.TORCH)
    encoder = choose_encoder(args.encoder, args.labels, args.entry)
    encoder.network().to(args.device)
    if args.update_codec != NONE:
        update_codec(recipe, args, bundle, encoder)
        return 0
    pool = fill_pool(sources_of(args, bundle), encoder)
    NeckTrainer(recipe, args, bundle, encoder).train(pool)
    return 0
