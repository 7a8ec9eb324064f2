"""Which branches of its reader's modules a target's inputs reach, and which inputs that needs.

    python tests/fuzz/measure.py TARGET FOLDER            prints JSON: branches, reached
    python tests/fuzz/measure.py TARGET FOLDER --keep     fills corpus/TARGET from FOLDER/corpus

The seeds, the target's folder in `corpus/` and FOLDER/corpus are read; nothing is fuzzed.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any

import catalogue
from oracle import Judge
from targets.target import Target

KEPT_BYTES, KEPT_FILE = 12_000, 4_000
"""Most bytes of one target's folder in `corpus/`, and of one input that is put there."""
Arcs = set[tuple[str, int, int]]
"""(file, line, next line) of what was run."""


def files_of(target: Target) -> set[str]:
    """The files of the target's modules."""
    specs = map(find_spec, target.modules)
    return {spec.origin for spec in specs if spec is not None and spec.origin is not None}


def measured(name: str, folder: Path) -> dict[str, int]:
    """Branches of the target's modules, and how many of them were taken."""
    import coverage

    target = catalogue.target_named(name)
    watch = coverage.Coverage(
        branch=True, data_file=None, include=sorted(files_of(target)), config_file=False
    )
    with tempfile.TemporaryDirectory() as scratch:
        judge = Judge(target, target.prepare(Path(scratch)))
        with closing(judge):
            watch.start()
            for data in (*target.seeds(), *catalogue.stored(name), *grown(folder)):
                judge(data)
            watch.stop()
        report = Path(scratch) / "report.json"
        watch.json_report(outfile=str(report))
        totals = json.loads(report.read_text())["totals"]
    return {"branches": totals["num_branches"], "reached": totals["covered_branches"]}


def grown(folder: Path) -> list[bytes]:
    """The inputs that fuzzing left in a folder, the shortest first."""
    return sorted((path.read_bytes() for path in (folder / "corpus").glob("*")), key=len)


def keep(name: str, folder: Path) -> dict[str, int]:
    """Put those inputs into `corpus/` that reach what no shorter one reaches."""
    target, place = catalogue.target_named(name), catalogue.CORPUS / name
    files, known, kept = files_of(target), catalogue.stored(name), 0
    left = KEPT_BYTES - sum(map(len, known))
    with tempfile.TemporaryDirectory() as scratch:
        judge = Judge(target, target.prepare(Path(scratch)))
        with closing(judge):
            reached: Arcs = set()
            for data in (*target.seeds(), *known):
                reached |= arcs(judge, data, files)
            for data in grown(folder):
                if len(data) > min(left, KEPT_FILE):
                    break
                new = arcs(judge, data, files) - reached
                if new and judge(data) is None:
                    reached |= new
                    place.mkdir(parents=True, exist_ok=True)
                    (place / hashlib.sha1(data).hexdigest()[:12]).write_bytes(data)
                    left, kept = left - len(data), kept + 1
    return {"kept": kept, "bytes": KEPT_BYTES - left}


def arcs(judge: Judge, data: bytes, files: set[str]) -> Arcs:
    """What of `files` is run for one input."""
    found: Arcs = set()
    last: dict[FrameType, int] = {}

    def line(frame: FrameType, event: str, _: Any) -> Any:
        found.add((frame.f_code.co_filename, last.get(frame, 0), frame.f_lineno))
        last[frame] = frame.f_lineno
        return line

    def call(frame: FrameType, event: str, _: Any) -> Any:
        return line if frame.f_code.co_filename in files else None

    sys.settrace(call)
    try:
        judge(data)
    finally:
        sys.settrace(None)
    return found


if __name__ == "__main__":
    catalogue.reachable()
    work = keep if "--keep" in sys.argv else measured
    print(json.dumps(work(sys.argv[1], Path(sys.argv[2]))))
