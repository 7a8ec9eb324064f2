"""Runs all four tasks as a user would and writes pictures, a contact sheet and a report.

It starts a cloud server unless one is named, and knows nothing of either end but their commands.
`samples/manifest.json` says what is asked:

    {"t2i":      [{"prompt": "a fox on a beach"}],
     "inpaint":  [{"image": "scene1.webp", "box": [96, 64, 80, 80], "prompt": "…"}],
     "outpaint": [{"image": "scene2.webp", "left": 8, "right": 8, "prompt": "…"}],
     "vqa":      [{"image": "scene3.webp", "question": "how many foxes are there?"}]}

An inpainting may name a "mask" file instead of a "box"; any sample may set "seed".
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_client.pictures.contact_sheet import Tile, contact_sheet
from edge_client.pictures.outputs import save_picture
from edge_client.report import PARTS as ALL_PARTS
from edge_client.spawn import program, spawned_server
from edge_client.terminal.output import say
from shared_protocol.bundles.manifest import BUILTIN
from shared_protocol.cases import TASKS
from shared_protocol.errors import ConfigError, UnimicError
from shared_protocol.files import write_atomically

SAMPLES = Path(__file__).parent / "samples"
PHOTOGRAPH = "chelsea.png"
"""A photograph that scikit-image ships, if it is installed."""
COMMAND_TIMEOUT = 180.0
PARTS = {name: label for name, label in ALL_PARTS.items() if name != "labels"}
"""Those of the tasks that are shown."""


@dataclass(frozen=True)
class Run:
    """One command and what came of it.

    Args:
        task: its name.
        words: the command's words, as a user would type them.
        source: picture that it started from, if any.
        report: what it printed as JSON; an "error" if it failed.
        seconds: wall clock, process start included.
    """

    task: str
    words: list[str]
    source: Path | None
    report: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def failed(self) -> bool:
        """Whether there is no result."""
        return "error" in self.report

    @property
    def line(self) -> str:
        """The command as one line."""
        return " ".join(["edge-client", *(f'"{w}"' if " " in w else w for w in self.words)])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demonstration; 0 if every command succeeded."""
    given = _parser().parse_args(arguments)
    try:
        return _demonstrate(given)
    except UnimicError as error:
        _say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        _say("interrupted")
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m edge_client.demo", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    server = parser.add_mutually_exclusive_group()
    server.add_argument("--server", metavar="URL", help="use this server [UNIMIC_SERVER]")
    server.add_argument(
        "--spawn", action="store_true", help="start one (the default without a server)"
    )
    parser.add_argument("--out", type=Path, default=Path("demo_out"), help="folder [demo_out]")
    parser.add_argument("--samples", type=Path, default=SAMPLES, help="folder with manifest.json")
    parser.add_argument("--bundle", metavar="NAME", help="bundle of both ends [builtin]")
    return parser


def _demonstrate(given: argparse.Namespace) -> int:
    out: Path = given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    samples = read_samples(given.samples)
    if given.bundle:
        os.environ["UNIMIC_BUNDLE"] = given.bundle
    start = time.monotonic()
    url = given.server or (None if given.spawn else os.environ.get("UNIMIC_SERVER"))
    if url:
        runs = run_samples(samples, given.samples, out, url)
    else:
        with spawned_server(out / "server.log", given.bundle or BUILTIN) as server:
            _say(f"server ready at {server.url} after {time.monotonic() - start:.1f} s")
            runs = run_samples(samples, given.samples, out, server.url)
    _write_sheet(runs, out / "contact_sheet.png")
    write_atomically(out / "report.md", markdown(runs))
    failed = sum(run.failed for run in runs)
    _say(f"{len(runs) - failed} of {len(runs)} commands done in {time.monotonic() - start:.0f} s")
    _say(f"see {out / 'report.md'} and {out / 'contact_sheet.png'}")
    return 1 if failed else 0


