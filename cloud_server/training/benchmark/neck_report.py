"""Judges a neck beside decoding first and the paper's other baselines; prints and keeps tables.

Knows the encoder and the truth of drawn scenes; what travels was measured by an edge client.
`cloud-server train neck-report --images SHARDS` judges held-out scenes, or photographs by what the
encoder says of their pixels. With `--records OUT/neck --data FOLDER` of `edge-client evaluate neck`
it also judges the codecs' pictures and the tokens that were kept, and writes `judged.json` beside.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cloud_server.necks.load import SHIPPED, open_encoder
from cloud_server.necks.neck_file import NECK as NECK_PART
from cloud_server.necks.neck_file import NeckFile, fill, on_meta, read_neck_file
from cloud_server.necks.networks import build_neck
from cloud_server.training.benchmark.macs import kmacs_a_pixel
from cloud_server.training.benchmark.neck_ablations import ablation_table
from cloud_server.training.benchmark.neck_measures import (
    AT_ONCE,
    DECODED,
    NECK,
    PIXELS,
    Marks,
    Models,
    marks,
    ranks_of,
    truth_of_pixels,
)
from cloud_server.training.benchmark.neck_pictures import Judged, Pictures, judged_records
from cloud_server.training.recipes.neck.neck_training import open_tokenizer
from cloud_server.training.recipes.neck.students import UNet
from shared_protocol.bundles.bundle import Bundle
from shared_protocol.bundles.find import load_bundle
from shared_protocol.bundles.manifest import BUILTIN
from shared_protocol.errors import CheckpointError, ConfigError

COUNT, SMOKE = 2_000, 4
JUDGED, REPORT = "judged.json", "neck_report.md"
COLUMNS = (
    "way",
    "pictures",
    "top-1",
    "top-2 of two objects",
    "top-5",
    "as pixels",
    "kMAC a pixel",
    "of decoding first",
    "parameters, M",
)


@dataclass(frozen=True)
class Table:
    """One table, as `judged.json` has it."""

    name: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    notes: Sequence[str] = ()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--neck", type=Path, default=SHIPPED, help="file [the built-in one]")
    parser.add_argument("--bundle", default=BUILTIN, help="whose tokens it reads [builtin]")
    parser.add_argument("--encoder", type=Path, help="folder of the CLIP, if it leads into one")
    parser.add_argument("--images", type=Path, help="scene shards (those held out) or photographs")
    parser.add_argument("--limit", type=int, default=COUNT, help=f"most pictures [{COUNT}]")
    parser.add_argument("--post-processing", type=Path, help="the baseline's weights")
    parser.add_argument("--records", type=Path, help="OUT/neck of 'edge-client evaluate neck'")
    parser.add_argument("--data", type=Path, help="the folder that the edge client read")
    parser.add_argument(
        "--compare",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="another neck; several of one name are seeds of it; may be repeated",
    )
    parser.add_argument("--out", type=Path, help="folder for the tables [that of --records]")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's choice)")
    parser.add_argument("--world", type=Path, help="another world.toml")
    parser.add_argument("--cache", type=Path, help="folder for downloads (default: $UNIMIC_CACHE)")
    parser.add_argument("--smoke", action="store_true", help=f"{SMOKE} pictures only")


def run(args: argparse.Namespace) -> int:
    """Judge, print and keep the tables; returns the process's exit status.

    Raises:
        ConfigError: nothing to judge, or files that do not belong together.
        CheckpointError: weights that cannot be read.
    """
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.smoke:
        args.limit = SMOKE
    if args.images is None and args.records is None:
        raise ConfigError("nothing to judge", "name --images, or --records with --data")
    if args.records is not None and args.data is None:
        raise ConfigError("--records without --data", "name the folder that was evaluated")
    bundle = load_bundle(args.bundle)
    content = read_neck_file(args.neck)
    models = open_models(content, args, bundle)
    tables = [*_images(args, bundle, models), *_records(args, bundle, models)]
    text = "\n".join(markdown(table) for table in tables)
    sys.stdout.write(text)
    out = args.out or args.records
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / REPORT).write_text(text, encoding="utf-8")
        said = {"tables": [vars(table) for table in tables]}
        (out / JUDGED).write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
    return 0


def open_models(content: NeckFile, args: argparse.Namespace, bundle: Bundle) -> Models:
    """The neck, its whole encoder, the tokenizer and the baseline.

    Raises:
        CheckpointError: the neck reads another tokenizer's tokens, or a file cannot be read.
    """
    if content.tokenizer != bundle.tokenizer_fingerprint.hex():
        raise CheckpointError(
            f"the neck {args.neck} reads tokens of another image tokenizer than {bundle.name} has",
            "name its bundle with --bundle",
        )
    with on_meta():
        neck = build_neck(content.sizes)
    fill(neck, content.part(NECK_PART), args.neck)
    unet = None
    if args.post_processing:
        unet = UNet().eval().requires_grad_(False)
        unet.load_state_dict(torch.load(args.post_processing, weights_only=True))
    encoder = open_encoder(content, args.neck, args.encoder)
    return Models(encoder, neck, open_tokenizer(bundle), unet)


def _images(args: argparse.Namespace, bundle: Bundle, models: Models) -> list[Table]:
    if args.images is None:
        return []
    pictures = Pictures.open(args, bundle, models)
    found = ranks_of(models, pictures.batches(AT_ONCE), list(models.ways()))
    truth = pictures.truth or truth_of_pixels(found[PIXELS])
    costs = models.costs(bundle.grid)
    rows = [
        _row(name, marks(ranks, truth, found[PIXELS]), costs[name], costs[DECODED][0], pictures)
        for name, ranks in found.items()
    ]
    notes = [pictures.said, "kMAC a pixel and parameters: all that the cloud computes."]
    tables = [Table("neck-accuracy", "What is seen, and what it costs", COLUMNS, rows, notes)]
    if args.compare:
        columns, compared, said = ablation_table(args.compare, models, bundle, pictures, truth)
        tables.append(Table("neck-ablations", "Other trainings", columns, compared, said))
    return tables


def _row(
    name: str, found: Marks, cost: tuple[int, int], first: int, pictures: Pictures
) -> list[Any]:
    return [
        name,
        found.count,
        found.top1,
        found.top2 if found.top2 is not None else "–",
        found.top5,
        found.agreement,
        kmacs_a_pixel(cost[0], pictures.side),
        cost[0] / first,
        cost[1] / 1e6,
    ]


def _records(args: argparse.Namespace, bundle: Bundle, models: Models) -> list[Table]:
    if args.records is None:
        return []
    found: list[Judged] = judged_records(args.records, args.data, bundle, models)
    rows = [
        [one.name, one.marks.count, "–" if one.bytes is None else one.bytes, *_shares(one.marks)]
        for one in found
    ]
    columns = ("way", "pictures", "picture bytes", "top-1", "top-5", "as pixels")
    notes = (
        f"'{NECK}' reads the tokens; those left out are filled in by the bundle's transformer, as "
        "the server does. A codec's picture goes to the whole encoder.",
        "Without a known truth, top-1 and top-5 are of the label that the pixels have.",
    )
    return [Table("neck-rate", "By what was sent", columns, rows, notes)]


def _shares(found: Marks) -> tuple[float, float, float]:
    return found.top1, found.top5, found.agreement


def markdown(table: Table) -> str:
    """A table for people."""
    lines = [f"## {table.title}", "", "| " + " | ".join(table.columns) + " |"]
    lines.append("| --- |" + " ---: |" * (len(table.columns) - 1))
    for row in table.rows:
        cells = (f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *(f"{note}\n" for note in table.notes), ""])
