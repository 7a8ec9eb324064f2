"""`encode`, `decode` and `inspect`: pictures to `.umic` files and back, without a server.

It does not print. `inspect` answers without Pillow, HTTP or torch, so imports are local.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from edge_client.commands.outcome import Outcome
from edge_client.config import Settings
from edge_client.report import anatomy_report, file_report, file_table, message_table
from shared_protocol.compute import Compute
from shared_protocol.errors import ImageError, TruncatedError
from shared_protocol.messages import OnStep

if TYPE_CHECKING:
    from edge_client.pictures.images import Picture
    from shared_protocol.message.picture_file import Metadata

MAX_BYTES = 1 << 20
"""Neither a message nor a file may be longer."""


def encode(given: Namespace, settings: Settings, on_step: OnStep | None) -> Outcome:
    """Write a picture's tokens into a file."""
    from edge_client.pictures.geometry import Fit
    from edge_client.pictures.outputs import file_destination, save_bytes
    from edge_client.pictures.sources import load_source
    from shared_protocol.bundles.find import load_bundle
    from shared_protocol.message.picture_file import Coding, read_picture, write_picture

    stem = "stdin" if str(given.image) == "-" else given.image.stem
    target = file_destination(given.output, Path(f"{stem}.umic"), (given.image,), given.force)
    bundle = load_bundle(settings.bundle, Compute.named(settings.compute))
    picture = load_source(given.image, bundle, Fit(given.fit or "crop"))
    coding = Coding.DURABLE if given.durable else Coding.SMALLEST
    metadata = _description(given.image, picture) if given.describe else {}
    tokens = picture.tokens or bundle.image_tokenizer().tokenize(picture.pixels)
    data = write_picture(tokens, bundle, coding, metadata)
    output, warnings = save_bytes(target, data)
    warnings = [*picture.lost(bundle.stride), *warnings]
    height, width = picture.pixels.shape[:2]
    report = file_report(read_picture(data, bundle).anatomy, metadata, height * width)
    source = given.image.stat().st_size if given.image.is_file() else None
    told = {
        "output": str(output),
        "notes": [picture.description],
        "canvas": [width, height],
        "source_bytes": source,
        "warnings": warnings,
        **report,
    }
    size = f"{len(data):,} bytes" + ("" if source is None else f" instead of the file's {source:,}")
    details = f"{picture.description}\n{size}\n\n{file_table(report)}"
    aside = target.is_stdout
    return Outcome("" if aside else str(output), told, details, tuple(warnings), aside=aside)


def decode(given: Namespace, settings: Settings, on_step: OnStep | None) -> Outcome:
    """Make a picture of a file's tokens."""
    from edge_client.pictures.outputs import destination, save_source
    from edge_client.pictures.sources import of_tokens
    from shared_protocol.bundles.find import load_bundle
    from shared_protocol.message.picture_file import read_picture

    data = _read(given.file)
    stem = "stdin" if str(given.file) == "-" else given.file.stem
    target = destination(given.output, Path(f"{stem}.png"), (given.file,), given.force)
    bundle = load_bundle(settings.bundle, Compute.named(settings.compute))
    stored = read_picture(data, bundle)
    source = of_tokens(stored.image, bundle, given.file.name)
    saved = save_source(target, source, not given.no_tokens, beside=False)
    width, height = source.size
    report = file_report(stored.anatomy, stored.metadata, height * width)
    told = {
        "output": str(saved.path),
        "canvas": [width, height],
        "warnings": list(saved.warnings),
        **report,
    }
    aside = target.is_stdout
    result = "" if aside else str(saved.path)
    return Outcome(result, told, file_table(report), saved.warnings, aside=aside)


def inspect(given: Namespace, settings: Settings, on_step: OnStep | None) -> Outcome:
    """Show what a picture file or a message is made of."""
    from shared_protocol.message.picture_file import MAGIC, inspect_picture

    data = _read(given.file)
    if data.startswith(MAGIC):
        report = file_report(*inspect_picture(data))
        return Outcome(file_table(report), report)
    from shared_protocol.message.codec import inspect as inspect_message

    report = anatomy_report(inspect_message(data))
    return Outcome(message_table(report), report)


def _description(path: Path, picture: Picture) -> Metadata:
    """Where the tokens come from: the photo's digest, and what became of its pixels."""
    from edge_client.pictures.carried_tokens import PHOTO_KEY, file_digest

    digest = {PHOTO_KEY: file_digest(path)} if path.is_file() else {}
    return {**digest, **picture.geometry.metadata(), "command": "encode"}


def _read(path: Path) -> bytes:
    """A file, or standard input, read no further than it may be long."""
    if str(path) == "-":
        return sys.stdin.buffer.read(MAX_BYTES + 1)
    try:
        if path.exists() and not path.is_file():
            raise ImageError(f"{path} is no regular file", "name a .umic file or a message")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror}", "check the path") from error
    if not data:
        raise TruncatedError(f"{path} is empty")
    return data
