"""`again`: makes a result once more from what its file says, and tells whether it is identical.

It does not print.
"""

from __future__ import annotations

import tempfile
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_client.commands.made import find_inputs, parsed, told_by
from edge_client.commands.outcome import Outcome
from edge_client.commands.runs import pictures
from edge_client.config import Settings
from shared_protocol.messages import OnStep

if TYPE_CHECKING:
    from shared_protocol.tokens import ImageTokens


def again(given: Namespace, settings: Settings, on_step: OnStep | None) -> Outcome:
    """Make a result again, and compare."""
    from edge_client.pictures.outputs import destination, save_bytes

    told = told_by(given.file)
    task = parsed(told)
    here = given.file.resolve().parent
    find_inputs(task, told, (Path.cwd(), here), {"image": given.image, "mask": given.mask})
    kind = given.file.suffix.lower().lstrip(".")
    default = given.file.with_name(f"{given.file.stem}-again.png")
    kept = destination(given.output, default, (given.file,), given.force)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / f"again.{kind if kind in ('png', 'jpg', 'jpeg', 'webp') else 'png'}"
        for name, value in (("output", made), ("out_dir", None), ("force", True), ("count", 1)):
            setattr(task, name, value)
        task.json, task.quiet, task.format = given.json, given.quiet, None
        outcome = pictures(task, settings, on_step)
        found = _compared(given.file, made, settings)
        data: dict[str, Any] = {**outcome.data, **found, "command": told["command"]}
        data.pop("tokens", None)
        warnings = list(outcome.warnings)
        if not found["identical"]:
            warnings += _reasons(told, settings)
        data["output"] = None
        if given.output is not None or not found["identical"]:
            path, told_more = save_bytes(kept, made.read_bytes())
            data["output"], warnings = str(path), [*warnings, *told_more]
    data["warnings"] = warnings
    result = _said(given.file, data)
    return replace(
        outcome, result=result, data=data, warnings=tuple(warnings), failed=not data["identical"]
    )


def _compared(before: Path, after: Path, settings: Settings) -> dict[str, Any]:
    """Whether two results show the same, and in how many tokens they differ."""
    from edge_client.pictures.opening import open_photo

    differ = None
    tokens = [_tokens(path, settings) for path in (before, after)]
    if tokens[0] is not None and tokens[1] is not None:
        same_grid = tokens[0].shape == tokens[1].shape
        differ = int((tokens[0].codes != tokens[1].codes).sum()) if same_grid else -1
    if before.suffix.lower() == ".umic":
        return {"identical": differ == 0, "tokens_that_differ": differ}
    images = [open_photo(path).image for path in (before, after)]
    facts = [(image.mode, image.size, image.tobytes()) for image in images]
    return {"identical": facts[0] == facts[1], "tokens_that_differ": differ}


def _tokens(path: Path, settings: Settings) -> ImageTokens | None:
    from edge_client.pictures.sources import open_source
    from shared_protocol.bundles.find import load_bundle
    from shared_protocol.errors import UnimicError

    try:
        return open_source(path, load_bundle(settings.bundle)).tokens
    except UnimicError:
        return None


def _reasons(told: dict[str, str], settings: Settings) -> list[str]:
    from shared_protocol.bundles.find import load_bundle

    ours = load_bundle(settings.bundle).fingerprint.hex()
    if told.get("bundle", ours) != ours:
        return [f"it was made with bundle {told['bundle'][:16]}, this is {ours[:16]}"]
    return ["the server's model, or this version's way of making the result, is another one"]


def _said(file: Path, data: dict[str, Any]) -> str:
    if data["identical"]:
        return f"identical to {file}" + (f": {data['output']}" if data["output"] else "")
    count = data["tokens_that_differ"]
    how = f" in {count} tokens" if count and count > 0 else ""
    return f"differs from {file}{how}: {data['output']}"
