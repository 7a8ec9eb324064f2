"""`encode`, `decode` and `inspect`: pictures to `.umic` files and back, without a server.

It does not print. `inspect` answers without Pillow, HTTP or torch, so imports are local.
"""

from __future__ import annotations

import hashlib
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from edge_client.commands.outcome import Outcome, free_name, picture_output, source_picture
from edge_client.config import Settings
from edge_client.report import anatomy_report, file_report, file_table, message_table
from shared_protocol.compute import Compute
from shared_protocol.errors import ImageError, TruncatedError
from shared_protocol.files import write_atomically
from shared_protocol.messages import OnStep

if TYPE_CHECKING:
    from edge_client.pictures.images import Picture
    from shared_protocol.message.picture_file import Metadata

MAX_BYTES = 1 << 20
"""Neither a message nor a file may be longer."""


def encode(given: Namespace, settings: Settings, on_step: OnStep | None) -> Outcome:
    """Write a picture's tokens into a file."""
    from edge_client.pictures.outputs import check_folder
    from shared_protocol.bundles.find import load_bundle
    from shared_protocol.message.picture_file import Coding, read_picture, write_picture

    output = given.output or free_name(f"{given.image.stem}.umic")
    check_folder(output)
    bundle = load_bundle(settings.bundle, Compute.named(settings.compute))
    picture = source_picture(given, bundle)
    coding = Coding.DURABLE if given.durable else Coding.SMALLEST
    metadata = _description(given.image, picture) if given.describe else {}
    tokens = picture.tokens or bundle.image_tokenizer().tokenize(picture.pixels)
    data = write_picture(tokens, bundle, coding, metadata)
    _write(output, data)
    height, width = picture.pixels.shape[:2]
    report = file_report(read_picture(data, bundle).anatomy, metadata, height * width)
    source = given.image.stat().st_size
    told = {
        "output": str(output),
        "notes": [picture.description],
        "canvas": [width, height],
        "source_bytes": source,
        **report,
    }
    size = f"{len(data):,} bytes instead of the file's {source:,}"
    details = f"{picture.description}\n{size}\n\n{file_table(report)}"
    return Outcome(str(output), told, details)


def decode(given: Namespace, settings: Settings, on_step: OnStep | None) -> Outcome:
    """Make a picture of a file's tokens."""
    from edge_client.pictures.carried_tokens import chunk_of
    from edge_client.pictures.images import save_picture
    from shared_protocol.bundles.find import load_bundle
    from shared_protocol.message.picture_file import read_picture

    data = _read(given.file)
    output = picture_output(given)
    bundle = load_bundle(settings.bundle, Compute.named(settings.compute))
    stored = read_picture(data, bundle)
    pixels = bundle.image_tokenizer().detokenize(stored.image)
    save_picture(
        output, pixels, None if given.no_tokens else chunk_of(stored.image, pixels, bundle)
    )
    height, width = pixels.shape[:2]
    report = file_report(stored.anatomy, stored.metadata, height * width)
    told = {"output": str(output), "canvas": [width, height], **report}
    return Outcome(str(output), told, file_table(report))


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
    geometry = picture.geometry
    return {
        "photo_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "photo_size": list(geometry.source),
        "resized": list(geometry.resized),
        "corner": list(geometry.corner),
        "fit": geometry.fit.value,
        "command": "encode",
    }


def _read(path: Path) -> bytes:
    """A file, read no further than it may be long."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror}", "check the path") from error
    if not data:
        raise TruncatedError(f"{path} is empty")
    return data


def _write(path: Path, data: bytes) -> None:
    try:
        write_atomically(path, data)
    except OSError as error:
        raise ImageError(f"cannot write {path}: {error.strerror}") from error
