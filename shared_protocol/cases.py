"""Evaluation cases as files: what is to be asked, and what came back, one JSON object a line.

The cloud's recipes make cases and judge records, the edge's evaluation runs them: both use these
types. They do not know how a case is run, nor how a result is judged.

::

    FOLDER/data.json     name, split, seed, created_by, counts
    FOLDER/cases.jsonl   one case a line, see `Case`
    FOLDER/images/       the pictures that cases name
    FOLDER/masks/        the masks that cases name
    OUT/records.jsonl    one result a line; of several with one id the last counts
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from shared_protocol.errors import ConfigError, InvalidInputError
from shared_protocol.files import write_atomically
from shared_protocol.tasks import TABLE, Task

CASES = "cases.jsonl"
RECORDS = "records.jsonl"
DATA = "data.json"
TASKS = tuple(task.slug for task, row in TABLE.items() if row.needs_text)
"""Those that cases ask for: in words, or without any."""
_SIDES = ("left", "right", "up", "down")


@dataclass(frozen=True)
class Case:
    """One request and what a judge needs to know of it.

    Args:
        id: unique in its folder, and a file name.
        task: one of `TASKS`.
        prompt: caption, or question for vqa.
        image: path of the picture, relative to the folder; None for t2i.
        box: x, y, width, height in pixels of what an inpaint repaints; or
        mask: path of a mask file, relative to the folder: white is repainted, whatever its shape.
        extend: token columns or rows by side ("left", …) that an outpaint adds.
        answers: what a vqa may answer.
        kind: kind of question, or number of objects.
        wording: "trained" or "held out", as far as known.
        seed: of the request.
        truth: what is to be seen, for a judge alone.

    Raises:
        InvalidInputError: a part is missing for the task.
    """

    id: str
    task: str
    prompt: str
    image: str | None = None
    box: tuple[int, int, int, int] | None = None
    extend: dict[str, int] | None = None
    answers: tuple[str, ...] = ()
    kind: str = ""
    wording: str = ""
    seed: int = 0
    truth: dict[str, Any] = field(default_factory=dict)
    mask: str | None = None

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise InvalidInputError(f"case {self.id}: no task {self.task!r}", f"use one of {TASKS}")
        if not self.id or Path(self.id).name != self.id:
            raise InvalidInputError(
                f"case id {self.id!r} is no file name", "use letters and digits"
            )
        row = TABLE[Task.named(self.task)]
        for name, needed, given in (
            ("image", row.needs_image, self.image),
            ("box or mask", row.needs_mask, self.box or self.mask),
            ("extend", row.needs_extension, self.extend),
        ):
            if needed and given is None:
                raise InvalidInputError(f"case {self.id}: {self.task} needs {name}")
        if self.box is not None and self.mask is not None:
            raise InvalidInputError(f"case {self.id} has a box and a mask", "keep one of them")
        if self.extend is not None and not set(self.extend) <= set(_SIDES):
            raise InvalidInputError(f"case {self.id} extends {set(self.extend)}", f"use {_SIDES}")

    @property
    def repaints(self) -> bool:
        """Whether a part of the picture is to be repainted."""
        return self.box is not None or self.mask is not None

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Case:
        """The case that a line holds; unknown names are left to later versions.

        >>> Case.from_dict({"id": "a", "task": "t2i", "prompt": "a fox", "image": None}).prompt
        'a fox'
        """
        known = {item.name: data[item.name] for item in fields(cls) if data.get(item.name)}
        if data.get("prompt") == "":  # nothing said is a prompt, too
            known["prompt"] = ""
        for name in ("box", "answers"):
            if name in known:
                known[name] = tuple(known[name])
        return cls(**known)

    def to_dict(self) -> dict[str, Any]:
        """What a line holds, every name of it."""
        found = {item.name: getattr(self, item.name) for item in fields(self)}
        box = None if self.box is None else list(self.box)
        return {**found, "box": box, "answers": list(self.answers)}


@dataclass
class CaseRecord:
    """What came back of one case.

    Args:
        id, task: of the case.
        answer: words, for vqa.
        picture: path of the result, relative to the records' folder.
        tokens: (H', W') codes of the result, as lists.
        known_unchanged: whether every token that the edge sent stands where it stood; None if none
            was to be kept.
        bytes: by direction and part, see `edge_client.evaluation.run_cases`.
        seconds: by stage; "total" leaves out what happens on first use only.
        warnings: what the user was told.
        error: why nothing came of it; None if something did.
    """

    id: str
    task: str
    answer: str | None = None
    picture: str | None = None
    tokens: list[list[int]] | None = None
    known_unchanged: bool | None = None
    bytes: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    error: str | None = None

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> CaseRecord:
        """The record that a line holds; unknown names are left to later versions.

        >>> CaseRecord.from_dict({"id": "a", "task": "vqa", "answer": "two"}).answer
        'two'
        """
        return cls(**{item.name: data[item.name] for item in fields(cls) if item.name in data})

    def to_dict(self) -> dict[str, Any]:
        """What a line holds."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


