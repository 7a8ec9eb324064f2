"""Compares what came back with what was asked, case by case.

Knows cases, records and what the judge sees; runs no model but the judge, and adds nothing up. It
reads the two files of an evaluation::

    DATA/cases.jsonl    what was asked, with the truth
    OUT/records.jsonl   what came back; of several with one id the last counts
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cloud_server.necks.cell_net import STRIDE
from cloud_server.training.benchmark.cases import suite
from cloud_server.training.benchmark.judge import relation_holds
from cloud_server.training.benchmark.judge_model import Judge, Sighting
from shared_protocol.cases import DATA, RECORDS, Case, CaseRecord, Records, load_cases
from shared_protocol.errors import ConfigError, InvalidInputError

BESIDE = 24.0
"""Pixels that an object's centre may lie off the middle of the box that it belongs in."""
FAILED = {
    "t2i": ("present", "once", "background"),
    "inpaint": ("present", "once", "identical"),
    "outpaint": ("background", "no_copies", "identical"),
}
"""Checks that a request without a picture fails; those of a relation or a place do not apply."""


@dataclass(frozen=True)
class Verdict:
    """What is right about one result.

    Args:
        case, record: as read.
        suite: task, or "easy-vqa".
        checks: name -> right or wrong; a check that does not apply is missing.
        seen: objects that the judge sees, the surest first.
        background: that the judge sees in what is new.
    """

    case: Case
    record: CaseRecord
    suite: str
    checks: dict[str, bool]
    seen: tuple[Sighting, ...] = ()
    background: str = ""

    @property
    def right(self) -> bool:
        """Whether every check that applies is passed."""
        return all(self.checks.values())

    @property
    def words(self) -> str:
        """What the judge sees, or the answer, in a line."""
        if self.case.task == "vqa":
            return str(self.record.answer)
        names = [sighting.name for sighting in self.seen]
        return f"{', '.join(names) or 'nothing'}; {self.background}"


@dataclass(frozen=True)
class Evaluation:
    """Verdicts on all cases that were run, and how many were not.

    Args:
        about: `data.json`; run: what the records were made with (`run.json`).
    """

    verdicts: list[Verdict]
    missing: int
    about: dict[str, Any] = field(default_factory=dict)
    run: dict[str, Any] = field(default_factory=dict)

    def of(self, name: str) -> list[Verdict]:
        """Those of one task, or of easy-vqa."""
        return [verdict for verdict in self.verdicts if verdict.suite == name]


def evaluate(data: Path, out: Path, judge: Judge) -> Evaluation:
    """Judge every record.

    Raises:
        ConfigError: a file is missing.
    """
    kept = Records(_existing(out / RECORDS))
    records = {record["id"]: CaseRecord.from_dict(record) for record in kept}
    cases = load_cases(data)
    verdicts = [
        judge_record(case, records[case.id], out, judge) for case in cases if case.id in records
    ]
    facts = [_object(data / DATA), _object(out / "run.json")]
    return Evaluation(verdicts, len(cases) - len(verdicts), *facts)


def judge_record(case: Case, record: CaseRecord, out: Path, judge: Judge) -> Verdict:
    """The verdict on one record; one that failed is wrong in every respect."""
    kind = suite(case)
    if case.task == "vqa":
        answer = _plain(record.answer or "")
        right = answer in {_plain(accepted) for accepted in case.answers}
        return Verdict(case, record, kind, {"answer": right and not record.error})
    if record.error or not record.picture:
        return Verdict(case, record, kind, dict.fromkeys(FAILED[case.task], False))
    look = _Look(case, record, judge, *judge.look(load_rgb(out / record.picture)))
    task = {"t2i": _t2i, "inpaint": _inpaint, "outpaint": _outpaint}[case.task]
    checks, place = task(look)
    return Verdict(case, record, kind, checks, tuple(look.seen), place)


def load_rgb(path: Path) -> np.ndarray:
    """The pixels of a picture file, (H, W, 3) uint8."""
    with Image.open(path) as opened:
        return np.asarray(opened.convert("RGB"))


