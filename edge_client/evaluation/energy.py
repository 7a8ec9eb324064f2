"""What work on this machine takes: joules where the processor counts them, else CPU seconds alone.

Joules are those of Linux's powercap (RAPL): of the whole package, whatever else runs on it, which
is the server too where it shares the machine. CPU seconds are this process's own.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
MICRO = 1e-6


@dataclass
class Energy:
    """What a piece of work took.

    Args:
        cpu_seconds: of this process, all threads.
        joules: of the processor packages; None where they cannot be read.
        seconds: by the clock.
    """

    cpu_seconds: float = 0.0
    joules: float | None = None
    seconds: float = 0.0


def zones(root: Path = POWERCAP) -> list[Path]:
    """The processor packages whose counter can be read."""
    found = []
    for zone in sorted(root.glob("intel-rapl:*")):
        if zone.name.count(":") == 1 and _counter(zone) is not None:  # a second colon is a part
            found.append(zone)
    return found


def spent(before: Sequence[int], after: Sequence[int], ranges: Sequence[int]) -> float:
    """Joules between two readings of all packages, each of which may have begun anew once.

    >>> spent([10, 90], [30, 5], [100, 100])
    3.5e-05
    """
    pairs = zip(before, after, ranges, strict=True)
    return sum((b - a) if b >= a else (b - a + most) for a, b, most in pairs) * MICRO


@contextmanager
def measured(root: Path = POWERCAP) -> Iterator[Energy]:
    """Counts what is done inside; the values are there afterwards."""
    found, packages = Energy(), zones(root)
    before = [_counter(zone) or 0 for zone in packages]
    cpu, clock = time.process_time(), time.perf_counter()
    yield found
    found.cpu_seconds = time.process_time() - cpu
    found.seconds = time.perf_counter() - clock
    if packages:
        after = [_counter(zone) or 0 for zone in packages]
        ranges = [_number(zone / "max_energy_range_uj") or 2**32 for zone in packages]
        found.joules = spent(before, after, ranges)


def _counter(zone: Path) -> int | None:
    return _number(zone / "energy_uj")


def _number(path: Path) -> int | None:
    with suppress(OSError, ValueError):  # root's alone on most machines
        return int(path.read_text(encoding="ascii"))
    return None
