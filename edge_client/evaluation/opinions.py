"""Opinion scores of a file of ratings, and how metrics agree with them, as a table.

::

    python -m edge_client.evaluation.opinions RATINGS.csv

Each line of the file is one picture. Columns whose name begins with "viewer" are ratings, "session"
says when it was shown, "image" names it; every other column is a metric, and gets its SRCC and KRCC
with the opinion scores (as in CMC-Bench's Table 2).
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edge_client.evaluation.metrics.opinions import krcc, mos, outliers, srcc
from edge_client.report import table
from shared_protocol.errors import ConfigError, UnimicError

_KNOWN = ("image", "session")


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = argparse.ArgumentParser(
        prog="python -m edge_client.evaluation.opinions",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("ratings", type=Path, help="a CSV file with a heading")
    return made


def report(path: Path) -> str:
    """The tables of a file of ratings.

    Raises:
        ConfigError: it is none.
        InvalidInputError: its ratings give no scores.
    """
    rows = _rows(path)
    viewers = [name for name in rows[0] if name.startswith("viewer")]
    if not viewers:
        raise ConfigError(f"{path} has no column that begins with 'viewer'", "name them so")
    ratings = np.array([[_number(path, row, name) for name in viewers] for row in rows])
    sessions = [int(_number(path, row, "session")) if "session" in row else 0 for row in rows]
    scores = mos(ratings, sessions)
    gone = ", ".join(viewers[index] for index in outliers(ratings)) or "none"
    listed = [
        [row.get("image") or str(n), f"{score:.3f}"]
        for n, (row, score) in enumerate(zip(rows, scores, strict=True), 1)
    ]
    parts = [f"outliers: {gone}", table(["image", "MOS"], listed)]
    metrics = [name for name in rows[0] if name not in (*_KNOWN, *viewers)]
    if metrics:
        values = {name: [_number(path, row, name) for row in rows] for name in metrics}
        lines = [
            [name, f"{srcc(found, scores.tolist()):.3f}", f"{krcc(found, scores.tolist()):.3f}"]
            for name, found in values.items()
        ]
        parts.append(table(["metric", "SRCC", "KRCC"], lines))
    return "\n\n".join(parts)


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise ConfigError(f"cannot read {path}: {error}", "name a CSV file") from error
    if not rows:
        raise ConfigError(f"{path} holds no rating", "write one picture a line")
    return rows


def _number(path: Path, row: dict[str, str], name: str) -> float:
    try:
        return float(row[name])
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{path}: {row[name]!r} in column {name} is no number", "mend it") from (
            error
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables."""
    given = parser().parse_args(arguments)
    try:
        sys.stdout.write(report(given.ratings) + "\n")
    except UnimicError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
