"""`vqa`: answers to questions about a picture, or about each of several, one turn each.

It does not print, and does not know how answers come.
"""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge_client.commands.outcome import Outcome, exposed_key
from edge_client.commands.runs import items_of, tell
from edge_client.commands.tasks import Cloud, Done, Item, answers, cloud
from edge_client.config import Settings
from edge_client.report import interaction_report, interaction_table
from shared_protocol.errors import InvalidInputError
from shared_protocol.messages import OnStep


def questions(given: Namespace, settings: Settings, on_step: OnStep | None) -> Outcome:
    """Answers to questions about a picture, or about each of several, one turn each."""
    items = items_of(given)
    if len(items) == 1 and given.out_dir is None:
        with cloud(given, settings, on_step) as ends:
            return _answered(given, settings, items[0], ends)
    return _answers_of_many(given, settings, items, on_step)


def _answered(given: Namespace, settings: Settings, item: Item, ends: Cloud) -> Outcome:
    told, details, turns = [], [], []
    for question, done in answers(given, item, ends):
        data = _answer(question, done, item, ends)
        told.append(
            data["answer"] if question in given.questions else f"{question}: {data['answer']}"
        )
        details.append("\n".join([*data["notes"], "", interaction_table(data)]))
        turns.append(data)
    warnings = [*exposed_key(settings), *(line for turn in turns for line in turn["warnings"])]
    warnings = list(dict.fromkeys(warnings))
    if len(turns) == 1:
        data = {**turns[0], "warnings": warnings}
        return Outcome(told[0], data, details[0], tuple(warnings))
    data = {"answers": [turn["answer"] for turn in turns], "turns": turns, "warnings": warnings}
    return Outcome("\n".join(told), data, "\n\n".join(details), tuple(warnings))


def _answer(question: str, done: Done, item: Item, ends: Cloud) -> dict[str, Any]:
    report = interaction_report(done.interaction, ends.exchange.way)
    return {
        "question": question,
        "answer": _shown(done.interaction.answer or ""),
        "bundle": ends.bundle.name,
        "seed": item.seed,
        "notes": done.notes,
        **report,
        "warnings": list(dict.fromkeys([*done.warnings, *report["warnings"]])),
    }


def _answers_of_many(
    given: Namespace, settings: Settings, items: Sequence[Item], on_step: OnStep | None
) -> Outcome:
    lines, results, failed = [], [], []
    out: Path | None = given.out_dir
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    with cloud(given, settings, on_step) as ends:
        for number, item in enumerate(items, 1):
            assert item.image is not None, "questions are about pictures"
            tell(on_step, number, len(items), item.image)
            file = None if out is None else out / f"{item.image.name}.json"
            data = _kept(file, given.questions)
            try:
                data = data or _answered(given, settings, item, ends).data
            except InvalidInputError as error:
                failed.append((item.image, error))
                continue
            if file is not None:
                from shared_protocol.files import write_atomically

                write_atomically(file, json.dumps(data, indent=2, ensure_ascii=False) + "\n")
            found = data.get("answers") or [data["answer"]]
            lines.append(f"{item.image}: {'; '.join(found)}")
            results.append({"image": str(item.image), **data})
    warnings = [f"{path}: {error}" for path, error in failed]
    warnings += [f"{each['image']}: {told}" for each in results for told in each["warnings"]]
    told = {
        "results": results,
        "failed": [{"image": str(path), "error": str(error)} for path, error in failed],
        "warnings": list(dict.fromkeys(warnings)),
    }
    warned = tuple(dict.fromkeys(warnings))
    return Outcome("\n".join(lines), told, "", warned, failed=bool(failed))


def _kept(file: Path | None, asked: Sequence[str]) -> dict[str, Any] | None:
    """The answers of an earlier run to the same questions."""
    if file is None or not file.is_file():
        return None
    try:
        data: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        found = [turn["question"] for turn in data.get("turns", [data])]
    except (ValueError, KeyError, TypeError, OSError):
        return None
    return data if found == list(asked) else None


def _shown(answer: str) -> str:
    """A model's words without characters that would steer a terminal."""
    return "".join(char if char.isprintable() or char == "\n" else " " for char in answer)
