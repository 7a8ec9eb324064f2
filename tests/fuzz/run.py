"""Fuzzes every target in turn and prints what came of it.

    python tests/fuzz/run.py --minutes 10

A target's inputs grow in OUT/TARGET/corpus from run to run; what is worth keeping for everybody
goes into `corpus/` with --keep. A finding is an input in OUT/TARGET/findings with what was seen
beside it; once it is mended, move the input into `corpus/TARGET/`, where a test reads it again.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import catalogue

LEAST_S = 1.0
MOST_STARTS = 5
"""Of one target: a process that ends early is started again so often."""


@dataclass
class Row:
    """What came of one target."""

    name: str
    executions: int = 0
    seconds: float = 0.0
    branches: int = 0
    reached: int = 0
    findings: tuple[str, ...] = ()

    def __str__(self) -> str:
        rate = self.executions / max(self.seconds, 0.001)
        share = f"{self.reached}/{self.branches}" if self.branches else "-"
        percent = f"{self.reached / self.branches:.0%}" if self.branches else ""
        found = ", ".join(self.findings) or "-"
        return (
            f"{self.name:<16}{self.executions:>12,}{rate:>12,.0f}{share:>12}{percent:>6}  {found}"
        )


HEAD = f"{'target':<16}{'executions':>12}{'a second':>12}{'branches':>18}  findings"


def fuzzed(name: str, folder: Path, seconds: float) -> Row:
    """Fuzz one target for about so long."""
    row, log = Row(name), folder / "log"
    folder.mkdir(parents=True, exist_ok=True)
    before = set(_findings(folder))
    for _ in range(MOST_STARTS):
        left = seconds - row.seconds
        if left < LEAST_S:
            break
        options = [f"-max_total_time={int(left)}", f"-seed={int(time.time()) % 10_000 + 1}"]
        with log.open("w") as output:
            done = subprocess.run(
                _command(name, folder, *options),
                stdout=output,
                stderr=subprocess.STDOUT,
                env=_environment(),
                timeout=left + 300,
                check=False,
            )
        text = log.read_text(errors="replace")
        row.executions += _number(r"stat::number_of_executed_units:\s*(\d+)", text) or _last(text)
        spent = _number(r"Done \d+ runs in (\d+) second", text)
        row.seconds += spent or left
        if done.returncode == 0:
            break
        print(f"{name}: the process ended with {done.returncode}; see {log}", flush=True)
        shutil.copy(log, folder / f"ended-{int(time.time())}.log")
    row.findings = tuple(sorted(set(_findings(folder)) - before))
    return row


def _findings(folder: Path) -> list[str]:
    found = folder / "findings"
    if not found.is_dir():
        return []
    return [path.name for path in found.iterdir() if path.suffix != ".txt"]


def _number(pattern: str, text: str) -> int:
    found = re.findall(pattern, text)
    return int(found[-1]) if found else 0


def _last(text: str) -> int:
    """The number of the last execution that a log tells of."""
    return _number(r"^#(\d+)\s", text) or max(
        (int(number) for number in re.findall(r"^#(\d+)\s", text, re.MULTILINE)), default=0
    )


def _command(name: str, folder: Path, *options: str) -> list[str]:
    return [sys.executable, str(catalogue.HERE / "one_target.py"), name, str(folder), *options]


def _environment() -> dict[str, str]:
    paths = [str(catalogue.HERE), str(catalogue.ROOT), os.environ.get("PYTHONPATH", "")]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    return {**os.environ, **threads, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def measure(row: Row, folder: Path) -> None:
    """Fill in the branches that the target's inputs reach."""
    told = _measure(row.name, folder)
    row.branches, row.reached = told.get("branches", 0), told.get("reached", 0)


def _measure(name: str, folder: Path, *options: str) -> dict[str, int]:
    done = subprocess.run(
        [sys.executable, str(catalogue.HERE / "measure.py"), name, str(folder), *options],
        capture_output=True,
        text=True,
        env=_environment(),
        timeout=900,
        check=False,
    )
    if done.returncode:
        print(f"{name}: branches could not be counted: {done.stderr[-300:]}", flush=True)
        return {}
    told: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return told


def main(argv: Sequence[str] | None = None) -> int:
    """Fuzz; 1 if there were findings."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="in all [%(default)s]")
    parser.add_argument("--share", type=float, default=1.0, help="of the minutes [%(default)s]")
    parser.add_argument("--out", type=Path, default=Path("fuzz_out"), help="[%(default)s]")
    parser.add_argument("--keep", action="store_true", help="only fill corpus/ from --out")
    parser.add_argument("--no-branches", action="store_true", help="do not count branches")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(catalogue.NAMES))
    args = parser.parse_args(argv)
    unknown = [name for name in args.targets if name not in catalogue.NAMES]
    if unknown:
        parser.error(f"there is no target {', '.join(unknown)}")
    if not find_spec("atheris"):
        parser.error('fuzzing needs the extra: pip install -e ".[cloud,dev,fuzz]"')
    names, rows = args.targets or list(catalogue.NAMES), []
    print(HEAD, flush=True)
    for name in names:
        folder = args.out / name
        if args.keep:
            _measure(name, folder, "--keep")
            continue
        row = fuzzed(name, folder, args.minutes * args.share * 60 / len(names))
        if not args.no_branches:
            measure(row, folder)
        rows.append(row)
        print(row, flush=True)
    found = sum(len(row.findings) for row in rows)
    runs = sum(row.executions for row in rows)
    print(f"{runs:,} executions, {found} findings" + (f"; see {args.out}" if found else ""))
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main())
