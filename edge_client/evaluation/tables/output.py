"""Writes what an evaluation found: results.csv, results.md, plots and a sheet of examples.

It does not know how anything was measured. Every section is kept as JSON of its own, so that
`evaluate` may be run section by section and the files always show all that there is.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edge_client.evaluation.metrics.wanted import wanted, wanted_file
from edge_client.evaluation.tables.plots import draw
from edge_client.evaluation.tables.results import Cell, Plot, Section, Series, Table
from edge_client.pictures.contact_sheet import Tile, contact_sheet
from edge_client.pictures.outputs import save_picture
from edge_client.report import table as aligned
from shared_protocol.errors import ConfigError

SECTIONS = "sections"
MISSING = "not available here"
LEGEND = (
    '"–" does not apply, or needs more pictures: Frechet distance, FID and interval need two. '
    '"not available here" names the file that is missing; PAPERS.md of the evaluation says '
    "which table is which of the papers'."
)
MAX_EXAMPLES = 4
"""Rows of pictures that a section may have on the sheet."""
CSV_COLUMNS = ("section", "table", "row", "label", "column", "value")

Facts = Mapping[str, str]
"""What a reader must know of a run: commit, bundle, hardware, command, by name."""


def keep_section(section: Section, facts: Facts, out: Path) -> None:
    """Store a section and what it was measured with in `out`."""
    folder = out / SECTIONS
    folder.mkdir(parents=True, exist_ok=True)
    content = {"facts": dict(facts), "section": as_data(section)}
    text = json.dumps(content, ensure_ascii=False, indent=1)
    (folder / f"{section.name}.json").write_text(text + "\n", encoding="utf-8")


def as_data(section: Section) -> dict[str, Any]:
    """A section as JSON-ready data; paths become words."""
    found: dict[str, Any] = json.loads(json.dumps(asdict(section), default=str))
    return found


def kept_sections(out: Path, order: Sequence[str]) -> list[tuple[Section, dict[str, str]]]:
    """All sections in `out` with their facts, in the given order of names.

    Raises:
        ConfigError: a file is not one that `keep_section` wrote.
    """
    found = []
    for name in order:
        path = out / SECTIONS / f"{name}.json"
        if path.is_file():
            try:
                content = json.loads(path.read_text(encoding="utf-8"))
                found.append((_section(content["section"]), dict(content["facts"])))
            except (ValueError, KeyError, TypeError) as error:
                raise ConfigError(f"{path} holds no section: {error}", "remove it") from error
    return found


def _section(content: Mapping[str, Any]) -> Section:
    return Section(
        name=content["name"],
        title=content["title"],
        tables=tuple(_table(entry) for entry in content["tables"]),
        plots=tuple(_plot(entry) for entry in content["plots"]),
        examples=tuple(
            tuple(Tile(Path(t["path"]), t["caption"], t["span"]) for t in row)
            for row in content["examples"]
        ),
        notes=tuple(content["notes"]),
    )


def _table(content: Mapping[str, Any]) -> Table:
    rows = tuple(tuple(row) for row in content["rows"])
    columns, notes = tuple(content["columns"]), tuple(content["notes"])
    return Table(content["name"], content["title"], columns, rows, notes)


def _plot(content: Mapping[str, Any]) -> Plot:
    series = tuple(Series(**entry) for entry in content["series"])
    return Plot(**{**content, "series": series})


def write_results(out: Path, order: Sequence[str]) -> list[str]:
    """Write all files from the sections in `out`, and return what could not be written and why."""
    kept = kept_sections(out, order)
    sections = [section for section, _ in kept]
    missing = draw([plot for section in sections for plot in section.plots], out / "plots")
    rows = [row for section in sections for row in section.examples[:MAX_EXAMPLES] if row]
    if rows:
        save_picture(out / "qualitative.png", contact_sheet(rows))
    with (out / "results.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(CSV_COLUMNS)
        writer.writerows(csv_rows(sections))
    text = markdown(kept, out, pictures=bool(rows))
    (out / "results.md").write_text(text, encoding="utf-8")
    return missing


def csv_rows(sections: Sequence[Section]) -> list[tuple[str | int | float, ...]]:
    """One row for each cell, see `CSV_COLUMNS`; numbers with all their digits."""
    return [
        (section.name, table.name, number, str(row[0]), column, _known(cell, column))
        for section in sections
        for table in section.tables
        for number, row in enumerate(table.rows, 1)
        for column, cell in zip(table.columns, row, strict=True)
    ]


def _known(cell: Cell, column: str) -> str | int | float:
    """A cell with all its digits, or which file it lacks."""
    return shown(cell, column) if cell is None else cell


def markdown(kept: Sequence[tuple[Section, Facts]], out: Path, pictures: bool = False) -> str:
    """All sections under one heading each, with the facts of its run."""
    lines = ["# Evaluation", "", LEGEND, ""]
    for section, facts in kept:
        lines += [f"## {section.title}", ""]
        lines += [f"* {name}: {value}" for name, value in facts.items()] + [""]
        for table in section.tables:
            lines += [f"### {table.title}", "", *_markdown_table(table), ""]
            notes = [*table.notes, *missing_notes(table)]
            lines += [f"* {note}" for note in notes] + [""] * bool(notes)
        drawn = [plot for plot in section.plots if (out / "plots" / f"{plot.name}.png").is_file()]
        for plot in drawn:
            lines += [f"![{plot.title}](plots/{plot.name}.png)", ""]
        lines += [f"* {note}" for note in section.notes] + [""] * bool(section.notes)
    if pictures:
        lines += ["## Examples", "", "![examples](qualitative.png)", ""]
    return "\n".join(lines)


def _markdown_table(table: Table) -> list[str]:
    words = [isinstance(cell, str) for cell in table.rows[0]] if table.rows else []
    rule = ["---" if word else "---:" for word in words] or ["---"] * len(table.columns)
    rows = [table.columns, rule, *_shown_rows(table)]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]


def terminal(section: Section) -> str:
    """The tables of a section for a terminal."""
    parts = [section.title]
    for table in section.tables:
        rows = _shown_rows(table)
        words = [isinstance(cell, str) for cell in table.rows[0]] if table.rows else [True]
        left = words.index(False) if False in words else len(words)
        parts.append("\n".join([table.title, aligned(table.columns, rows, left=left)]))
        parts += [f"  {note}" for note in (*table.notes, *missing_notes(table))]
    return "\n\n".join([*parts, *section.notes])


def _shown_rows(table: Table) -> list[list[str]]:
    return [
        [shown(cell, column) for cell, column in zip(row, table.columns, strict=True)]
        for row in table.rows
    ]


def missing_notes(table: Table) -> list[str]:
    """What each column with a cell that is not available wants, a sentence each."""
    gaps = [any(row[place] is None for row in table.rows) for place in range(len(table.columns))]
    empty = [column for column, gap in zip(table.columns, gaps, strict=True) if gap]
    return [
        f"{column}: {MISSING}; it wants {what}." for column in empty if (what := wanted(column))
    ]


def shown(cell: Cell, column: str = "") -> str:
    """A cell for people: numbers to four significant digits; of a missing one, the file it wants.

    >>> shown(0.0296412), shown(31.81), shown(12), shown(None), shown(8192.0)
    ('0.02964', '31.81', '12', 'not available here', '8192')
    >>> shown(None, "LPIPS up")
    'not available here: alexnet-owt-7be5be79.pth'
    """
    if cell is None:
        file = wanted_file(column)
        return f"{MISSING}: {file}" if file else MISSING
    if isinstance(cell, float):
        return f"{cell:.0f}" if abs(cell) >= 1000 else f"{cell:.4g}"
    return str(cell)
