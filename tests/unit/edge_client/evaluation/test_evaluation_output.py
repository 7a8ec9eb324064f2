"""Tables as Markdown, CSV and on a terminal; plots as files; what a run was made with."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from edge_fakes import FakeBundle
from PIL import Image

from edge_client.evaluation.metrics.wanted import INCEPTION_FILE
from edge_client.evaluation.surroundings import surroundings
from edge_client.evaluation.tables import output, plots
from edge_client.evaluation.tables.output import (
    csv_rows,
    keep_section,
    kept_sections,
    markdown,
    terminal,
    write_results,
)
from edge_client.evaluation.tables.results import Plot, Section, Series, Table, Tile
from edge_client.pictures.outputs import save_picture
from shared_protocol.errors import ConfigError

TABLE = Table(
    "rate",
    "What it costs",
    ("part", "bytes", "FID"),
    (("text|raw", 12, None), ("image", 0.029641, "–")),
    ("A note.",),
)
LINES = Plot("curve", "A curve", "bytes", "dB", (Series("a", [1, 2], [3, 4], [2, 3], [4, 5]),))
STACK = Plot(
    "stack",
    "Bytes",
    "way",
    "bytes",
    (Series("text", ["up", "down"], [3, 4]), Series("image", ["up"], [9])),
    "stack",
)


def section(folder: Path, name: str = "t2i") -> Section:
    save_picture(folder / "a.png", np.zeros((32, 32, 3), dtype=np.uint8))
    tile = Tile(folder / "a.png", "a fox")
    return Section(name, name.upper(), (TABLE,), (LINES, STACK), ((tile,),), ("Beware.",))


def test_a_section_comes_back_as_it_was_kept(tmp_path: Path) -> None:
    kept = section(tmp_path)
    keep_section(kept, {"code": "1"}, tmp_path)
    assert kept_sections(tmp_path, ["vqa", "t2i"]) == [(kept, {"code": "1"})]


def test_a_damaged_section_is_named(tmp_path: Path) -> None:
    keep_section(section(tmp_path), {}, tmp_path)
    (tmp_path / "sections" / "t2i.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"t2i\.json holds no section"):
        kept_sections(tmp_path, ["t2i"])


def test_the_csv_keeps_all_digits_and_names_every_cell(tmp_path: Path) -> None:
    rows = csv_rows([section(tmp_path)])
    assert ("t2i", "rate", 1, "text|raw", "bytes", 12) in rows
    assert ("t2i", "rate", 1, "text|raw", "FID", f"not available here: {INCEPTION_FILE}") in rows
    assert ("t2i", "rate", 2, "image", "bytes", 0.029641) in rows
    assert len(rows) == 6


def test_markdown_and_terminal_round_and_say_what_is_missing(tmp_path: Path) -> None:
    text = markdown([(section(tmp_path), {"command": "x"})], tmp_path)
    assert f"| text\\|raw | 12 | not available here: {INCEPTION_FILE} |" in text
    assert f"* FID: not available here; it wants {INCEPTION_FILE} in torch's hub" in text
    assert "| image | 0.02964 | – |" in text
    assert "* command: x" in text
    assert "* A note." in text
    assert "curve.png" not in text  # nothing was drawn yet
    shown = terminal(section(tmp_path))
    assert "What it costs" in shown
    assert "0.02964" in shown


def test_sections_of_several_runs_are_written_together(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for name in ("vqa", "t2i"):
        keep_section(section(tmp_path, name), {}, tmp_path)
        assert write_results(tmp_path, ["t2i", "vqa"]) == []
    text = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert text.index("## T2I") < text.index("## VQA")
    assert "![A curve](plots/curve.png)" in text
    for name in ("plots/curve.png", "plots/stack.png", "qualitative.png"):
        with Image.open(tmp_path / name) as picture:
            assert min(picture.size) > 50
    lines = (tmp_path / "results.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == ",".join(output.CSV_COLUMNS)
    assert len(lines) == 1 + 2 * 6


def test_plots_need_matplotlib_and_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots.importlib.util, "find_spec", lambda _: None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    (fault,) = plots.draw([LINES], tmp_path)
    assert "unimic[bench]" in fault
    assert plots.draw([], tmp_path) == []


def test_a_table_with_a_row_of_another_length_is_a_fault() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        Table("a", "A", ("x", "y"), ((1,),))


def test_a_run_names_its_code_bundle_machine_and_server() -> None:
    found = surroundings(FakeBundle(), {"device": "cpu", "other": 1}, "edge-client evaluate t2i")
    assert found["command"] == "edge-client evaluate t2i"
    assert found["bundle"] == f"fake, fingerprint {bytes(32).hex()}"
    assert found["server"] == "device cpu"
    assert found["code"].startswith(("commit ", "unimic "))
    assert "cores of" in found["client"]
