"""`make mutants`: changes the code in small ways, by chance, and counts what the tests notice.

First every test runs once under coverage, so that a mutant is tried on the tests that run its line
only. A mutant that no test notices has survived: it is printed, with its change, to be looked at.
Each runs in a copy of the project, so that the work tree stays as it is::

    python tests/mutants/run.py --count 300 --seed 1 --out mutants.json
    python tests/mutants/run.py --again mutants.json --seconds 300   # survivors, on more tests
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import Queue

from covering_tests import CoveringTests
from mutant_drawing import Mutant, draw

ROOT = Path(__file__).parents[2]
ROOMS = ("shared_protocol", "cloud_server/http", "cloud_server/links", "cloud_server/serving")
NOT_SERVING = ("/selfcheck/", "_bench.py", "onnx_graphs.py", "/compact.py", "/magvitv2.py")
"""Left out: what measures, and what only training runs."""
FAST = ("-m", "not slow", "-p", "no:cacheprovider", "-q")
TEST_SECONDS = 30.0
HANGS = ("-o", "faulthandler_timeout=30", "-o", "faulthandler_exit_on_timeout=true")
"""No fast test takes so many seconds by itself: a mutant that makes one do so has been noticed."""
PATIENCE = 4
"""A mutant that takes so many times as long as its tests did has been noticed: it hangs."""


@dataclass(frozen=True)
class Verdict:
    """What the tests said about a mutant: noticed, survived or never run."""

    mutant: Mutant
    outcome: str
    tests: int
    change: str

    @property
    def killed(self) -> bool:
        return self.outcome == "noticed"


def main() -> int:
    """Draw, try and report; returns the process's exit status."""
    args = _arguments()
    cover = args.coverage or Path(tempfile.mkdtemp(prefix="covered_"))
    if not (cover / "times.xml").exists():
        _cover(cover)
    covering = CoveringTests.read(cover / "coverage", cover / "times.xml", ROOT)
    earlier = _read(args.again) if args.again else []
    known = {verdict.mutant: verdict for verdict in earlier if verdict.killed}
    mutants = [v.mutant for v in earlier] or draw(ROOT, files(), args.count, args.seed)
    copies: Queue[Path] = Queue()
    for number in range(args.jobs):
        copies.put(_copy(cover / f"copy_{number}"))
    began = time.monotonic()

    def verdict(mutant: Mutant) -> Verdict:
        if mutant in known:
            return known[mutant]
        copy = copies.get()
        try:
            found = _try(mutant, covering, copy, args.seconds)
        finally:
            copies.put(copy)
        print(f"{found.outcome:9} {mutant.path}:{mutant.line} {mutant.operator}", flush=True)
        return found

    with ThreadPoolExecutor(args.jobs) as pool:
        verdicts = list(pool.map(verdict, mutants))
    _report(verdicts, args)
    print(f"{(time.monotonic() - began) / 60:.0f} minutes")
    return 0 if _score(verdicts) >= args.at_least else 1


def files() -> list[str]:
    """The files that mutants are drawn from."""
    found = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    names = [path.relative_to(ROOT).as_posix() for path in found]
    return [name for name in names if not any(part in name for part in NOT_SERVING)]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=300, help="mutants [300]")
    parser.add_argument("--seed", type=int, default=1, help="by which they are drawn [1]")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="at once [the cores]")
    parser.add_argument("--coverage", type=Path, help="folder that keeps the run with coverage")
    parser.add_argument(
        "--seconds", type=float, default=TEST_SECONDS, help="of tests for each [%(default)g]"
    )
    parser.add_argument("--again", type=Path, help="an --out of before: try its survivors again")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--at-least", type=float, default=0.0, help="exit with 1 below this share")
    return parser.parse_args()


def _cover(folder: Path) -> None:
    """Run the fast tests once, noting which lines each of them runs."""
    folder.mkdir(parents=True, exist_ok=True)
    print("running the tests once, with coverage", flush=True)
    packages = [f"--cov={package}" for package in ("shared_protocol", "cloud_server")]
    options = ["--cov-context=test", "--cov-report=", "-o", "junit_family=xunit1"]
    options.append(f"--junit-xml={folder / 'times.part'}")
    subprocess.run(
        [sys.executable, "-m", "pytest", *FAST, "tests", *packages, *options],
        cwd=ROOT,
        env=os.environ | {"COVERAGE_FILE": str(folder / "coverage")},
        check=False,
    )
    (folder / "times.part").rename(folder / "times.xml")


def _copy(folder: Path) -> Path:
    """The tracked files, and the decoder in C as it was built."""
    shutil.rmtree(folder, ignore_errors=True)
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    built = [path.relative_to(ROOT).as_posix() for path in ROOT.glob("shared_protocol/**/*.so")]
    for name in [*listed.stdout.splitlines(), *built]:
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def _read(file: Path) -> list[Verdict]:
    rows = json.loads(file.read_text(encoding="utf-8"))["mutants"]
    return [Verdict(**{**row, "mutant": Mutant(**row["mutant"])}) for row in rows]


def _try(mutant: Mutant, covering: CoveringTests, copy: Path, seconds: float) -> Verdict:
    source = (ROOT / mutant.path).read_text(encoding="utf-8")
    changed = mutant.changed(source)
    lines = difflib.unified_diff(source.splitlines(), changed.splitlines(), lineterm="", n=0)
    change = "\n".join(list(lines)[3:])
    tests = covering.within(covering.of_line(mutant.path, mutant.line), seconds)
    if not tests:
        return Verdict(mutant, "never run", 0, change)
    usual = 30 + sum(covering.seconds.get(test, 0.0) for test in tests)
    (copy / mutant.path).write_text(changed, encoding="utf-8")
    try:
        passed = _pass(tests, copy, usual * PATIENCE)
    finally:
        (copy / mutant.path).write_text(source, encoding="utf-8")
    return Verdict(mutant, "survived" if passed else "noticed", len(tests), change)


def _pass(tests: Sequence[str], copy: Path, patience: float) -> bool:
    environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [
        sys.executable,
        "-m",
        "pytest",
        *FAST,
        *HANGS,
        "-x",
        "--no-header",
        "--tb=no",
        *tests,
    ]
    try:
        done = subprocess.run(
            command, cwd=copy, env=environment, capture_output=True, timeout=patience, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def _score(verdicts: Sequence[Verdict]) -> float:
    return sum(verdict.killed for verdict in verdicts) / max(len(verdicts), 1)


def _report(verdicts: Sequence[Verdict], args: argparse.Namespace) -> None:
    for verdict in verdicts:
        if not verdict.killed:
            where = f"{verdict.mutant.path}:{verdict.mutant.line}"
            print(f"\n{verdict.outcome}: {where} ({verdict.tests} tests)\n{verdict.change}")
    print("\nnoticed  of  file")
    for path in sorted({verdict.mutant.path for verdict in verdicts}):
        here = [verdict for verdict in verdicts if verdict.mutant.path == path]
        print(f"{sum(v.killed for v in here):7} {len(here):3}  {path}")
    print(f"{_score(verdicts):.1%} of {len(verdicts)} mutants noticed (seed {args.seed})")
    if args.out:
        rows = [asdict(verdict) for verdict in verdicts]
        told = {"seed": args.seed, "score": _score(verdicts), "mutants": rows}
        args.out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
