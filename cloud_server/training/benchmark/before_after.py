"""A sheet of prompts, each with its picture before a change and after it, for a person to look at.

Knows verdicts on two folders of records of the same cases; judges nothing itself and picks nothing:
it shows the first prompts that have a record in both folders. Writes one file under 200 KB:
`cloud-server train before-after --data CASES --before RECORDS --after RECORDS --out FILE`
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from cloud_server.training.benchmark.judge_model import SHIPPED, Judge
from cloud_server.training.benchmark.tiles import (
    HEIGHT,
    SAID,
    WRONG,
    Tile,
    checked,
    scaled,
    sheet,
    small_webp,
)
from cloud_server.training.benchmark.verdicts import Verdict, evaluate
from shared_protocol.errors import ConfigError

logger = logging.getLogger(__name__)

COUNT, SMOKE_COUNT = 16, 4
Side = tuple[str, Verdict, Path]
"""Its name, what is right about its picture, and the folder of its records."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--data", type=Path, required=True, help="folder of the cases")
    parser.add_argument("--before", type=Path, required=True, help="folder of records.jsonl")
    parser.add_argument("--after", type=Path, required=True, help="folder of records.jsonl")
    parser.add_argument("--judge", type=Path, default=SHIPPED, help="file [the shipped one]")
    parser.add_argument("--out", type=Path, required=True, help="WebP file to write")
    parser.add_argument("--count", type=int, default=COUNT, help=f"prompts [{COUNT}]")
    parser.add_argument("--smoke", action="store_true", help="four prompts only")


def run(args: argparse.Namespace) -> int:
    """Write the sheet; returns the process's exit status.

    Raises:
        ConfigError: a file is missing, or no prompt was drawn in both folders.
    """
    judge = Judge.load(args.judge)
    folders = {"before": args.before, "after": args.after}
    found = {
        name: {v.case.id: v for v in evaluate(args.data, folder, judge).of("t2i")}
        for name, folder in folders.items()
    }
    shared = [case for case in found["before"] if case in found["after"]]
    shown = shared[: SMOKE_COUNT if args.smoke else args.count]
    if not shown:
        raise ConfigError(
            f"{args.before} and {args.after} share no text-to-image case",
            "run the same cases into both",
        )
    tiles = [tile([(name, found[name][case], folders[name]) for name in folders]) for case in shown]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_bytes(small_webp(sheet(tiles)))
    logger.info("wrote %s: %d prompts, %d bytes", args.out, len(shown), args.out.stat().st_size)
    return 0


def tile(sides: Sequence[Side]) -> Tile:
    """The prompt, the pictures of both sides from left to right, and the judge's words on each."""
    lines = [(sides[0][1].case.prompt, "black")]
    pictures: list[Image.Image] = []
    for name, verdict, folder in sides:
        record = verdict.record
        # Grey where there is none: the place of a picture says which side it is of.
        none = Image.new("RGB", (HEIGHT, HEIGHT), "#cccccc")
        pictures.append(scaled(folder / record.picture) if record.picture else none)
        lines.append((f"{name}: {verdict.words}", SAID))
        if record.error:
            lines.append((f"{name}: {record.error}", WRONG))
        lines += checked({check: ok for check, ok in verdict.checks.items() if not ok}, f"{name}, ")
    return Tile(tuple(pictures), tuple(lines))
