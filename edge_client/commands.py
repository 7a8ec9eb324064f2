"""What each command does: files in, files and an `Outcome` out.

It does not print, and leaves the interaction itself to `session`.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_client.config import Settings
from edge_client.report import (
    anatomy_report,
    interaction_report,
    interaction_table,
    message_table,
    table,
)
from shared_protocol.errors import ImageError, MaskError, TruncatedError

if TYPE_CHECKING:
    from edge_client.client import EdgeSession, Interaction
    from edge_client.pictures.images import Picture
    from edge_client.rate_control import Budget
    from shared_protocol.bundles.bundle import Bundle
    from shared_protocol.tokens import TokenMask

# Imports are local to the commands that need them: `inspect` answers without Pillow, HTTP or torch.

PATCH = 16
"""Pixels per token side, of every bundle so far: known before the tokenizer is loaded."""
MAX_MESSAGE_BYTES = 1 << 20
_NOTICEABLE = 0.02
"""Share of a mask that may vanish in silence."""

OnStep = Callable[[int, int], None]


@dataclass(frozen=True)
class Outcome:
    """What a command has to say.

    Args:
        result: first line or lines: a path, an answer.
        data: all of it for machines, JSON-ready.
        details: tables for people.
        warnings: one line each.
        failed: whether the exit code tells of a failure.
    """

    result: str
    data: dict[str, Any]
    details: str = ""
    warnings: tuple[str, ...] = field(default=())
    failed: bool = False


def run(given: Namespace, settings: Settings, on_step: OnStep | None = None) -> Outcome:
    """Run the command that `given` names.

    Raises:
        UnimicError: it could not be done.
    """
    local = {"encode": _encode, "decode": _decode, "inspect": _inspect}
    if given.command in local:
        return local[given.command](given, settings)
    if given.command == "info":
        return _info(settings)
    if given.command == "fetch":
        return _fetch(given, settings, on_step)
    if given.command == "evaluate":
        return _evaluate(given, settings)
    return _interact(given, settings, on_step)


def _interact(given: Namespace, settings: Settings, on_step: OnStep | None) -> Outcome:
    from edge_client.client import EdgeSession
    from edge_client.transport.http import HttpTransport
    from shared_protocol.bundles.bundle import load_bundle

    # All that can be checked here is checked before anything is loaded or sent.
    output = None if given.command == "vqa" else _picture_output(given)
    bundle = load_bundle(settings.bundle)
    picture = None if given.command == "t2i" else _picture(given, bundle)
    with HttpTransport(settings.server, settings.api_key, settings.timeout) as transport:
        session = EdgeSession(bundle, transport, on_step)
        task = {"t2i": _t2i, "inpaint": _inpaint, "outpaint": _outpaint, "vqa": _vqa}
        interaction, notes, warnings = task[given.command](given, session, bundle, picture)
    data = {
        **_result(interaction, output),
        "bundle": bundle.name,
        "seed": given.seed,
        "notes": notes,
        **interaction_report(interaction),
    }
    data["warnings"] = [*_exposed_key(settings), *warnings, *data["warnings"]]
    result = str(output) if interaction.answer is None else _shown(interaction.answer)
    details = "\n".join(
        [*notes, "", interaction_table(data)] if notes else [interaction_table(data)]
    )
    return Outcome(result, data, details, tuple(data["warnings"]))


def _exposed_key(settings: Settings) -> list[str]:
    from edge_client.transport.http import is_loopback

    if not settings.api_key or settings.server.startswith("https") or is_loopback(settings.server):
        return []
    return [f"the API key travels unencrypted to {settings.server}; use https"]


def _shown(answer: str) -> str:
    """A model's words without characters that would steer a terminal."""
    return "".join(char if char.isprintable() or char == "\n" else " " for char in answer)


Done = tuple["Interaction", list[str], list[str]]
"""An interaction, notes on its input, and warnings."""


def _t2i(given: Namespace, session: EdgeSession, bundle: Bundle, picture: Picture | None) -> Done:
    return session.t2i(given.prompt, _options(given)), [], []


def _inpaint(
    given: Namespace, session: EdgeSession, bundle: Bundle, picture: Picture | None
) -> Done:
    from dataclasses import replace

    from edge_client.pictures.masks import paste_outside

    assert picture is not None
    tokens, notes, warnings = _token_mask(given, bundle, picture)
    budget = _budget(given)
    interaction = session.inpaint(picture.pixels, tokens, given.prompt, _options(given), budget)
    if given.composite and interaction.pixels is not None:
        merged = paste_outside(picture.pixels, interaction.pixels, tokens)
        interaction = replace(interaction, pixels=merged)
        notes.append("pixels outside the mask are the photo's own")
    return interaction, [picture.description, *notes, *_dropped(interaction, bundle)], warnings


