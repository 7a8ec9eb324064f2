"""Verdicts on records and the report's rows, with a judge that sees what it is told to."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cloud_server.training.benchmark import before_after, failures, tiles, verdicts
from cloud_server.training.benchmark.judge_model import Sighting
from cloud_server.training.benchmark.report import markdown, read_older, system_rows
from cloud_server.training.benchmark.rows import (
    Row,
    centre_crops,
    psnr_row,
    share_row,
    smear_rows,
    vqa_rows,
    wilson,
)
from cloud_server.training.benchmark.verdicts import Verdict, evaluate, judge_record
from shared_protocol.cases import Case, CaseRecord
from shared_protocol.errors import ConfigError

FOX = Sighting("fox", 60, 120, 0.9)
CAR = Sighting("car", 190, 120, 0.8)


class FakeJudge:
    """Sees `seen` everywhere, and one background by column."""

    def __init__(self, *seen: Sighting, places: str = "beach") -> None:
        self.seen, self.places = list(seen), places.split()

    def look(self, picture: np.ndarray) -> tuple[list[Sighting], np.ndarray]:
        count = picture.shape[1] // 16
        return self.seen, np.arange(count)[:, None] * len(self.places) // count

    def background(self, columns: np.ndarray) -> str:
        return self.places[round(float(columns.mean()))]


BOX, EXTEND = (0, 0, 32, 32), {"left": 8, "right": 0, "up": 0, "down": 0}


def a_case(task: str = "t2i", **changes: object) -> Case:
    truth = {"asked": ["fox", "car"], "background": "beach", "width": 256, "height": 256}
    case = Case(
        f"{task}-0001",
        task,
        "a fox left of a car on a beach",
        None if task == "t2i" else "images/a.png",
        BOX if task == "inpaint" else None,
        EXTEND if task == "outpaint" else None,
        kind="2",
        wording="trained",
        seed=1,
        truth=truth,
    )
    return replace(case, **changes)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    Image.new("RGB", (256, 256)).save(tmp_path / "p.png")
    Image.new("RGB", (512, 256)).save(tmp_path / "wide.png")
    return tmp_path


def a_record(case: Case, **changes: object) -> CaseRecord:
    record = CaseRecord(
        case.id,
        case.task,
        picture="p.png",
        tokens=[[1] * 16] * 16,
        known_unchanged=True,
        bytes={"up": 20, "down": 50},
        seconds={"total": 2.0, "model": 1.5},
    )
    return replace(record, **changes)


def checks(case: Case, judge: FakeJudge, out: Path, **record: object) -> dict[str, bool]:
    return judge_record(case, a_record(case, **record), out, judge).checks


def test_a_prompt_needs_every_object_and_its_background(out: Path) -> None:
    case = a_case()
    found = checks(case, FakeJudge(FOX, CAR), out)
    assert found == {"present": True, "once": True, "background": True}
    assert not checks(case, FakeJudge(FOX), out)["present"]
    assert not checks(case, FakeJudge(FOX, CAR, places="snow"), out)["background"]


def test_a_surplus_copy_is_present_but_not_once(out: Path) -> None:
    found = checks(a_case(), FakeJudge(FOX, CAR, FOX), out)
    assert found["present"]
    assert not found["once"]


@pytest.mark.parametrize(("relation", "right"), [("left", True), ("right", False)])
def test_a_relation_is_judged_by_centres(out: Path, relation: str, right: bool) -> None:
    truth = {**a_case().truth, "relation": ["fox", relation, "car"]}
    assert checks(a_case(truth=truth), FakeJudge(FOX, CAR), out)["relation"] is right


def test_a_relation_is_not_asked_about_where_an_object_is_missing(out: Path) -> None:
    truth = {**a_case().truth, "relation": ["fox", "left", "car"]}
    assert "relation" not in checks(a_case(truth=truth), FakeJudge(FOX), out)


def test_an_asked_place_is_judged(out: Path) -> None:
    truth = {**a_case().truth, "asked": ["fox"], "zone": "left"}
    assert checks(a_case(truth=truth), FakeJudge(FOX), out)["zone"]
    assert not checks(a_case(truth={**truth, "zone": "right"}), FakeJudge(FOX), out)["zone"]


def test_an_inpainted_object_counts_in_its_box_only(out: Path) -> None:
    truth = {**a_case().truth, "asked": ["fox"], "about": "scene"}
    at_fox = a_case("inpaint", truth=truth, box=(16, 64, 96, 96))
    at_car = a_case("inpaint", truth=truth, box=(144, 64, 96, 96))
    assert checks(at_fox, FakeJudge(FOX), out)["present"]
    assert not checks(at_car, FakeJudge(FOX), out)["present"]
    assert not checks(at_fox, FakeJudge(FOX), out, known_unchanged=False)["identical"]


def test_both_new_sides_of_an_outpainting_need_the_background(out: Path) -> None:
    truth = {**a_case().truth, "known": [128, 384], "about": "background"}
    sides = {"left": 8, "right": 8, "up": 0, "down": 0}
    case = a_case("outpaint", truth=truth, extend=sides)
    everywhere, half = FakeJudge(places="beach"), FakeJudge(places="beach snow")
    assert checks(case, everywhere, out, picture="wide.png")["background"]
    assert not checks(case, half, out, picture="wide.png")["background"]


@pytest.mark.parametrize(
    ("seen", "once"),
    [
        ([FOX, CAR], True),
        ([CAR], True),
        ([FOX], False),
        ([FOX, CAR, CAR], False),
        ([FOX, CAR, Sighting("owl", 60, 200, 0.6)], False),
        ([FOX, replace(CAR, y=20)], False),
    ],
    ids=["kept", "only the asked one missing", "lost", "twice", "unasked", "moved"],
)
def test_an_inpainting_keeps_known_objects_and_adds_what_is_asked_once(
    out: Path, seen: list[Sighting], once: bool
) -> None:
    objects = [["whale", 16, 64, 96], ["car", 144, 64, 96]]
    truth = {**a_case().truth, "asked": ["fox"], "removed": "whale", "objects": objects}
    case = a_case("inpaint", truth={**truth, "about": "other object"}, box=(16, 64, 96, 96))
    assert checks(case, FakeJudge(*seen), out)["once"] is once


@pytest.mark.parametrize(
    ("seen", "right"),
    [
        ([replace(FOX, x=200), CAR], True),
        ([replace(FOX, x=200), FOX], False),
        ([FOX, replace(FOX, y=20)], False),
        ([FOX, CAR], True),
    ],
    ids=["one known, one new", "known again", "new twice", "both new"],
)
def test_an_outpainting_repeats_no_object(out: Path, seen: list[Sighting], right: bool) -> None:
    known = {"known": [128, 256], "about": "background"}
    seen = [replace(one, x=40) if seen == [FOX, CAR] else one for one in seen]
    case = a_case("outpaint", truth={**a_case().truth, **known})
    verdict = judge_record(case, a_record(case), out, FakeJudge(*seen))
    assert verdict.checks["no_copies"] is right
    assert verdict.right is right


def test_answers_match_in_any_case_and_spacing(out: Path) -> None:
    case = a_case("vqa", answers=("a fox",))
    assert checks(case, FakeJudge(), out, answer=" A  fox")["answer"]
    assert not checks(case, FakeJudge(), out, answer="a fox and a car")["answer"]


def test_a_failed_request_is_wrong_in_every_respect(out: Path) -> None:
    failed = {"error": "deadline: too late", "picture": None, "answer": None}
    for task in ("t2i", "inpaint", "outpaint", "vqa"):
        case = a_case(task, answers=("",))
        assert not any(checks(case, FakeJudge(FOX, CAR), out, **failed).values())


def written(out: Path, cases: list[Case], records: list[CaseRecord]) -> Path:
    for name, lines in (("cases", cases), ("records", records)):
        text = "".join(json.dumps(line.to_dict()) + "\n" for line in lines)
        (out / f"{name}.jsonl").write_text(text)
    (out / "data.json").write_text(json.dumps({"seed": 1, "counts": {"t2i": len(cases)}}))
    return out


def test_the_last_record_of_a_case_counts_and_missing_ones_are_named(out: Path) -> None:
    first, second = a_case(), a_case(id="t2i-0002")
    failed = a_record(first, error="internal: x", picture=None)
    written(out, [first, second], [failed, a_record(first)])
    found = evaluate(out, out, FakeJudge(FOX, CAR))
    assert [verdict.right for verdict in found.verdicts] == [True]
    assert found.missing == 1


def test_a_folder_without_records_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="make eval-builtin"):
        evaluate(tmp_path, tmp_path, FakeJudge())


def test_wilson_intervals_stay_within_a_share() -> None:
    assert wilson(0, 10)[0] == 0
    assert wilson(10, 10)[1] == pytest.approx(1)
    assert wilson(150, 300)[0] == pytest.approx(0.4437, abs=1e-4)


def test_relations_are_counted_among_pictures_with_the_objects(out: Path) -> None:
    truth = {**a_case().truth, "relation": ["fox", "left", "car"]}
    cases = [a_case(id=f"t2i-{n}", truth=truth) for n in range(3)]
    records = [a_record(case) for case in cases]
    written(out, cases, records)
    found = evaluate(out, out, FakeJudge(FOX, CAR))
    found.verdicts[0] = Verdict(cases[0], records[0], "t2i", {"present": False, "once": False})
    rows = {row.measure: row for row in system_rows(found)}
    assert rows["all named objects present"].result == "66.7%"
    assert rows["relation right, of those present"].count == 2
    assert rows["relation right, of those present"].result == "100.0%"
    assert rows["median, whole request"].result == "2.00 s"
    assert rows["exactly the named objects, each once, 2 object(s) asked for"].count == 3
    assert rows["mean, whole message up"].result == "20.0 B"
    assert rows["mean, whole message down"].value == 50


def test_smears_are_told_by_their_mean_and_by_pictures_that_have_many() -> None:
    mean, many = smear_rows([0, 3, 4, 9])
    assert (mean.result, mean.count) == ("4.0 tokens", 4)
    assert many.result == "50.0%"
    assert smear_rows([]) == []


def test_the_worst_kind_of_question_is_named_and_easy_vqa_stays_apart(out: Path) -> None:
    def asked(kind: str, right: int) -> list[Verdict]:
        case = a_case("vqa", kind=kind)
        return [Verdict(case, {}, "vqa", {"answer": n < right}) for n in range(20)]

    rows = vqa_rows("questions", [*asked("count", 18), *asked("where", 9)], by_wording=True)
    assert {row.measure: row.result for row in rows}["worst kind: where"] == "45.0%"
    assert verdicts.suite(a_case("vqa", kind="easy-vqa colour")) == "easy-vqa"


def test_no_cases_give_no_row() -> None:
    assert share_row("a", "b", []) == []


def test_the_table_holds_counts_and_intervals() -> None:
    rows = share_row("text to image", "present", [True] * 9 + [False])
    rows += share_row("text to image", "of pairs", [True], detail=True)
    text = markdown(rows, {"date": "today"}, {"scenes": {"recall": 0.5, "count": 4}})
    assert "| text to image | present | 90.0% | 10 | 59.6% to 98.2% |" in text
    assert text.index("## In detail") < text.index("of pairs")
    assert "| scenes | 50.0% | 4 |" in text


def older_report(out: Path, *rows: Row) -> Path:
    data = {"about": {"date": "then", "cases": "seed 1"}, "rows": [asdict(row) for row in rows]}
    (out / "report.json").write_text(json.dumps(data))
    return out / "report.json"


def test_an_older_report_stands_in_a_column_beside(tmp_path: Path) -> None:
    then = share_row("text to image", "present", [True, False])
    now = share_row("text to image", "present", [True]) + share_row("t", "new", [True])
    text = markdown(now, {"date": "today"}, {}, read_older(older_report(tmp_path, *then)))
    assert "* before: date then; cases seed 1" in text
    assert "| ability | measure | result | before | count | 95 % interval |" in text
    assert "| text to image | present | 100.0% | 50.0% | 1 |" in text
    assert "| t | new | 100.0% | – | 1 |" in text


def test_the_shipped_report_can_stand_beside() -> None:
    older = read_older(Path(verdicts.__file__).parents[1] / "results" / "report.json")
    row = share_row("text to image", "all named objects present", [True])[0]
    assert older.of(row).endswith("%")


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"rows": [{}], "about": {}}'])
def test_what_is_no_report_cannot_stand_beside(tmp_path: Path, text: str) -> None:
    (tmp_path / "other.json").write_text(text)
    with pytest.raises(ConfigError, match="is no report"):
        read_older(tmp_path / "other.json")


def test_psnr_of_a_known_error() -> None:
    pictures = np.zeros((2, 8, 8, 3), dtype=np.uint8)
    assert psnr_row("x", pictures, pictures + 10).value == pytest.approx(28.13, abs=0.01)


def test_photographs_are_cropped_in_the_middle_and_not_scaled(tmp_path: Path) -> None:
    picture = np.zeros((300, 400, 3), dtype=np.uint8)
    picture[22:278, 72:328] = np.random.default_rng(0).integers(0, 256, (256, 256, 3))
    Image.fromarray(picture).save(tmp_path / "a.png")
    np.testing.assert_array_equal(centre_crops(tmp_path)[0], picture[22:278, 72:328])


def test_sheets_show_prompts_and_failures_and_stay_small(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = [a_case(id=f"t2i-{n}") for n in range(6)]
    written(out, cases, [a_record(case) for case in cases])
    monkeypatch.setattr(failures.Judge, "load", lambda path: FakeJudge(FOX, FOX))
    given = SimpleNamespace(
        data=out, records=out, judge=out, out=out / "sheets", count=4, smoke=False
    )
    assert failures.run(given) == 0
    names = sorted(path.name for path in (out / "sheets").iterdir())
    assert names == ["failures_t2i.webp", "prompts.webp"]
    for name in names:
        data = (out / "sheets" / name).read_bytes()
        assert len(data) < tiles.MAX_BYTES
        with Image.open(out / "sheets" / name) as sheet:
            assert sheet.width > 4 * tiles.HEIGHT


def test_a_right_result_is_on_no_sheet_of_failures(out: Path) -> None:
    written(out, [a_case()], [a_record(a_case())])
    found = evaluate(out, out, FakeJudge(FOX, CAR))
    assert [name for name, _ in failures.chosen(found, 4)] == ["prompts"]


def both(out: Path, **changes: Any) -> SimpleNamespace:
    """Three prompts, drawn before and after; one of them failed before."""
    cases = [a_case(id=f"t2i-{n}") for n in range(3)]
    records = [a_record(case) for case in cases]
    failed = replace(records[0], picture=None, error="internal: x")
    for name, kept in (("before", [failed, *records[1:]]), ("after", records)):
        (out / name).mkdir()
        Image.new("RGB", (256, 256)).save(out / name / "p.png")
        written(out / name, cases, kept)
    written(out, cases, [])
    given = {"data": out, "before": out / "before", "after": out / "after", "judge": out}
    return SimpleNamespace(
        **{**given, "out": out / "s" / "x.webp", "count": 2, "smoke": False, **changes}
    )


def test_pictures_of_before_and_after_stand_side_by_side(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(before_after.Judge, "load", lambda path: FakeJudge(FOX, FOX))
    shown: list[Any] = []
    monkeypatch.setattr(before_after, "sheet", lambda made: shown.extend(made) or tiles.sheet(made))
    given = both(out)
    assert before_after.run(given) == 0
    assert [len(one.pictures) for one in shown] == [2, 2]
    words = [text for text, _ in shown[0].lines]
    assert "before: internal: x" in words
    assert "after: fox, fox; beach" in words
    assert ("after, once: wrong", tiles.WRONG) in shown[0].lines
    with Image.open(given.out) as sheet:
        assert sheet.format == "WEBP"


def test_folders_without_a_shared_prompt_make_no_sheet(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(before_after.Judge, "load", lambda path: FakeJudge())
    given = both(out)
    (out / "after" / "records.jsonl").write_text("")
    with pytest.raises(ConfigError, match="share no text-to-image case"):
        before_after.run(given)