@dataclass(frozen=True, eq=False)
class _Look:
    """A case, its record, and what the judge sees in the picture."""

    case: Case
    record: CaseRecord
    judge: Judge
    seen: list[Sighting]
    columns: np.ndarray

    @property
    def identical(self) -> bool:
        """Whether the known tokens are what they were."""
        return bool(self.record.known_unchanged)

    def first_asked(self) -> list[Sighting]:
        """The objects of the kind that was asked for, or asked for first; the surest first."""
        return [s for s in self.seen if s.name == self.case.truth["asked"][0]]


Found = tuple[dict[str, bool], str]


def _t2i(look: _Look) -> Found:
    truth = look.case.truth
    names = [sighting.name for sighting in look.seen]
    place = look.judge.background(look.columns)
    checks = {
        "present": set(truth["asked"]) <= set(names),
        "once": sorted(truth["asked"]) == sorted(names),
        "background": place == truth["background"],
    }
    if truth.get("relation") and checks["present"]:
        first, relation, second = truth["relation"]
        checks["relation"] = _related(look.seen, first, relation, second)
    if truth.get("zone") and checks["present"]:
        height, width = truth["height"], truth["width"]
        checks["zone"] = zone(look.first_asked()[0], width, height) == truth["zone"]
    return checks, place


def _related(seen: Iterable[Sighting], first: str, relation: str, second: str) -> bool:
    """Whether the surest of the one kind stands so to the surest of the other."""
    one = next(sighting for sighting in seen if sighting.name == first)
    other = next(sighting for sighting in seen if sighting.name == second)
    return relation_holds(one, other, relation)


def zone(sighting: Sighting, width: int, height: int) -> str:
    """The ninth of the picture that a centre is in, named as captions name it."""
    from cloud_server.training.scenes.language import zone_of
    from cloud_server.training.scenes.world import PlacedSprite, Scene

    point = PlacedSprite(sighting.name, round(sighting.x), round(sighting.y), 0)
    return zone_of(point, Scene((point,), "", width, height))


def _inpaint(look: _Look) -> Found:
    if look.case.box is None:
        raise InvalidInputError(f"case {look.case.id} has no box to look in", "judge boxes only")
    x, y, width, height = look.case.box
    asked = look.case.truth["asked"][0]
    removed = look.case.truth.get("removed", asked)
    known = [thing for thing in look.case.truth.get("objects", ()) if thing[0] != removed]
    kept = all(_is_at(look.seen, name, left, top, side, side) for name, left, top, side in known)
    surplus = Counter(s.name for s in look.seen) - Counter([asked, *(thing[0] for thing in known)])
    checks = {
        "present": _is_at(look.seen, asked, x, y, width, height),
        "once": kept and not surplus,
        "identical": look.identical,
    }
    return checks, look.judge.background(look.columns)


def _is_at(seen: Iterable[Sighting], name: str, *box: float) -> bool:
    """Whether an object of this name is seen in the middle of a box (x, y, width, height)."""
    x, y, width, height = box
    middle = x + width / 2, y + height / 2
    return any(
        abs(sighting.x - middle[0]) <= BESIDE and abs(sighting.y - middle[1]) <= BESIDE
        for sighting in seen
        if sighting.name == name
    )


def _outpaint(look: _Look) -> Found:
    truth, extend = look.case.truth, look.case.extend
    assert extend is not None, "Case checks its parts"
    first, last = (side // STRIDE for side in truth["known"])
    sides = [look.columns[:first], look.columns[last:]]
    places = [look.judge.background(side) for side in sides if len(side)]
    checks = {
        "background": all(place == truth["background"] for place in places),
        "no_copies": not _copies(look.seen, *truth["known"]),
        "identical": look.identical,
    }
    assert len(look.columns) == last + extend["right"], "the picture is as wide as was asked for"
    return checks, ", ".join(dict.fromkeys(places))


def _copies(seen: Sequence[Sighting], left: int, right: int) -> set[str]:
    """Objects of the new area that repeat one of the known columns left..right or each other."""
    inside = [left <= sighting.x < right for sighting in seen]
    known = {s.name for s, is_known in zip(seen, inside, strict=True) if is_known}
    new = Counter(s.name for s, is_known in zip(seen, inside, strict=True) if not is_known)
    return {name for name, count in new.items() if count > 1 or name in known}


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise ConfigError(f"there is no {path}", "make it: 'make eval-builtin' runs every step")
    return path


def _object(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
