"""The demonstration: what it asks, what it writes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edge_fakes import FakeBundle, FakeCloud

from edge_client import demo
from edge_client.client import EdgeClient
from edge_client.pictures.images import load_picture
from edge_client.pictures.outputs import save_picture
from edge_client.report import interaction_report
from shared_protocol.errors import ConfigError
from shared_protocol.tasks import Extension

GREY = np.full((64, 64, 3), 77, dtype=np.uint8)


@pytest.mark.parametrize(
    ("task", "sample", "words"),
    [
        ("t2i", {"prompt": "a fox", "seed": 4}, ["t2i", "a fox", "--seed", "4", "-o", "x.png"]),
        (
            "inpaint",
            {"image": "a.webp", "box": [1, 2, 3, 4], "prompt": "a ball"},
            ["inpaint", "/s/a.webp", "a ball", "--box", "1,2,3,4", "-o", "x.png"],
        ),
        (
            "inpaint",
            {"image": "a.webp", "mask": "m.png", "prompt": "a ball"},
            ["inpaint", "/s/a.webp", "a ball", "--mask", "/s/m.png", "-o", "x.png"],
        ),
        (
            "outpaint",
            {"image": "a.webp", "left": 8, "down": 2, "prompt": "a beach"},
            ["outpaint", "/s/a.webp", "a beach", "--left", "8", "--down", "2", "-o", "x.png"],
        ),
        ("vqa", {"image": "a.webp", "question": "how many?"}, ["vqa", "/s/a.webp", "how many?"]),
    ],
)
def test_a_sample_becomes_the_command_of_a_user(
    task: str, sample: dict[str, Any], words: list[str]
) -> None:
    assert demo.command_words(task, sample, Path("/s"), "x.png") == words


def test_a_missing_manifest_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"manifest\.json.*--samples"):
        demo.read_samples(tmp_path)


@pytest.fixture
def runs(tmp_path: Path) -> list[demo.Run]:
    """One run of each kind, with the pictures that they would have written."""
    save_picture(tmp_path / "scene.png", GREY)
    session = EdgeClient(FakeBundle(), FakeCloud(FakeBundle()))
    made = {**interaction_report(session.t2i("a fox")), "output": "t2i1.png"}
    wide = interaction_report(session.outpaint(GREY, Extension(left=4), "a beach"))
    answered = interaction_report(session.vqa(GREY, "how many?"))
    save_picture(tmp_path / "t2i1.png", GREY)
    save_picture(tmp_path / "wide.png", np.hstack([GREY, GREY]))
    scene = tmp_path / "scene.png"
    failed = {"error": {"message": "the queue is full"}}
    return [
        demo.Run("t2i", ["t2i", "a fox", "-o", "t2i1.png"], None, made, 2.0),
        demo.Run("outpaint", ["outpaint", "s", "b"], scene, {**wide, "output": "wide.png"}, 3.0),
        demo.Run("vqa", ["vqa", "s", "how many?"], scene, {**answered, "answer": "two"}, 1.0),
        demo.Run("vqa", ["vqa", "s", "where?"], scene, failed, 1.0),
    ]


def test_the_report_has_a_row_for_each_way_and_names_failures(runs: list[demo.Run]) -> None:
    text = demo.markdown(runs)
    assert text.count("| uplink |") == text.count("| downlink |") == 3
    assert '`edge-client t2i "a fox" -o t2i1.png` → t2i1.png' in text
    assert "FAILED: the queue is full" in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in tables[:8]}) == 1


def test_the_contact_sheet_gives_an_extended_picture_more_room(
    runs: list[demo.Run], tmp_path: Path
) -> None:
    demo._write_sheet(runs, tmp_path / "sheet.png")
    width, height = load_picture(tmp_path / "sheet.png", 256, 256).geometry.source
    assert width == 16 + 3 * 272
    assert height == 16 + 3 * 326


def test_a_whole_demonstration_runs_every_sample_and_fails_if_one_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, runs: list[demo.Run]
) -> None:
    script = tmp_path / "client.py"
    report = {**runs[0].report, "answer": "two"}
    script.write_text(
        "import sys, json\n"
        "if 'bad' in sys.argv: print('error: no', file=sys.stderr); sys.exit(1)\n"
        f"print(json.dumps({report!r}))\n"
    )
    program = [sys.executable, str(script)]
    monkeypatch.setattr(demo, "program", lambda name, module: program)
    monkeypatch.setattr(demo, "_photograph", lambda: None)
    samples = {"t2i": [{"prompt": "a"}], "vqa": [{"image": "scene.png", "question": "q"}]}
    words = ["--server", "http://h:1", "--out", str(tmp_path), "--samples", str(tmp_path)]
    (tmp_path / "manifest.json").write_text(json.dumps(samples))
    assert demo.main(words) == 0
    assert (tmp_path / "contact_sheet.png").is_file()
    assert "edge-client vqa" in (tmp_path / "report.md").read_text()
    samples["t2i"].append({"prompt": "bad"})
    (tmp_path / "manifest.json").write_text(json.dumps(samples))
    assert demo.main(words) == 1
    assert "FAILED: error: no" in (tmp_path / "report.md").read_text()
