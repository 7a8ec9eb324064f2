"""Sheets for a person to look at: the worst failures of every task, and sixteen usual prompts.

Knows verdicts; judges nothing itself. Writes into OUT, every file under 200 KB: prompts.webp
(sixteen prompts spread over all, right or wrong) and failures_TASK.webp (results with the most
checks failed, spread over all of them).
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from cloud_server.training.benchmark.judge_model import SHIPPED, Judge
from cloud_server.training.benchmark.tiles import (
    SAID,
    WRONG,
    Tile,
    checked,
    scaled,
    sheet,
    small_webp,
)
from cloud_server.training.benchmark.verdicts import Evaluation, Verdict, evaluate

logger = logging.getLogger(__name__)

COUNT = 16
TASKS = ("t2i", "inpaint", "outpaint", "vqa", "easy-vqa")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--data", type=Path, required=True, help="folder of the cases")
    parser.add_argument("--records", type=Path, required=True, help="folder of records.jsonl")
    parser.add_argument("--judge", type=Path, default=SHIPPED, help="file [the shipped one]")
    parser.add_argument("--out", type=Path, help="folder for the sheets; default: --records")
    parser.add_argument("--count", type=int, default=COUNT, help=f"results a sheet [{COUNT}]")
    parser.add_argument("--smoke", action="store_true", help="four results a sheet")


def run(args: argparse.Namespace) -> int:
    """Write the sheets; returns the process's exit status."""
    count = 4 if args.smoke else args.count
    out: Path = args.out or args.records
    out.mkdir(parents=True, exist_ok=True)
    evaluation = evaluate(args.data, args.records, Judge.load(args.judge))
    for name, verdicts in chosen(evaluation, count):
        tiles = [tile(verdict, args.data, args.records) for verdict in verdicts]
        path = out / f"{name}.webp"
        path.write_bytes(small_webp(sheet(tiles)))
        logger.info("wrote %s: %d results, %d bytes", path, len(tiles), path.stat().st_size)
    return 0


def chosen(evaluation: Evaluation, count: int) -> Iterator[tuple[str, list[Verdict]]]:
    """(name of the sheet, what it shows) of every sheet that has something to show."""
    prompts = evaluation.of("t2i")
    if prompts:
        yield "prompts", spread(prompts, count)
    for task in TASKS:
        wrong = [verdict for verdict in evaluation.of(task) if not verdict.right]
        worst = max((_failed(verdict) for verdict in wrong), default=0)
        if wrong:
            most = [verdict for verdict in wrong if _failed(verdict) == worst]
            picked = spread(most, count)
            rest = [verdict for verdict in wrong if verdict not in most]
            yield f"failures_{task}", [*picked, *spread(rest, count - len(picked))]


def spread(verdicts: Sequence[Verdict], count: int) -> list[Verdict]:
    """At most `count` of them, evenly spaced, so that nobody picks.

    >>> spread(list("abcdefgh"), 4)
    ['a', 'c', 'e', 'g']
    """
    number = min(count, len(verdicts))
    return [verdicts[i * len(verdicts) // number] for i in range(number)]


def tile(verdict: Verdict, data: Path, records: Path) -> Tile:
    """What was asked, what came back and what the judge made of it."""
    case, record = verdict.case, verdict.record
    paths = [data / case.image] if case.image else []
    pictures = [scaled(path, case.box) for path in paths]
    if record.picture:
        pictures.append(scaled(records / record.picture))
    lines = [(case.prompt, "black"), (f"seen: {verdict.words}", SAID)]
    if case.task == "vqa":
        lines = [
            (case.prompt, "black"),
            (f"answer: {verdict.words}", SAID),
            (f"right: {' / '.join(case.answers)}", SAID),
        ]
    elif case.task == "inpaint":
        lines.insert(1, (f"asked for: {case.truth['asked'][0]}", "black"))
    if record.error:
        lines.append((str(record.error), WRONG))
    return Tile(tuple(pictures), (*lines, *checked(verdict.checks)))


def _failed(verdict: Verdict) -> int:
    return sum(not is_right for is_right in verdict.checks.values())
