"""Judges one input of a target: refused or accepted is well, all else is a finding.

It does not know where inputs come from.
"""

from __future__ import annotations

import gc
import os
import resource
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

from targets.target import Read, Target

_PAGE = os.sysconf("SC_PAGE_SIZE")
_MEGABYTE = 1 << 20
_ROOMS = ("shared_protocol", "edge_client", "cloud_server")
SPARE_BYTES = 6 << 30
"""Address space that one input may take before the system refuses: it spares the machine."""


@dataclass(frozen=True)
class Finding:
    """An input that a reader should have refused, or accepted, and did neither.

    Args:
        kind: the exception's class, "slow" or "memory".
        where: the last line of the project that was reached, or nothing.
        detail: what to show of it.
    """

    kind: str
    where: str
    detail: str

    @property
    def name(self) -> str:
        """One name for findings that are alike, fit for a file."""
        place = self.where.replace("/", ".").replace(":", "-")
        return f"{self.kind}-{place}" if place else self.kind


class Judge:
    """Reads inputs one by one and says which are findings.

    Args:
        target: whose inputs they are.
        read: what its `prepare` gave.
    """

    def __init__(self, target: Target, read: Read) -> None:
        self._target = target
        self._read = read
        self.accepted = 0

    def close(self) -> None:
        """Let go of what the reader holds, if it holds anything."""
        getattr(self._read, "close", lambda: None)()

    def __call__(self, data: bytes) -> Finding | None:
        """What is wrong with how `data` was read; None = nothing."""
        before, peak, began = _memory_now(), _memory_peak(), time.process_time()
        found = self._outcome(data)
        seconds, grown = time.process_time() - began, _memory_peak()
        if found is not None:
            return found
        if seconds > self._target.seconds:
            return Finding("slow", "", f"{seconds:.1f} s of processor time")
        taken = (grown - before) // _MEGABYTE
        if grown > peak and taken > self._target.megabytes:
            gc.collect()
            return Finding("memory", "", f"{taken:,} MB of memory")
        return None

    def _outcome(self, data: bytes) -> Finding | None:
        try:
            self._read(data)
        except self._target.errors:
            return None
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a panic of a Rust library is no Exception
            return Finding(type(error).__name__, _where(error), traceback.format_exc())
        self.accepted += 1
        return None


def limit_memory() -> None:
    """Let the system refuse memory far beyond what any input may take."""
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * _PAGE
    resource.setrlimit(resource.RLIMIT_AS, (taken + SPARE_BYTES, resource.RLIM_INFINITY))


def _memory_now() -> int:
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * _PAGE


def _memory_peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _where(error: BaseException) -> str:
    """The last line of the project that a traceback reached, as room/module.py:line."""
    place = ""
    for frame in traceback.extract_tb(error.__traceback__):
        parts = Path(frame.filename).parts
        for room in _ROOMS:
            if room in parts:
                at = len(parts) - 1 - parts[::-1].index(room)
                place = f"{'/'.join(parts[at:])}:{frame.lineno}"
    return place