def read_samples(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The samples by task.

    Raises:
        ConfigError: there is no usable manifest.
    """
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        return {task: list(manifest.get(task, [])) for task in TASKS}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise ConfigError(f"cannot read {path}: {error}", "name a folder with --samples") from error


def run_samples(
    samples: dict[str, list[dict[str, Any]]], folder: Path, out: Path, server: str
) -> list[Run]:
    """Run every sample, then a photograph through a file and back, one command after the other."""
    runs = []
    for task in TASKS:
        for number, sample in enumerate(samples[task], 1):
            words = command_words(task, sample, folder.resolve(), f"{task}{number}.png")
            source = folder / sample["image"] if "image" in sample else None
            runs.append(_run(Run(task, words, source), out, server))
    photograph = _photograph()
    if photograph:
        words = ["encode", str(photograph), "-o", "photograph.umic"]
        runs.append(_run(Run("encode", words, photograph), out, server))
        words = ["decode", "photograph.umic", "-o", "photograph.png"]
        runs.append(_run(Run("decode", words, photograph), out, server))
    return runs


def command_words(task: str, sample: dict[str, Any], folder: Path, output: str) -> list[str]:
    """The words after `edge-client` for one sample.

    >>> command_words("t2i", {"prompt": "a fox"}, Path("/s"), "t2i1.png")
    ['t2i', 'a fox', '-o', 't2i1.png']
    """
    words = [task]
    if "image" in sample:
        words.append(str(folder / sample["image"]))
    words.append(str(sample["question" if task == "vqa" else "prompt"]))
    if "mask" in sample:
        words += ["--mask", str(folder / sample["mask"])]
    if "box" in sample:
        words += ["--box", ",".join(map(str, sample["box"]))]
    for name in ("left", "right", "up", "down", "seed"):
        if name in sample:
            words += [f"--{name}", str(sample[name])]
    return words if task == "vqa" else [*words, "-o", output]


def _run(run: Run, out: Path, server: str) -> Run:
    command = [*program("edge-client", "edge_client.cli"), *run.words, "--json"]
    start = time.monotonic()
    try:
        done = subprocess.run(
            command,
            cwd=out,
            env={**os.environ, "UNIMIC_SERVER": server},
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT,
            check=False,
        )
        report = _json(done.stdout) or {"error": {"message": done.stderr.strip()[-500:]}}
    except subprocess.TimeoutExpired:
        report = {"error": {"message": f"took longer than {COMMAND_TIMEOUT:g} s"}}
    finished = Run(run.task, run.words, run.source, report, time.monotonic() - start)
    _say(f"{finished.line}\n    {_outcome(finished)} ({finished.seconds:.1f} s)")
    return finished


def _json(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _outcome(run: Run) -> str:
    if run.failed:
        return f"FAILED: {run.report['error'].get('message')}"
    return str(run.report.get("answer") or run.report.get("output"))


def _photograph() -> Path | None:
    found = importlib.util.find_spec("skimage")
    if found is None or not found.submodule_search_locations:
        return None
    path = Path(found.submodule_search_locations[0]) / "data" / PHOTOGRAPH
    return path if path.is_file() else None


def _write_sheet(runs: Sequence[Run], path: Path) -> None:
    rows = [tiles for run in runs if (tiles := _tiles(run, path.parent))]
    if rows:
        save_picture(path, contact_sheet(rows))


def _tiles(run: Run, out: Path) -> list[Tile]:
    if run.failed or run.task == "encode":
        return []
    tiles = [Tile(run.source, f"{run.task}, from {run.source.name}")] if run.source else []
    if run.task == "vqa":
        caption = f"{run.words[2]} {run.report['answer']}"
        return [Tile(tile.path, caption) for tile in tiles]
    width, height = run.report["canvas"]
    text = run.words[2 if run.source else 1] if run.task in TASKS else "decoded from its tokens"
    tiles.append(Tile(out / run.report["output"], text, max(1, round(width / height))))
    return tiles


def markdown(runs: Sequence[Run]) -> str:
    """The report: bytes by direction and part beside uniform coding, and times."""
    talks = [run for run in runs if not run.failed and "uplink" in run.report]
    lines = ["# All four tasks, measured", "", f"On {_hardware()}.", "", "## Commands", ""]
    lines += [f"* `{run.line}` → {_outcome(run)}" for run in runs]
    lines += ["", "![results](contact_sheet.png)", "", "## Bytes", ""]
    heading = ["task", "way", *PARTS.values(), "all", "bpp", "uniform, all", "bpp", "saved"]
    lines += [*_row(heading), *_row(["---"] * 2 + ["---:"] * (len(heading) - 2))]
    for run in talks:
        for way in ("uplink", "downlink"):
            lines += _row([run.task, way, *_sizes(run.report[way])])
    lines += ["", "bpp: bits per pixel of the picture, or of the extended canvas.", ""]
    lines += ["## Time, milliseconds", "", *_times(talks)]
    files = [run for run in runs if not run.failed and run.task == "encode"]
    for run in files:
        size, source = run.report["bytes"]["total"], run.report["source_bytes"]
        lines += ["", f"{run.report['notes'][0]}: {size:,} bytes as tokens, {source:,} as a file."]
    return "\n".join(lines) + "\n"


def _sizes(way: dict[str, Any]) -> list[str]:
    total, uniform = way["bytes"]["total"], way["uniform"]["bytes"]["total"]
    return [
        *(str(way["bytes"][part] or "–") for part in PARTS),
        str(total),
        f"{way['bpp']['total']:.4f}",
        str(uniform),
        f"{way['uniform']['bpp']['total']:.4f}",
        f"{1 - total / uniform:.0%}",
    ]


def _times(runs: Sequence[Run]) -> list[str]:
    stages = list(dict.fromkeys(stage for run in runs for stage in run.report["milliseconds"]))
    lines = [*_row(["task", *stages, "all", "wall clock with start-up"])]
    lines += _row(["---", *["---:"] * (len(stages) + 2)])
    for run in runs:
        spent = run.report["milliseconds"]
        cells = [f"{spent[stage]:.0f}" if stage in spent else "–" for stage in stages]
        total = f"{run.report['total_milliseconds']:.0f}"
        lines += _row([run.task, *cells, total, f"{run.seconds * 1000:.0f}"])
    return lines


def _row(cells: Sequence[str]) -> list[str]:
    return ["| " + " | ".join(cells) + " |"]


def _hardware() -> str:
    return f"{os.cpu_count()} cores of {platform.machine()}, Python {platform.python_version()}"


def _say(text: str) -> None:
    say(text)


if __name__ == "__main__":
    sys.exit(main())
