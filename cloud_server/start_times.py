"""Where the time goes until a server is ready, as a table: `cloud-server --timings`.

It does not know what is done in any part.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from pathlib import Path

_CLOCK_TICKS = 100
"""Of /proc, a second, on every Linux that there is a wheel for."""


class StartTimes:
    """Seconds by part, in the order in which the parts began.

    Args:
        started: when the process began, by `time.monotonic`; None = as the system says it.
    """

    def __init__(self, started: float | None = None) -> None:
        now = time.monotonic()
        self._started = now - _age() if started is None else started
        self._parts: dict[str, float] = {"interpreter and flags": now - self._started}

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Time a part."""
        began = time.monotonic()
        self._parts[part] = 0.0
        try:
            yield
        finally:
            self._parts[part] = time.monotonic() - began

    def table(self) -> str:
        """All parts, what lies between them, and the sum, until now."""
        total = time.monotonic() - self._started
        rest = max(0.0, total - sum(self._parts.values()))
        rows = [*self._parts.items(), ("listening, and all else", rest), ("ready", total)]
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:{width}}  {seconds:7.2f} s" for name, seconds in rows)


TIMES: ContextVar[StartTimes | None] = ContextVar("start_times", default=None)
"""Those of this start; None = nobody asks."""


@contextmanager
def timed(part: str) -> Iterator[None]:
    """Time a part of this start, if somebody asks."""
    times = TIMES.get()
    with nullcontext() if times is None else times(part):
        yield


def _age() -> float:
    """Seconds since this process began; 0 where the system does not say it."""
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        up = float(Path("/proc/uptime").read_text().split()[0])
        return max(0.0, up - int(fields[19]) / _CLOCK_TICKS)
    except (OSError, ValueError, IndexError):
        return 0.0
