"""What an evaluation finds, as values: tables, plots and the sections that hold them.

It does not know how anything was measured, nor how it is shown; `output` and `plots` show it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from edge_client.pictures.contact_sheet import Tile

Cell = str | int | float | None
"""A number keeps its digits in the CSV and is rounded for people; None is "not available here"."""

__all__ = ["Cell", "Plot", "Section", "Series", "Table", "Tile"]


@dataclass(frozen=True)
class Table:
    """One table of results.

    Args:
        name: for files and the CSV, such as "t2i-rate".
        title: for people.
        columns: headings; a unit stands in the heading ("bpp up", "PSNR, dB").
        rows: one cell for each column.
        notes: what a reader must know to use the numbers, a sentence each.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        wrong = [row for row in self.rows if len(row) != len(self.columns)]
        if wrong:
            raise ValueError(f"{self.name}: {wrong[0]} does not fit {self.columns}")


@dataclass(frozen=True)
class Series:
    """One line, cloud of points or set of bars.

    Args:
        label: in the legend.
        x: places; words for bars.
        y: heights, as many as `x`.
        low, high: ends of intervals, as many as `y` (line only).
    """

    label: str
    x: Sequence[float | str]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


@dataclass(frozen=True)
class Plot:
    """One diagram.

    Args:
        name: of the file, without suffix.
        title, x_label, y_label: words with units.
        series: what is drawn; "stack" piles the bars of all series up.
        kind: "line" (with markers), "scatter", "bar" (side by side) or "stack".
    """

    name: str
    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    kind: Literal["line", "scatter", "bar", "stack"] = "line"


@dataclass(frozen=True)
class Section:
    """The results of one subcommand.

    Args:
        name: of the subcommand.
        title: for people.
        tables, plots: in their order.
        examples: rows of pictures for `qualitative.png`.
        notes: what could not be measured and why, a sentence each.
    """

    name: str
    title: str
    tables: tuple[Table, ...]
    plots: tuple[Plot, ...] = ()
    examples: tuple[tuple[Tile, ...], ...] = field(default=())
    notes: tuple[str, ...] = ()
