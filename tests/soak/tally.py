"""What happened to all requests of a soak: counted from many threads, printed as a table.

It does not know who asks nor what answers.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

COLUMNS = ("asked", "answered", "refused", "broken", "lost", "wrong")
"""Of each kind of client: `broken` are connections that a bad client, or a killed server, ended."""


@dataclass
class Tally:
    """Counts by kind of client, times of good answers, and what went wrong."""

    counts: dict[str, Counter[str]] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    calm: list[float] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, client: str, what: str, fault: str = "") -> None:
        """One more of `what` for a kind of client."""
        with self._lock:
            self.counts.setdefault(client, Counter())[what] += 1
            if fault:
                self.faults[f"{client}: {fault[:200]}"] += 1

    def took(self, seconds: float, calm: bool) -> None:
        """A good client waited so long for its answer; `calm` = the server lived all the time."""
        with self._lock:
            self.seconds.append(seconds)
            if calm:
                self.calm.append(seconds)

    def total(self, what: str) -> int:
        """The sum of a column."""
        return sum(counter[what] for counter in self.counts.values())

    def lines(self) -> list[str]:
        """The table."""
        rows = [f"{'client':<14}" + "".join(f"{name:>10}" for name in COLUMNS)]
        for client, counter in sorted(self.counts.items()):
            rows.append(f"{client:<14}" + "".join(f"{counter[name]:>10,}" for name in COLUMNS))
        for title, times in (("good answers", self.seconds), ("without a restart", self.calm)):
            if times:
                ordered = sorted(times)
                middle = ordered[len(ordered) // 2]
                late = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
                rows.append(
                    f"{title}: median {middle:.2f} s, 99 % within {late:.2f} s, "
                    f"slowest {ordered[-1]:.2f} s"
                )
        rows += [f"{number:>6} x {fault}" for fault, number in self.faults.most_common(12)]
        return rows


@dataclass
class Memory:
    """Resident megabytes and open files of a process over time.

    Attributes:
        first, last, most: megabytes at the start, at the end, and at any time.
        files: most open files.
    """

    first: int = 0
    last: int = 0
    most: int = 0
    files: int = 0

    def look(self, pid: int) -> None:
        """Look at a process now; one that is gone changes nothing."""
        try:
            status = Path(f"/proc/{pid}/status").read_text()
            files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        except OSError:
            return
        rows = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        if "VmRSS" not in rows:
            return
        self.last = int(rows["VmRSS"].split()[0]) // 1024
        self.first = self.first or self.last
        self.most, self.files = max(self.most, self.last), max(self.files, files)

    def __str__(self) -> str:
        return f"{self.first} MB at the start, {self.last} at the end, at most {self.most}"
