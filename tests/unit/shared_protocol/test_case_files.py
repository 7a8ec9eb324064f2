"""Folders of cases and files of records: what is refused, and what an interruption leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shared_protocol.cases import (
    CASES,
    TASKS,
    Case,
    CaseRecord,
    Records,
    load_cases,
    write_cases,
)
from shared_protocol.errors import ConfigError, InvalidInputError


@pytest.mark.parametrize(
    ("fields", "said", "remedy"),
    [
        ({"task": "paint"}, "case a: no task 'paint'", "use one of"),
        ({"id": ""}, "case id '' is no file name", "letters and digits"),
        ({"id": "a/b"}, "case id 'a/b' is no file name", "letters and digits"),
        ({"task": "vqa"}, "case a: vqa needs image", ""),
        ({"task": "inpaint", "image": "p"}, "case a: inpaint needs box or mask", ""),
        ({"task": "outpaint", "image": "p"}, "case a: outpaint needs extend", ""),
        (
            {"task": "inpaint", "image": "p", "mask": "m", "box": (0, 0, 1, 1)},
            "case a has a box and a mask",
            "keep one",
        ),
        (
            {"task": "outpaint", "image": "p", "extend": {"above": 3}},
            "case a extends {'above'}",
            "use ('left', 'right', 'up', 'down')",
        ),
    ],
)
def test_a_case_that_contradicts_itself_is_refused(
    fields: dict[str, Any], said: str, remedy: str
) -> None:
    with pytest.raises(InvalidInputError) as caught:
        Case(**{"id": "a", "task": "t2i", "prompt": "a fox", **fields})
    assert caught.value.message == said
    assert remedy in caught.value.remedy


def full() -> list[Case]:
    return [
        Case(
            "t2i-1",
            "t2i",
            "naïve\u2028and\x85so on",
            kind="k",
            wording="held out",
            seed=3,
            truth={"n": 1},
        ),
        Case("t2i-2", "t2i", ""),
        Case("inpaint-1", "inpaint", "b", image="p.png", box=(1, 2, 3, 4)),
        Case("inpaint-2", "inpaint", "b", image="p.png", mask="m.png"),
        Case("outpaint-1", "outpaint", "c", image="p.png", extend={"left": 2, "down": 1}),
        Case("vqa-1", "vqa", "d", image="p.png", answers=("one", "two")),
        Case("vqa-2", "vqa", "d", image="p.png"),
    ]


def test_cases_come_back_as_they_were_written(tmp_path: Path) -> None:
    write_cases(tmp_path, full()[1:] + full()[:1], {"name": "test"})
    assert load_cases(tmp_path) == full()[1:] + full()[:1]
    assert "naïve" in (tmp_path / CASES).read_text(encoding="utf-8")
    assert json.loads((tmp_path / "data.json").read_text()) == {"name": "test"}
    assert (tmp_path / CASES).read_text(encoding="utf-8").endswith("}\n")


def test_only_what_repaints_says_so() -> None:
    repainting = [case.id for case in full() if case.repaints]
    assert repainting == ["inpaint-1", "inpaint-2"]


def test_a_series_is_read_up_to_its_limit_and_tasks_that_are_not_asked_for_do_not_count(
    tmp_path: Path,
) -> None:
    write_cases(tmp_path, full(), {})
    assert [case.id for case in load_cases(tmp_path, limit=1)] == [
        "t2i-1",
        "inpaint-1",
        "outpaint-1",
        "vqa-1",
    ]
    assert [case.id for case in load_cases(tmp_path, ("vqa", "t2i"), 2)] == [
        "t2i-1",
        "t2i-2",
        "vqa-1",
        "vqa-2",
    ]
    assert load_cases(tmp_path, limit=0) == []
    assert set(TASKS) == {"t2i", "inpaint", "outpaint", "vqa"}


def test_a_folder_without_cases_says_how_to_make_them(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"holds no {CASES}") as caught:
        load_cases(tmp_path)
    assert "cloud-server train cases" in caught.value.remedy


@pytest.mark.parametrize("line", ["{", "[]", "7", '{"id": "a"}', '{"box": 3}'])
def test_a_line_that_is_no_case_is_named_by_its_number(line: str, tmp_path: Path) -> None:
    write_cases(tmp_path, full(), {})
    with (tmp_path / CASES).open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ConfigError, match=r"cases\.jsonl, line 8 is not a case") as caught:
        load_cases(tmp_path)
    assert caught.value.remedy == "write the folder again"


def test_records_go_on_after_an_interruption_and_the_last_of_an_id_counts(tmp_path: Path) -> None:
    records = Records(tmp_path / "out" / "records.jsonl")
    assert list(records) == []
    assert records.done() == set()
    records.add({"id": "a", "error": "lost"})
    records.add({"id": "b", "error": None, "answer": "naïve\u2028and"})
    assert records.path.read_bytes().count(b"\n") == 2
    with records.path.open("ab") as file:
        file.write(b'{"id": "c"')
    records.add({"id": "a", "error": None})
    assert [record["id"] for record in records] == ["a", "b"]
    assert records.done() == {"a", "b"}
    assert list(records)[1]["answer"] == "naïve\u2028and"
    assert records.path.read_bytes().count(b"\n") == 4
    for line in ("[]", "{}", "7", "null"):
        records.path.write_text(line + "\n")
        assert list(records) == []


def test_a_case_that_failed_is_to_be_run_again(tmp_path: Path) -> None:
    records = Records(tmp_path / "records.jsonl")
    records.add({"id": "a", "error": None})
    records.add({"id": "a", "error": "gone"})
    assert records.done() == set()


def test_a_record_comes_back_and_names_of_later_versions_are_left_out() -> None:
    record = CaseRecord("a", "vqa", answer="two", bytes={"up": 3}, seconds={"total": 1.5})
    assert CaseRecord.from_dict({**record.to_dict(), "later": 1}) == record
    assert CaseRecord("a", "vqa").to_dict() == {
        **dict.fromkeys(("answer", "picture", "tokens", "known_unchanged", "error")),
        "id": "a",
        "task": "vqa",
        "bytes": {},
        "seconds": {},
        "warnings": [],
    }
