"""Sheets for a person to look at: the worst failures of every task, and sixteen usual prompts.

Knows verdicts and how to lay pictures out; judges nothing itself. Writes into OUT, every file
under 200 KB: prompts.webp (sixteen prompts spread over all, right or wrong) and
failures_TASK.webp (results with the most checks failed, spread over all of them).
"""

from __future__ import annotations

import argparse
import io
import logging
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from cloud_server.training.benchmark.judge_model import SHIPPED, Judge
from cloud_server.training.benchmark.verdicts import Evaluation, Verdict, evaluate

logger = logging.getLogger(__name__)

COUNT = 16
HEIGHT = 160
"""Of every picture on a sheet, in pixels."""
GAP, LINE, CHARACTER = 6, 12, 6
FONT_SIZE = 10
MAX_BYTES = 200_000
QUALITIES = (85, 75, 65, 50, 35, 20)
RIGHT, WRONG = "#1a7f37", "#c0392b"
TASKS = ("t2i", "inpaint", "outpaint", "vqa", "easy-vqa")


@dataclass(frozen=True)
class Tile:
    """Pictures side by side above lines of (text, colour)."""

    pictures: tuple[Image.Image, ...]
    lines: tuple[tuple[str, str], ...]

    @property
    def width(self) -> int:
        """In pixels, gaps between the pictures included."""
        return sum(picture.width + GAP for picture in self.pictures)


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
    pictures = [_scaled(path, case.box) for path in paths]
    if record.picture:
        pictures.append(_scaled(records / record.picture, None))
    lines = [(case.prompt, "black"), (f"seen: {verdict.words}", "#555555")]
    if case.task == "vqa":
        lines = [
            (case.prompt, "black"),
            (f"answer: {verdict.words}", "#555555"),
            (f"right: {' / '.join(case.answers)}", "#555555"),
        ]
    elif case.task == "inpaint":
        lines.insert(1, (f"asked for: {case.truth['asked'][0]}", "black"))
    if record.error:
        lines.append((str(record.error), WRONG))
    for check, is_right in verdict.checks.items():
        lines.append((f"{check}: {'right' if is_right else 'wrong'}", RIGHT if is_right else WRONG))
    return Tile(tuple(pictures), tuple(lines))


def sheet(tiles: Sequence[Tile], columns: int = 4) -> Image.Image:
    """The tiles in rows, each as high as its highest tile."""
    width = max(max(one.width for one in tiles), HEIGHT)
    columns = min(columns, max(1, 1400 // width), len(tiles))
    wrapped = [_wrapped(one, width) for one in tiles]
    rows = [range(i, min(i + columns, len(tiles))) for i in range(0, len(tiles), columns)]
    heights = [HEIGHT + GAP + LINE * max(len(wrapped[i]) for i in row) + GAP for row in rows]
    image = Image.new("RGB", (columns * width + GAP, sum(heights) + GAP), "white")
    draw, font, top = ImageDraw.Draw(image), ImageFont.load_default(FONT_SIZE), GAP
    for row, height in zip(rows, heights, strict=True):
        for column, index in enumerate(row):
            left = GAP + column * width
            for number, (text, colour) in enumerate(wrapped[index]):
                place = (left, top + HEIGHT + 2 + number * LINE)
                draw.text(place, text, fill=colour, font=font)
            for picture in tiles[index].pictures:
                image.paste(picture, (left, top))
                left += picture.width + GAP
        top += height
    return image


def small_webp(image: Image.Image) -> bytes:
    """The picture in the best quality that stays under the limit, else in the lowest."""
    data = b""
    for quality in QUALITIES:
        buffer = io.BytesIO()
        image.save(buffer, "WEBP", quality=quality, method=6)
        data = buffer.getvalue()
        if len(data) < MAX_BYTES:
            break
    return data


def _failed(verdict: Verdict) -> int:
    return sum(not is_right for is_right in verdict.checks.values())


def _scaled(path: Path, box: Sequence[int] | None) -> Image.Image:
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    if box is not None:
        x, y, width, height = box
        outline = (x, y, x + width - 1, y + height - 1)
        ImageDraw.Draw(picture).rectangle(outline, outline="red", width=3)
    size = (round(picture.width * HEIGHT / picture.height), HEIGHT)
    return picture.resize(size, Image.Resampling.LANCZOS)


def _wrapped(one: Tile, width: int) -> list[tuple[str, str]]:
    characters = max(12, (width - GAP) // CHARACTER)
    return [
        (line, colour) for text, colour in one.lines for line in textwrap.wrap(text, characters)
    ]
