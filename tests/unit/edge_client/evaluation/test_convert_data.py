"""Data sets of other people's, made up in their forms, as evaluation folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edge_client.evaluation.convert_data import convert, edited_part, main
from edge_client.evaluation.data import read_data, token_mask_of
from edge_client.pictures.images import load_picture
from shared_protocol.cases import Case
from shared_protocol.errors import ConfigError, ImageError, InvalidInputError


def picture(path: Path, level: int = 90) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((64, 64, 3), level, dtype=np.uint8)).save(path)
    return path


def written(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_text(text, encoding="utf-8")


def pope(folder: Path) -> None:
    lines = [
        {"question_id": 1, "image": "COCO_1.jpg", "text": "Is there a fox?", "label": "yes"},
        {"question_id": 2, "image": "COCO_1.jpg", "text": "Is there a car?", "label": "no"},
    ]
    written(folder / "coco_pope_random.json", "\n".join(map(json.dumps, lines)))
    picture(folder / "val2014" / "COCO_1.jpg")


def gqa(folder: Path) -> None:
    entry = {
        "question": "What is red?",
        "imageId": "n1",
        "answer": "ball",
        "types": {"structural": "query"},
    }
    written(folder / "testdev_balanced_questions.json", {"7": entry})
    picture(folder / "images" / "n1.jpg")


def vizwiz(folder: Path) -> None:
    answers = [{"answer": "soda"}, {"answer": "coke"}, {"answer": "soda"}]
    entry = {"image": "VizWiz_1.jpg", "question": "What is this?", "answers": answers}
    written(folder / "val.json", [{**entry, "answer_type": "other"}])
    picture(folder / "val" / "VizWiz_1.jpg")


def flickr(folder: Path) -> None:
    written(folder / "results_20130124.token", "1.jpg#0\tA fox .\n1.jpg#1\tOne fox runs .\n")
    picture(folder / "flickr30k_images" / "1.jpg")


def flickr_csv(folder: Path) -> None:
    rows = ["image_name| comment_number| comment", "1.jpg| 0| A fox .", "1.jpg| 1| One fox runs ."]
    written(folder / "results.csv", "\n".join(rows))
    picture(folder / "1.jpg")


def flickr_split(folder: Path) -> None:
    sentences = [{"raw": "A fox ."}, {"raw": "One fox runs ."}]
    images = [
        {"filename": "1.jpg", "split": "test", "sentences": sentences},
        {"filename": "2.jpg", "split": "train", "sentences": sentences},
    ]
    written(folder / "dataset_flickr30k.json", {"images": images})
    picture(folder / "1.jpg")


def magicbrush(folder: Path) -> None:
    turn = {
        "input": "5-input.png",
        "mask": "5-mask1.png",
        "output": "5-output1.png",
        "instruction": "add a hat",
    }
    written(folder / "test" / "edit_turns.json", [turn])
    picture(folder / "test" / "images" / "5" / "5-input.png")
    cut = np.full((64, 64, 4), 90, dtype=np.uint8)
    cut[..., 3] = 255
    cut[:16, :32, 3] = cut[16:32, :16, 3] = 0
    Image.fromarray(cut).save(folder / "test" / "images" / "5" / "5-mask1.png")


def the_case(kind: str, folder: Path, tmp_path: Path) -> tuple[Case, Path]:
    out = tmp_path / "out"
    assert convert(kind, folder, out) >= 1
    data = read_data(out)
    assert data.name == kind
    assert all((out / case.image).is_file() for case in data.cases if case.image)
    return data.cases[0], out


def test_pope_asks_yes_or_no(tmp_path: Path) -> None:
    pope(tmp_path / "in")
    case, out = the_case("pope", tmp_path / "in", tmp_path)
    assert (case.task, case.prompt, case.answers) == ("vqa", "Is there a fox?", ("yes",))
    assert case.kind == "random"
    assert len(read_data(out).pictures) == 1


def test_gqa_keeps_its_kind_of_question(tmp_path: Path) -> None:
    gqa(tmp_path / "in")
    case, _ = the_case("gqa", tmp_path / "in", tmp_path)
    assert (case.prompt, case.answers, case.kind) == ("What is red?", ("ball",), "query")


def test_vizwiz_accepts_every_answer_once(tmp_path: Path) -> None:
    vizwiz(tmp_path / "in")
    case, _ = the_case("vizwiz", tmp_path / "in", tmp_path)
    assert (case.answers, case.kind) == (("soda", "coke"), "other")


@pytest.mark.parametrize("form", [flickr, flickr_csv, flickr_split])
def test_flickr_pictures_are_to_be_described(form: Any, tmp_path: Path) -> None:
    form(tmp_path / "in")
    case, out = the_case("flickr30k", tmp_path / "in", tmp_path)
    assert case.answers == ("A fox .", "One fox runs .")
    assert case.kind == "describe"
    assert len(read_data(out).cases) == 1


def test_magicbrush_repaints_the_part_that_was_cut_out(tmp_path: Path) -> None:
    magicbrush(tmp_path / "in")
    case, out = the_case("magicbrush", tmp_path / "in", tmp_path)
    assert (case.prompt, case.box) == ("add a hat", None)
    assert case.mask is not None
    mask = token_mask_of(out, case, load_picture(out / str(case.image), 64, 64), (4, 4))
    assert mask is not None
    expected = np.zeros((4, 4), dtype=bool)
    expected[0, :2] = expected[1, 0] = True
    assert np.array_equal(mask.flags, expected)


def test_magicbrush_prefers_what_the_result_shows(tmp_path: Path) -> None:
    magicbrush(tmp_path / "in")
    said = {"5": {"5-output1.png": "a man with a hat"}}
    written(tmp_path / "in" / "global_descriptions.json", said)
    case, _ = the_case("magicbrush", tmp_path / "in", tmp_path)
    assert case.prompt == "a man with a hat"
    assert case.truth["instruction"] == "add a hat"


@pytest.mark.parametrize("form", ["white", "two-valued"])
def test_masks_in_white_are_read_too(form: str, tmp_path: Path) -> None:
    source = picture(tmp_path / "a.png")
    marks = np.full((64, 64, 3), 90 if form == "white" else 0, dtype=np.uint8)
    marks[10:20, 10:20] = 255
    Image.fromarray(marks).save(tmp_path / "m.png")
    found = edited_part(source, tmp_path / "m.png")
    assert found.sum() == 100
    assert found[15, 15]


def test_masks_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    source = picture(tmp_path / "a.png")
    with pytest.raises(ImageError, match="marks nothing"):
        edited_part(source, source)
    Image.new("L", (32, 32), 255).save(tmp_path / "small.png")
    with pytest.raises(ImageError, match="another size"):
        edited_part(source, tmp_path / "small.png")


@pytest.mark.parametrize("kind", ["pope", "gqa", "vizwiz", "flickr30k", "magicbrush"])
def test_folders_of_something_else_are_refused(kind: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(ConfigError, match="holds no"):
        convert(kind, tmp_path / "in", tmp_path / "out")
    with pytest.raises(ConfigError, match="no folder"):
        convert(kind, tmp_path / "none", tmp_path / "out")


def test_what_is_broken_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gqa(tmp_path / "in")
    (tmp_path / "in" / "images" / "n1.jpg").unlink()
    assert main(["gqa", str(tmp_path / "in"), str(tmp_path / "out")]) == 2
    assert "no picture 'n1.jpg'" in capsys.readouterr().err
    written(tmp_path / "in" / "testdev_balanced_questions.json", {"7": {"question": "?"}})
    with pytest.raises(ConfigError, match="entry 1 of gqa"):
        convert("gqa", tmp_path / "in", tmp_path / "out")
    written(tmp_path / "in" / "testdev_balanced_questions.json", "{")
    with pytest.raises(ConfigError, match="no JSON"):
        convert("gqa", tmp_path / "in", tmp_path / "out")


def test_no_more_is_copied_than_was_asked_for(tmp_path: Path) -> None:
    pope(tmp_path / "in")
    assert convert("pope", tmp_path / "in", tmp_path / "out", limit=1) == 1
    assert main(["pope", str(tmp_path / "in"), str(tmp_path / "two")]) == 0
    assert len(read_data(tmp_path / "two").cases) == 2


def test_a_case_has_a_box_or_a_mask() -> None:
    with pytest.raises(InvalidInputError, match="needs box or mask"):
        Case("a", "inpaint", "x", "a.png")
    with pytest.raises(InvalidInputError, match="a box and a mask"):
        Case("a", "inpaint", "x", "a.png", box=(0, 0, 1, 1), mask="m.png")
    kept = Case("a", "inpaint", "x", "a.png", mask="m.png")
    assert Case.from_dict(kept.to_dict()) == kept