def _outpaint(
    given: Namespace, session: EdgeSession, bundle: Bundle, picture: Picture | None
) -> Done:
    from shared_protocol.tasks import Extension

    assert picture is not None
    extension = Extension(given.left, given.right, given.up, given.down)
    options, budget = _options(given), _budget(given)
    interaction = session.outpaint(picture.pixels, extension, given.prompt, options, budget)
    return interaction, [picture.description, *_dropped(interaction, bundle)], []


def _vqa(given: Namespace, session: EdgeSession, bundle: Bundle, picture: Picture | None) -> Done:
    assert picture is not None
    from shared_protocol.messages import Options

    options = Options(seed=given.seed, max_new_tokens=given.max_new_tokens)
    interaction = session.vqa(picture.pixels, given.question, options, _budget(given))
    return interaction, [picture.description, *_dropped(interaction, bundle)], []


def _options(given: Namespace) -> Any:
    from shared_protocol.messages import Options

    return Options(steps=given.steps, guidance=given.guidance, seed=given.seed)


def _budget(given: Namespace) -> Budget | None:
    from edge_client.rate_control import Budget, Order

    if given.keep_ratio is None and given.target_bytes is None:
        return None
    return Budget(given.keep_ratio, given.target_bytes, Order(given.drop_order))


def _dropped(interaction: Interaction, bundle: Bundle) -> list[str]:
    """What leaving out tokens has saved, which may be less than nothing for a simple picture."""
    from dataclasses import replace

    from shared_protocol.message.codec import encode_request

    request = interaction.request
    if request.dropped is None:
        return []
    whole = len(encode_request(replace(request, dropped=None), bundle).data)
    left_out = f"{request.dropped.count} of {request.dropped.flags.size} tokens are not sent"
    return [f"{left_out}: {interaction.uplink.sizes.total:,} bytes up, {whole:,} with all of them"]


def _token_mask(
    given: Namespace, bundle: Bundle, picture: Picture
) -> tuple[TokenMask, list[str], list[str]]:
    from edge_client.pictures.images import box_mask, load_mask
    from edge_client.pictures.masks import token_mask, vanished_share

    pixels = load_mask(given.mask, picture) if given.mask else box_mask(given.box, picture)
    try:
        tokens = token_mask(pixels, bundle.grid)
    except MaskError as error:
        source = given.mask.name if given.mask else "the box"
        raise MaskError(f"{source}: {error.message}", error.remedy) from error
    notes = [f"mask: {tokens.count} of {tokens.flags.size} tokens are made anew"]
    share = vanished_share(pixels, tokens)
    if share < _NOTICEABLE:
        return tokens, notes, []
    thin = f"{share:.0%} of the mask is too thin for the token grid and stays as it is"
    return tokens, notes, [f"{thin}; paint strokes at least one token wide"]


def _picture(given: Namespace, bundle: Bundle) -> Picture:
    from edge_client.pictures.images import Fit, load_picture

    height, width = bundle.grid
    return load_picture(given.image, height * PATCH, width * PATCH, Fit(given.fit))


def _result(interaction: Interaction, output: Path | None) -> dict[str, Any]:
    """Save the picture, if there is one, and name the result."""
    from edge_client.pictures.images import save_picture

    if interaction.pixels is None or output is None:
        return {"answer": interaction.answer}
    save_picture(output, interaction.pixels)
    return {"output": str(output)}


def _encode(given: Namespace, settings: Settings) -> Outcome:
    from edge_client.pictures.images import check_folder
    from shared_protocol.bundles.bundle import load_bundle
    from shared_protocol.message.codec import encode_image

    output = given.output or _free(f"{given.image.stem}.umic")
    check_folder(output)
    bundle = load_bundle(settings.bundle)
    picture = _picture(given, bundle)
    encoded = encode_image(bundle.image_tokenizer().tokenize(picture.pixels), bundle)
    _write(output, encoded.data)
    height, width = picture.pixels.shape[:2]
    report = anatomy_report(encoded.anatomy, height * width)
    source = given.image.stat().st_size
    data = {
        "output": str(output),
        "notes": [picture.description],
        "canvas": [width, height],
        "source_bytes": source,
        **report,
    }
    size = f"{len(encoded.data):,} bytes instead of the file's {source:,}"
    details = f"{picture.description}\n{size}\n\n{message_table(report)}"
    return Outcome(str(output), data, details)


