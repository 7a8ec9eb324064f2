"""Very many messages through every coder and back; prints rates, mismatches and memory.

python tests/soak/coders.py --toy 1000000 --builtin 10000
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
for folder in (ROOT, ROOT / "tests" / "fakes", ROOT / "tests" / "soak"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

import numpy as np  # noqa: E402 - the project is reachable only now
from round_trips import Kind, checked, kinds  # noqa: E402
from toy_bundle import ToyBundle, ToyEntropy  # noqa: E402

from shared_protocol.coding.image_codec import CodingContext  # noqa: E402
from shared_protocol.selfcheck.trials import Trials, with_models  # noqa: E402
from shared_protocol.tasks import Scenario  # noqa: E402

MEGABYTE = 1 << 20


class MeasuredToy(ToyEntropy):
    """The toy model, with the ideal lengths that `Trials` compares with."""

    def code_length(self, scenario: Scenario, codes: Any, context: CodingContext) -> float:
        rows = self.intervals(scenario, codes, context)
        return float(np.log2(rows[:, 2] / rows[:, 1]).sum())


@dataclass
class Row:
    """What came of one kind of messages."""

    bundle: str
    kind: str
    messages: int = 0
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)
    start: int = 0
    end: int = 0

    def __str__(self) -> str:
        rate = self.messages / max(self.seconds, 1e-9)
        return (
            f"{self.bundle:<8} {self.kind:<26}{self.messages:>11,}{rate:>10,.0f}"
            f"{len(self.faults):>12}{self.start:>10}{self.end:>8}"
        )


HEAD = (
    f"{'bundle':<8} {'kind':<26}{'messages':>11}{'a second':>10}{'mismatches':>12}"
    f"{'MB before':>10}{'after':>8}"
)


@cache
def ways_of(name: str, seed: int) -> list[Kind]:
    """The kinds of messages of a bundle."""
    if name == "toy":
        toy: Any = ToyBundle(entropy=MeasuredToy())
        return kinds(toy, Trials(with_models(toy, toy.entropy), seed=seed))
    from shared_protocol.bundles.find import load_bundle

    bundle: Any = load_bundle()
    return kinds(bundle, Trials(with_models(bundle, bundle.entropy), seed=seed))


def run_kind(name: str, place: int, messages: int, seed: int, share: tuple[int, int]) -> Row:
    """About `messages` messages of one kind, of which this process does every `share[1]`-th."""
    kind = ways_of(name, seed)[place]
    row = Row(name, kind.name)
    trips = -(-messages // kind.messages)
    numbers = range(share[0], trips, share[1])
    for number in list(numbers)[:3]:
        checked(kind, number)  # what is loaded once is loaded now
    row.start, began = _megabytes(), time.monotonic()
    for number in numbers:
        fault = checked(kind, number)
        row.faults += [fault] if fault else []
        row.messages += kind.messages
    row.seconds, row.end = time.monotonic() - began, _megabytes()
    return row


def _megabytes() -> int:
    """Resident memory of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) // 1024
    return 0


def joined(rows: Sequence[Row]) -> Row:
    """The work of several processes beside each other as one row."""
    whole = Row(rows[0].bundle, rows[0].kind)
    whole.messages = sum(row.messages for row in rows)
    whole.seconds = max(row.seconds for row in rows)
    whole.faults = [fault for row in rows for fault in row.faults]
    whole.start, whole.end = max(r.start for r in rows), max(r.end for r in rows)
    return whole


def soaked(name: str, messages: int, seed: int, jobs: int) -> Iterator[Row]:
    """A row for each kind; together about `messages` messages of a bundle."""
    count = len(ways_of(name, seed))
    each = -(-messages // count)
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for place in range(count):
            parts = [
                pool.submit(run_kind, name, place, each, seed, (job, jobs)) for job in range(jobs)
            ]
            yield joined([part.result() for part in parts])


def main(argv: Sequence[str] | None = None) -> int:
    """Soak; 1 if anything came back otherwise."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--toy", type=int, default=1_000_000, help="messages [%(default)s]")
    parser.add_argument("--builtin", type=int, default=10_000, help="messages [%(default)s]")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="[the time]")
    parser.add_argument("--jobs", type=int, default=2, help="processes [%(default)s]")
    args = parser.parse_args(argv)
    print(f"seed {args.seed}\n{HEAD}", flush=True)
    total, faults = 0, 0
    for name, messages in (("toy", args.toy), ("builtin", args.builtin)):
        for row in soaked(name, messages, args.seed, args.jobs) if messages else ():
            print(row, flush=True)
            for fault in row.faults[:5]:
                print(f"  {fault}", flush=True)
            total, faults = total + row.messages, faults + len(row.faults)
    print(f"{total:,} messages, {faults} mismatches")
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
