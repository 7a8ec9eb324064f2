"""Which tests run a line of the code, and how long each takes; read from a run with coverage.

Knows coverage's data file and pytest's report of times; runs nothing.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

from coverage import CoverageData

OF_ALL_MODULES = "tests/unit/test_values.py"
"""Looks at what every module defines, so it runs no line of theirs that coverage would note."""


@dataclass(frozen=True)
class CoveringTests:
    """Of each line the tests that run it.

    Attributes:
        data: of a run with one context a test.
        seconds: by the name of a test.
        root: that the names of files begin at.
    """

    data: CoverageData
    seconds: dict[str, float]
    root: Path

    @classmethod
    def read(cls, data_file: Path, times: Path, root: Path) -> CoveringTests:
        """Read what `pytest --cov-context=test --junit-xml` wrote."""
        data = CoverageData(str(data_file))
        data.read()
        seconds = {
            f"{case.get('file')}::{case.get('name')}": float(case.get("time", "0"))
            for case in ElementTree.parse(times).iter("testcase")
        }
        return cls(data, seconds, root)

    def of_line(self, path: str, line: int) -> list[str]:
        """Tests that run the line, quickest first; for a line that runs at import, the file's."""
        by_line = self.data.contexts_by_lineno(str(self.root / path))
        found = _tests(by_line.get(line, []))
        if not found and line in by_line:
            found = {test for contexts in by_line.values() for test in _tests(contexts)}
            found.add(OF_ALL_MODULES)
        return sorted(found, key=lambda test: (self.seconds.get(test, 0.0), test))

    def within(self, tests: list[str], seconds: float) -> list[str]:
        """As many of the tests, in order, as run in so many seconds; one at least."""
        chosen: list[str] = []
        for test in tests:
            seconds -= self.seconds.get(test, 0.0)
            if chosen and seconds < 0:
                break
            chosen.append(test)
        return chosen


def _tests(contexts: list[str]) -> set[str]:
    return {context.partition("|")[0] for context in contexts if context}
