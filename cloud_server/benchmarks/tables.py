"""What a report is made of: tables, sections that may fail, and the machine they were measured on.

It does not know what is measured.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import torch

ROOT = Path(__file__).parents[2]
PACKAGES = ("torch", "transformers", "numpy", "triton")
T = TypeVar("T")
Cell = str | float | int | bool | None


@dataclass(frozen=True)
class Setup:
    """Where to measure, and how much.

    Attributes:
        device: "cuda" or "cpu".
        small: toy sizes, which show that a section runs and nothing more.
    """

    device: str
    small: bool

    @property
    def on_gpu(self) -> bool:
        return self.device != "cpu"

    @property
    def devices(self) -> tuple[str, ...]:
        """The processor, and the GPU where there is one."""
        return ("cpu", self.device) if self.on_gpu else ("cpu",)


@dataclass(frozen=True)
class Table:
    """Rows under a heading.

    Attributes:
        title: what is measured, and in which unit.
        columns: names.
        rows: of as many cells each; None = not measured.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    def markdown(self) -> str:
        lines = [self.columns, ["---", *["---:"] * (len(self.columns) - 1)], *self.rows]
        body = "".join("| " + " | ".join(map(_shown, line)) + " |\n" for line in lines)
        return f"{self.title}\n\n{body}"


Measure = Callable[[Setup], Iterator[Table]]


class PartlyFailedError(RuntimeError):
    """Some measurements of a part failed; the tables say which."""


class Attempts:
    """Measurements of which each may fail without ending the others."""

    def __init__(self) -> None:
        self._faults: list[str] = []

    def of(self, what: str, work: Callable[[], T]) -> T | None:
        """What the work gives; None if it fails, which is noted."""
        try:
            return work()
        except Exception as error:
            traceback.print_exc()
            self._faults.append(f"{what}: {_told(error)}")
            return None

    def finish(self) -> None:
        """Say what failed, if anything did.

        Raises:
            PartlyFailedError: something did.
        """
        if self._faults:
            raise PartlyFailedError("; ".join(self._faults))


@dataclass
class Section:
    """One part of a report.

    Attributes:
        name: of the part.
        tables: those that were finished.
        error: what ended it early; None = it is whole.
        seconds: that it took.
    """

    name: str
    tables: list[Table] = field(default_factory=list)
    error: str | None = None
    seconds: float = 0.0

    @classmethod
    def measured(cls, name: str, measure: Measure, setup: Setup) -> Section:
        """Run a part; whatever it raises is noted, so that the others still run."""
        section, began = cls(name), time.monotonic()
        try:
            for table in measure(setup):
                section.tables.append(table)
        except Exception as error:
            section.error = _told(error)
            traceback.print_exc()
        section.seconds = round(time.monotonic() - began, 1)
        return section

    def markdown(self) -> str:
        state = "whole" if self.error is None else f"FAILED: {self.error}"
        tables = "\n".join(table.markdown() for table in self.tables)
        return f"## {self.name}\n\n{self.seconds:.0f} s, {state}\n\n{tables}"


@dataclass(frozen=True)
class Report:
    """What was measured, and on what."""

    title: str
    machine: dict[str, str]
    sections: list[Section]

    @property
    def failed(self) -> list[str]:
        """Names of the sections that are not whole."""
        return [section.name for section in self.sections if section.error is not None]

    def markdown(self) -> str:
        about = "".join(f"| {name} | {value} |\n" for name, value in self.machine.items())
        parts = "\n".join(section.markdown() for section in self.sections)
        return f"# {self.title}\n\n| | |\n| --- | --- |\n{about}\n{parts}"

    def write(self, folder: Path, stem: str) -> list[Path]:
        """STEM.json and STEM.md in a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        data, page = folder / f"{stem}.json", folder / f"{stem}.md"
        data.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
        page.write_text(self.markdown(), encoding="utf-8")
        return [data, page]


def machine(setup: Setup) -> dict[str, str]:
    """What a number depends on: device, processor, versions, date and commit."""
    about = {
        "date": time.strftime("%Y-%m-%d"),
        "commit": commit(),
        "GPU": _gpu(setup),
        "processor": f"{os.cpu_count()} cores, {platform.machine()}",
        "Python": platform.python_version(),
    }
    return about | {name: _version(name) for name in PACKAGES}


def commit() -> str:
    """Of this checkout, from `UNIMIC_COMMIT` where the history is elsewhere."""
    if named := os.environ.get("UNIMIC_COMMIT"):
        return named
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude", "*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def _told(error: Exception) -> str:
    if isinstance(error, PartlyFailedError):
        return str(error)
    where = traceback.extract_tb(error.__traceback__)[-1]
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]} ({Path(where.filename).name}:{where.lineno})"


def _gpu(setup: Setup) -> str:
    if not setup.on_gpu:
        return "none"
    about = torch.cuda.get_device_properties(setup.device)
    return f"{about.name}, {about.total_memory / (1 << 30):.0f} GiB, CUDA {torch.version.cuda}"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _shown(cell: Any) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, bool):
        return "yes" if cell else "NO"
    if isinstance(cell, float):
        return f"{cell:.3g}" if abs(cell) < 100 else f"{cell:.0f}"
    return str(cell)


def say(text: str) -> None:
    """Print at once, so that a run that is broken off has told what it knew."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def seconds(work: Callable[[], object], setup: Setup, rounds: int = 1) -> float:
    """The best time of some rounds, by the clock, until the GPU is done."""
    taken = []
    for _ in range(rounds):
        wait(setup)
        began = time.perf_counter()
        work()
        wait(setup)
        taken.append(time.perf_counter() - began)
    return min(taken)


def wait(setup: Setup) -> None:
    """Until the GPU has done what it was told."""
    if setup.on_gpu:
        torch.cuda.synchronize(setup.device)
