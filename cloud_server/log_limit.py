"""A log that nobody can fill a disk with: so many bytes a second, and how many lines were left out.

It does not know who logs what.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TextIO

_BURST_S = 20.0
"""Seconds whose share may come at once."""
_REPORT_S = 10.0


class LimitedHandler(logging.StreamHandler[TextIO]):
    """Writes lines as long as their bytes stay below a limit, on average; shared by all loggers.

    Args:
        stream: where to.
        bytes_per_s: the limit; 0 = none.
        clock: seconds, monotonic.
    """

    def __init__(
        self, stream: TextIO, bytes_per_s: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(stream)
        self._rate = bytes_per_s
        self._clock = clock
        self._room = bytes_per_s * _BURST_S
        self._at = clock()
        self._left_out = 0
        self._reported = clock()

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line, or count it among those that are left out."""
        if not self._rate:
            super().emit(record)
            return
        try:
            line = self.format(record)
        except Exception:
            self.handleError(record)
            return
        now = self._clock()
        self._room = min(self._rate * _BURST_S, self._room + (now - self._at) * self._rate)
        self._at = now
        if len(line) > self._room:
            self._left_out += 1
            self._report(now)
            return
        self._room -= len(line)
        self._report(now)
        self._write(line)

    def _report(self, now: float) -> None:
        if self._left_out and now - self._reported >= _REPORT_S:
            said = f"{self._left_out} lines of log were left out: over {self._rate} bytes/s"
            about = {"name": __name__, "levelno": logging.WARNING, "levelname": "WARNING"}
            self._write(self.format(logging.makeLogRecord({**about, "msg": said})))
            self._left_out, self._reported = 0, now

    def _write(self, line: str) -> None:
        try:
            self.stream.write(line + self.terminator)
            self.flush()
        except (OSError, ValueError):
            pass  # nobody reads it