def _decode(given: Namespace, settings: Settings) -> Outcome:
    from edge_client.pictures.images import save_picture
    from shared_protocol.bundles.bundle import load_bundle
    from shared_protocol.message.codec import decode_image

    message = _read(given.file)
    output = _picture_output(given)
    bundle = load_bundle(settings.bundle)
    decoded = decode_image(message, bundle)
    pixels = bundle.image_tokenizer().detokenize(decoded.value)
    save_picture(output, pixels)
    height, width = pixels.shape[:2]
    report = anatomy_report(decoded.anatomy, height * width)
    data = {"output": str(output), "canvas": [width, height], **report}
    return Outcome(str(output), data, message_table(report))


def _inspect(given: Namespace, settings: Settings) -> Outcome:
    from shared_protocol.message.codec import inspect

    report = anatomy_report(inspect(_read(given.file)))
    return Outcome(message_table(report), report)


def _info(settings: Settings) -> Outcome:
    from edge_client.compatibility import compare
    from edge_client.transport.http import HttpTransport
    from shared_protocol.bundles.bundle import load_bundle
    from shared_protocol.http.reply_stream import printable

    with HttpTransport(settings.server, settings.api_key, settings.timeout) as transport:
        info = transport.info()
    bundle = load_bundle(settings.bundle)
    bundle.check_probabilities()
    points = compare(bundle, info)
    agree = all(point.agrees for point in points)
    facts = [[name, printable(_flat(value), 100)] for name, value in info.items()]
    rows = [
        [point.name, point.ours[:16], point.theirs[:16], "yes" if point.agrees else "NO"]
        for point in points
    ]
    text = "\n\n".join(
        [
            table([settings.server, ""], facts, left=2),
            table(["both ends", "here", "server", "agree"], rows, left=4),
        ]
    )
    data = {
        "server": settings.server,
        "info": info,
        "agree": agree,
        "points": [
            {"name": p.name, "ours": p.ours, "theirs": p.theirs, "agree": p.agrees} for p in points
        ],
    }
    differing = [f"the {p.name} differs: {p.remedy}" for p in points if not p.agrees]
    return Outcome(text, data, warnings=tuple(differing), failed=not agree)


def _evaluate(given: Namespace, settings: Settings) -> Outcome:
    from edge_client.evaluation.evaluate import evaluate
    from edge_client.evaluation.tables.output import as_data, terminal

    done = evaluate(given, settings)
    data = {
        "output": str(done.out / "results.md"),
        "sections": [as_data(section) for section in done.sections],
        "failures": list(done.failures),
    }
    return Outcome(
        "\n\n".join([*map(terminal, done.sections), str(done.out / "results.md")]),
        data,
        warnings=(*done.failures, *done.warnings),
        failed=bool(done.failures),
    )


def _fetch(given: Namespace, settings: Settings, on_step: OnStep | None) -> Outcome:
    from edge_client.fetching import fetch_from_server
    from edge_client.transport.http import HttpTransport
    from shared_protocol.bundles.bundle import load_bundle

    lines: list[str] = []
    if given.name is None:
        with HttpTransport(settings.server, settings.api_key, settings.timeout) as transport:
            fetched = fetch_from_server(transport, on_step)
        name, received = fetched.name, fetched.received
        lines.append(f"{received:,} bytes received from {settings.server}")
    else:
        from shared_protocol.bundles.hub import fetch_published

        name, received = given.name, None
        fetch_published(name, transformer=False, say=lines.append)
    bundle = load_bundle(name)
    warnings = _exposed_key(settings) if given.name is None else []
    data = {
        "bundle": name,
        "fingerprint": bundle.fingerprint.hex(),
        "folder": str(bundle.folder),
        "received": received,
        "warnings": warnings,
    }
    use = f"use it with --bundle {name}, or UNIMIC_BUNDLE={name}"
    return Outcome(f"{name} is here; {use}", data, "\n".join(lines), tuple(warnings))


def _flat(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_flat(entry)}" for key, entry in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)


def _picture_output(given: Namespace) -> Path:
    """Where the result goes: as told, or the first free name in this folder."""
    from edge_client.pictures.images import check_output

    stem = {"t2i": "t2i", "decode": getattr(given, "file", Path()).stem}.get(given.command)
    default = f"{stem or f'{given.image.stem}-{given.command}'}.png"
    output: Path = given.output or _free(default)
    check_output(output)
    return output


def _free(name: str) -> Path:
    path, number = Path(name), 1
    while path.exists():
        number += 1
        path = Path(f"{Path(name).stem}-{number}{Path(name).suffix}")
    return path


def _read(path: Path) -> bytes:
    """A message file, read no further than a message may be long."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_MESSAGE_BYTES + 1)
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror}", "check the path") from error
    if not data:
        raise TruncatedError(f"{path} is empty")
    return data


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise ImageError(f"cannot write {path}: {error.strerror}") from error
