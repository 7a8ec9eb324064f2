"""Evaluation cases over a fake cloud: records, resuming, failures."""

import json
from pathlib import Path

import numpy as np
import pytest
from edge_fakes import ANSWER, FailingCloud, FakeBundle, FakeCloud
from PIL import Image

from edge_client.evaluation.run_cases import (
    MAX_FAILURES,
    CaseRunner,
    check_same_run,
)
from shared_protocol.cases import Case, Records, load_cases
from shared_protocol.errors import ConfigError, DeadlineError, InvalidInputError

EVERY_TASK = [
    {"id": "t2i-1", "task": "t2i", "prompt": "a fox", "image": None, "seed": 7},
    {"id": "inpaint-1", "task": "inpaint", "prompt": "a fox", "image": "images/a.png",
     "box": [16, 16, 32, 32]},
    {"id": "outpaint-1", "task": "outpaint", "prompt": "a beach", "image": "images/a.png",
     "extend": {"left": 1, "right": 2, "up": 0, "down": 0}},
    {"id": "vqa-1", "task": "vqa", "prompt": "what?", "image": "images/a.png", "answers": ["x"]},
]  # fmt: skip


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    Image.new("RGB", (64, 64), (77, 77, 77)).save(folder / "images" / "a.png")
    write(folder, EVERY_TASK)
    return folder


def write(folder: Path, cases: list[dict]) -> None:
    (folder / "cases.jsonl").write_text("".join(json.dumps(case) + "\n" for case in cases))


def runner(data: Path, cloud: FakeCloud | None = None, **options: object) -> CaseRunner:
    return CaseRunner(FakeBundle(), cloud or FakeCloud(FakeBundle()), data, data / "out", **options)


def records(data: Path) -> dict[str, dict]:
    return {record["id"]: record for record in Records(data / "out" / "records.jsonl")}


def test_every_task_leaves_a_record_with_what_came_back(data: Path) -> None:
    assert runner(data).run(load_cases(data)) == 0
    found = records(data)
    assert found["vqa-1"]["answer"] == ANSWER
    assert found["vqa-1"]["picture"] is found["vqa-1"]["tokens"] is None
    drawn = np.array(found["outpaint-1"]["tokens"])
    assert drawn.shape == (4, 7)
    assert (drawn[:, 1:5] == 77).all()
    assert (drawn[:, [0, 5, 6]] == 200).all()
    with Image.open(data / "out" / found["outpaint-1"]["picture"]) as picture:
        assert picture.size == (112, 64)
    inside = np.array(found["inpaint-1"]["tokens"]) == 200
    assert inside.sum() == 4
    assert inside[1:3, 1:3].all()
    assert [found[case["id"]]["known_unchanged"] for case in EVERY_TASK] == [None, True, True, None]


def test_bytes_are_those_of_the_messages_that_were_sent(data: Path) -> None:
    cloud = FakeCloud(FakeBundle())
    runner(data, cloud).run(load_cases(data))
    found = records(data)
    for case, message in zip(EVERY_TASK, cloud.messages, strict=True):
        sizes = found[case["id"]]["bytes"]
        assert sizes["up"] == sizes["up_parts"]["total"] == len(message)
        assert found[case["id"]]["seconds"]["total"] > 0


def test_a_case_brings_its_seed_and_a_run_its_steps(data: Path) -> None:
    cloud = FakeCloud(FakeBundle())
    runner(data, cloud, steps=3).run(load_cases(data, ["t2i"]))
    assert cloud.requests[0].options.seed == 7
    assert cloud.requests[0].options.steps == 3


def test_a_run_goes_on_where_it_stopped(data: Path) -> None:
    runner(data).run(load_cases(data)[:2])
    cloud = FakeCloud(FakeBundle())
    runner(data, cloud).run(load_cases(data))
    assert [request.task.name for request in cloud.requests] == ["OUTPAINT", "VQA"]


def test_a_failure_is_recorded_and_asked_again_next_time(data: Path) -> None:
    cloud = FakeCloud(FakeBundle())
    cloud.faults = [DeadlineError("too late")]
    assert runner(data, cloud).run(load_cases(data)) == 1
    assert records(data)["t2i-1"]["error"].startswith("deadline")
    assert runner(data).run(load_cases(data)) == 0
    assert records(data)["t2i-1"]["error"] is None


def test_a_server_that_only_fails_ends_the_run(data: Path) -> None:
    many = [{**EVERY_TASK[0], "id": f"t2i-{n}"} for n in range(3 * MAX_FAILURES)]
    write(data, many)
    cloud = FailingCloud(FakeBundle(), lambda: DeadlineError("too late"))
    with pytest.raises(DeadlineError):
        runner(data, cloud).run(load_cases(data))
    assert len(records(data)) == MAX_FAILURES


def test_a_line_cut_short_is_dropped_and_the_next_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_text('{"id": "a", "error": null}\n{"id": "b", "er')
    kept = Records(path)
    kept.add({"id": "c", "error": None})
    assert [record["id"] for record in kept] == ["a", "c"]
    assert kept.done() == {"a", "c"}


def test_at_most_so_many_cases_of_each_task_are_read(data: Path) -> None:
    write(data, [{**case, "id": f"{case['id']}-{n}"} for n in range(3) for case in EVERY_TASK])
    cases = load_cases(data, ["t2i", "vqa"], limit=2)
    assert sorted(case.id for case in cases) == ["t2i-1-0", "t2i-1-1", "vqa-1-0", "vqa-1-1"]


@pytest.mark.parametrize(
    "change", [{"task": "t2v"}, {"id": "../x"}, {"image": None}, {"box": None}]
)
def test_a_case_that_contradicts_itself_is_refused(change: dict) -> None:
    with pytest.raises(InvalidInputError):
        Case.from_dict({**EVERY_TASK[1], **change})


def test_a_line_that_is_no_case_is_named(data: Path) -> None:
    (data / "cases.jsonl").write_text(json.dumps(EVERY_TASK[0]) + "\n[]\n")
    with pytest.raises(ConfigError, match="line 2"):
        load_cases(data)


def test_records_of_other_settings_are_not_mixed(tmp_path: Path) -> None:
    check_same_run(tmp_path, {"steps": 4})
    check_same_run(tmp_path, {"steps": 4})
    with pytest.raises(ConfigError, match="steps 4"):
        check_same_run(tmp_path, {"steps": 5})
