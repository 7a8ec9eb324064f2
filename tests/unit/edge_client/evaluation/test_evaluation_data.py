"""Where cases come from: evaluation folders, folders of photographs, the samples."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_client.evaluation import arguments
from edge_client.evaluation.data import GENERIC_PROMPT, SAMPLES, read_data
from edge_client.evaluation.evaluate import ALL, SECTIONS
from edge_client.pictures.images import load_picture
from shared_protocol.errors import ConfigError


def photograph(path: Path, width: int = 60, height: int = 40) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((height, width, 3), 90, dtype=np.uint8)).save(path)
    return path


def test_photographs_without_captions_are_edited_and_asked_about(tmp_path: Path) -> None:
    photograph(tmp_path / "b.png")
    photograph(tmp_path / "sub" / "a.jpg")
    data = read_data(tmp_path)
    assert [case.task for case in data.cases] == ["inpaint", "outpaint", "vqa"] * 2
    assert {case.prompt for case in data.of("inpaint")} == {GENERIC_PROMPT}
    assert data.of("inpaint")[0].box == (20, 10, 20, 20)
    assert data.of("outpaint")[0].extend == {"left": 8, "right": 0, "up": 0, "down": 0}
    assert data.of("vqa")[0].answers == ()
    assert [path.name for path in data.pictures] == ["b.png", "a.jpg"]
    assert len({case.id for case in data.cases}) == len(data.cases)


def test_captions_become_prompts_and_reference_answers(tmp_path: Path) -> None:
    photograph(tmp_path / "a.png")
    photograph(tmp_path / "b.png")
    photograph(tmp_path / "c.png")
    listed = {"a.png": ["a dog", " a brown dog "], "c.png": "a cat"}
    (tmp_path / "captions.json").write_text(json.dumps(listed), encoding="utf-8")
    (tmp_path / "b.txt").write_text("a house\n\nold walls\n", encoding="utf-8")
    data = read_data(tmp_path)
    assert [case.prompt for case in data.of("t2i")] == ["a dog", "a house", "a cat"]
    assert [case.answers for case in data.of("vqa")] == [
        ("a dog", "a brown dog"),
        ("a house", "old walls"),
        ("a cat",),
    ]
    assert {case.prompt for case in data.of("vqa")} == {"describe the picture"}


def test_a_photograph_stored_on_its_side_gets_its_box_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (80, 40)).save(tmp_path / "a.jpg", exif=exif)
    (case,) = read_data(tmp_path).of("inpaint")
    assert case.box == (10, 30, 20, 20)


def test_a_folder_without_anything_usable_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no folder"):
        read_data(tmp_path / "none")
    with pytest.raises(ConfigError, match="neither"):
        read_data(tmp_path)
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(ConfigError, match="not a readable picture"):
        read_data(tmp_path)
    case = {"id": "a", "task": "t2i", "prompt": "a fox"}
    for lines in ([], [case, case]):
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (tmp_path / "cases.jsonl").write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError, match=r"no cases|twice"):
            read_data(tmp_path)
    (tmp_path / "cases.jsonl").write_text(json.dumps(case), encoding="utf-8")
    (tmp_path / "data.json").write_text("[]", encoding="utf-8")
    with pytest.raises(ConfigError, match="no JSON object"):
        read_data(tmp_path)


def test_the_samples_hold_every_task_and_are_small() -> None:
    data = read_data(SAMPLES)
    for task, least in {"t2i": 8, "inpaint": 8, "outpaint": 6, "vqa": 30}.items():
        assert len(data.of(task)) >= least
    assert len(data.pictures) <= 24
    assert sum(path.stat().st_size for path in SAMPLES.rglob("*.*")) < 150_000
    for path in data.pictures:
        assert load_picture(path, 256, 256).geometry.source == (256, 256)
    assert data.split == "test"


def test_the_command_line_knows_every_section() -> None:
    assert tuple(arguments.SECTIONS) == (*SECTIONS, ALL)
