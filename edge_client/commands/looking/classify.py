"""`classify`: what a picture shows, or each of several, as labels with their probabilities.

It does not print, and does not know how labels come.
"""

from __future__ import annotations

from argparse import Namespace
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from edge_client.commands.outcome import Outcome, exposed_key
from edge_client.commands.runs import items_of, tell
from edge_client.commands.tasks import Cloud, Done, Item, classified, cloud
from edge_client.config import Settings
from edge_client.report import interaction_report, interaction_table, table
from shared_protocol.errors import InvalidInputError
from shared_protocol.messages import OnStep

if TYPE_CHECKING:
    from edge_client.exchange.label_names import Label

_FEW = 3
"""Labels on the line of one picture among many."""


def classify(given: Namespace, settings: Settings, on_step: OnStep | None) -> Outcome:
    """The likeliest labels of a picture, or of each of several, one turn each."""
    items = items_of(given)
    if len(items) > 1:
        return _many(given, settings, items, on_step)
    with cloud(given, settings, on_step) as ends:
        turns = [_turn(given, *found, ends) for found in classified(given, items[0], ends)]
    told = [*exposed_key(settings), *(line for turn in turns for line in turn["warnings"])]
    warnings = tuple(dict.fromkeys(told))
    details = ["\n".join([*turn["notes"], "", interaction_table(turn)]) for turn in turns]
    shown = "\n\n".join(_titled(turn) for turn in turns)
    data: dict[str, Any] = turns[0] if len(turns) == 1 else {"turns": turns}
    return Outcome(shown, {**data, "warnings": list(warnings)}, "\n\n".join(details), warnings)


def _many(
    given: Namespace, settings: Settings, items: list[Item], on_step: OnStep | None
) -> Outcome:
    lines, results, failed = [], [], []
    with cloud(given, settings, on_step) as ends:
        for number, item in enumerate(items, 1):
            assert item.image is not None, "labels are of pictures"
            tell(on_step, number, len(items), item.image)
            try:
                found = [_turn(given, *each, ends) for each in classified(given, item, ends)]
            except InvalidInputError as error:
                failed.append((item.image, error))
                continue
            for turn in found:
                few = ", ".join(f"{e['name']} {e['percent']}" for e in turn["labels"][:_FEW])
                lines.append(f"{item.image}: {turn['window']}{few}")
                results.append({"image": str(item.image), **turn})
    warnings = [f"{path}: {error}" for path, error in failed]
    warnings += [f"{each['image']}: {told}" for each in results for told in each["warnings"]]
    warnings = [*exposed_key(settings), *dict.fromkeys(warnings)]
    data = {
        "results": results,
        "failed": [{"image": str(path), "error": str(error)} for path, error in failed],
        "warnings": warnings,
    }
    up = sum(each["uplink"]["bytes"]["total"] for each in results)
    down = sum(each["downlink"]["bytes"]["total"] for each in results)
    details = f"{len(results)} pictures, {up:,} bytes up, {down:,} down"
    return Outcome("\n".join(lines), data, details, tuple(warnings), failed=bool(failed))


def _turn(given: Namespace, window: str, done: Done, ends: Cloud) -> dict[str, Any]:
    """Everything about the labels of one picture, or of a window of it, JSON-ready."""
    report = interaction_report(done.interaction, ends.exchange.way)
    labels, notes = done.interaction.labels, list(done.notes)
    if len(labels) < given.top:
        notes.append(f"the server knows {len(labels)} labels")
    ranking = done.interaction.response.labels
    return {
        "labels": [_told(label) for label in labels],
        "labels_fingerprint": None if ranking is None else ranking.of.fingerprint.hex(),
        "window": window,
        "bundle": ends.bundle.name,
        "notes": notes,
        **report,
        "warnings": list(dict.fromkeys([*done.warnings, *report["warnings"]])),
    }


def _told(label: Label) -> dict[str, Any]:
    return {**asdict(label), "percent": label.percent}


def _titled(turn: dict[str, Any]) -> str:
    rows = [[label["name"], label["percent"]] for label in turn["labels"]]
    shown = table(["", ""], rows).split("\n", 2)[2]  # names and numbers need no heading
    return f"{turn['window']}\n{shown}" if turn["window"] else shown