def write_cases(folder: Path, cases: Iterable[Case], about: dict[str, Any]) -> None:
    """Write `cases.jsonl`, and `about` as `data.json`."""
    lines = [json.dumps(case.to_dict(), ensure_ascii=False) for case in cases]
    write_atomically(folder / CASES, "\n".join(lines) + "\n")
    write_atomically(folder / DATA, json.dumps(about, indent=2) + "\n")


def load_cases(
    folder: Path, tasks: Collection[str] = TASKS, limit: int | None = None
) -> list[Case]:
    """The cases of `tasks` in `folder`, in the order of the file.

    Args:
        folder: holds `cases.jsonl`.
        tasks: which to read.
        limit: how many at most of each series: "vqa-0001" and "easy-0001" belong to two.

    Raises:
        ConfigError: there is no such file, or a line is not a case.
        InvalidInputError: a case contradicts itself.
    """
    path = folder / CASES
    if not path.is_file():
        raise ConfigError(f"{folder} holds no {CASES}", "make one: 'cloud-server train cases'")
    seen: dict[str, int] = {}
    cases = []
    for number, line in enumerate(_lines_of(path.read_text(encoding="utf-8")), start=1):
        case = _read_case(line, f"{path}, line {number}")
        if case.task not in tasks:
            continue
        series = case.id.rpartition("-")[0]
        seen[series] = seen.get(series, 0) + 1
        if limit is None or seen[series] <= limit:
            cases.append(case)
    return cases


def _lines_of(text: str) -> list[str]:
    """Lines as JSON ends them: prompts may hold what Unicode takes for the end of one."""
    return text.removesuffix("\n").split("\n") if text else []


def _read_case(line: str, where: str) -> Case:
    try:
        return Case.from_dict(json.loads(line))
    except (ValueError, TypeError, AttributeError) as error:
        raise ConfigError(f"{where} is not a case: {error}", "write the folder again") from error


class Records:
    """Results, appended one by one, so that an interrupted run goes on where it stopped.

    Args:
        path: the file; its folder is made when the first record is added.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The last record of every id; a line cut short by an interruption is left out."""
        latest: dict[str, dict[str, Any]] = {}
        for line in self._lines():
            try:
                record = json.loads(line)
                latest[record["id"]] = record
            except (ValueError, TypeError, KeyError):
                continue
        return iter(latest.values())

    def done(self) -> set[str]:
        """Ids that need no further run: those that ended without an error."""
        return {record["id"] for record in self if not record.get("error")}

    def add(self, record: dict[str, Any]) -> None:
        """Append `record`, on a line of its own even after one that was cut short."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as file:
            if file.tell():
                file.seek(-1, 2)
                if file.read(1) != b"\n":
                    file.write(b"\n")
            line = json.dumps(record, ensure_ascii=False, separators=(",", ":"))
            file.write(f"{line}\n".encode())

    def _lines(self) -> list[str]:
        if not self.path.is_file():
            return []
        return _lines_of(self.path.read_text(encoding="utf-8", errors="replace"))
