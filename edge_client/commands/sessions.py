"""`session list|show|delete|export`: conversations that are kept on this device.

It does not print, and needs no server.
"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_client.commands.outcome import Outcome
from edge_client.config import Settings
from edge_client.report import table
from shared_protocol.errors import InvalidInputError, printable
from shared_protocol.messages import OnStep

if TYPE_CHECKING:
    from edge_client.session.history import StoredSession

_WIDTH = 200


def session(given: Namespace, settings: Settings, on_step: OnStep | None) -> Outcome:
    """Do what the second word says."""
    from edge_client.session.history import folder

    doing = {"list": _list, "show": _show, "delete": _delete, "export": _export}[given.what]
    return doing(given, settings, folder())


def _list(given: Namespace, settings: Settings, where: Path) -> Outcome:
    from edge_client.session.history import expire, listing

    gone = [] if given.older_than is None else expire(where, given.older_than)
    found = listing(where)
    rows = [[name, printable(summary, _WIDTH)] for name, summary in found]
    text = table(["conversation", ""], rows, left=2) if rows else f"none is kept in {where}"
    data = {"folder": str(where), "sessions": dict(found), "deleted": gone}
    return Outcome(text, data, "\n".join(f"deleted {name}" for name in gone))


def _show(given: Namespace, settings: Settings, where: Path) -> Outcome:
    from edge_client.session.history import load

    stored = load(given.name, where)
    return Outcome(_told(stored), _data(stored))


def _delete(given: Namespace, settings: Settings, where: Path) -> Outcome:
    from edge_client.session.history import delete

    delete(given.name, where)
    return Outcome(f"{given.name} is deleted", {"deleted": given.name})


def _export(given: Namespace, settings: Settings, where: Path) -> Outcome:
    from edge_client.pictures.outputs import destination, save_source
    from edge_client.pictures.sources import of_tokens
    from edge_client.session.history import load
    from shared_protocol.bundles.find import load_bundle
    from shared_protocol.files import write_atomically

    stored, out = load(given.name, where), Path(given.out or given.name)
    if out.exists():
        raise InvalidInputError(f"{out} exists", "name a new folder with --out")
    bundle = load_bundle(settings.bundle)
    out.mkdir(parents=True)
    written = [out / "conversation.md"]
    write_atomically(written[0], _told(stored) + "\n")
    for number, (_, tokens) in enumerate(stored.pictures, 1):
        path = out / f"picture-{number}.png"
        saved = save_source(destination(path, path), of_tokens(tokens, bundle, path.name))
        written += [saved.path] if saved.tokens is None else [saved.path, saved.tokens]
    names = [str(path) for path in written]
    return Outcome(str(out), {"written": names}, "\n".join(names))


def _told(stored: StoredSession) -> str:
    lines = [f"# {stored.name}: {printable(stored.summary, _WIDTH)}", ""]
    for number, turn in enumerate(stored.turns, 1):
        source = "" if turn.source is None else f" about picture {turn.source + 1}"
        made = "" if turn.result is None else f"picture {turn.result + 1}"
        lines.append(f"{number}. {turn.task}{source}: {printable(turn.text, _WIDTH)}")
        answer = printable(turn.answer or made, _WIDTH)
        up, down = turn.cost.get("payload_up", 0), turn.cost.get("payload_down", 0)
        lines.append(f"   -> {answer}  ({up} bytes up, {down} down)")
    return "\n".join(lines)


def _data(stored: StoredSession) -> dict[str, Any]:
    return {
        "name": stored.name,
        "server": stored.server,
        "session": stored.session.hex(),
        "fingerprint": stored.fingerprint.hex(),
        "started": stored.started,
        "next_turn": stored.next_turn,
        "pictures": [
            {"name": name, "grid": list(tokens.shape)} for name, tokens in stored.pictures
        ],
        "turns": [
            {
                "task": turn.task,
                "text": turn.text,
                "source": turn.source,
                "result": turn.result,
                "answer": turn.answer,
                "cost": dict(turn.cost),
            }
            for turn in stored.turns
        ],
    }
