"""easy-vqa: the official split, pictures as the edge would send them, batches of its questions."""

import json
from pathlib import Path

import numpy as np

from cloud_server.training.tokens import easy_vqa

QUESTIONS = [["is there a circle?", "no"], ["what color is the shape?", "teal"]]


def test_the_official_split_is_whole() -> None:
    asked = list(easy_vqa.questions_by_picture("test"))
    assert len(asked) == 1000
    assert sum(len(questions) for _, questions in asked) == 9673
    assert {qa.kind for _, questions in asked for qa in questions} == {
        "presence", "shape", "colour"
    }  # fmt: skip
    picture = easy_vqa.enlarged(asked[0][0])
    assert picture.shape == (256, 256, 3)
    assert picture.dtype == np.uint8


def test_codes_and_questions_are_read_back(tmp_path: Path) -> None:
    np.save(tmp_path / "train.npy", np.full((1, 16, 16), 7, dtype=np.uint16))
    (tmp_path / "train.jsonl").write_text(json.dumps(QUESTIONS) + "\n", encoding="utf-8")
    (item,) = easy_vqa.load(tmp_path)
    assert item.codes.shape == (16, 16)
    assert [(qa.question, qa.answer) for qa in item.asked] == [tuple(pair) for pair in QUESTIONS]
