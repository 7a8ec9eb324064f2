"""What a command has to say, and the small things that several commands need.

It does not print, and knows no command.
"""

from __future__ import annotations

from argparse import Namespace
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_client.config import Settings
    from edge_client.pictures.images import Picture
    from shared_protocol.bundles.bundle import Bundle


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


def exposed_key(settings: Settings) -> list[str]:
    """The warning that the API key would travel in clear, if it would."""
    from edge_client.transport.loopback import is_loopback

    private = settings.server.startswith(("https:", "tls:", "exec:"))
    if not settings.api_key or private or is_loopback(settings.server):
        return []
    return [f"the API key travels unencrypted to {settings.server}; use https or tls"]


def source_picture(given: Namespace, bundle: Bundle) -> Picture:
    """The picture that the command line names, as the bundle's tokenizer takes it."""
    from edge_client.pictures.images import Fit
    from edge_client.pictures.sources import load_source

    return load_source(given.image, bundle, Fit(given.fit))


def picture_output(given: Namespace) -> Path:
    """Where a picture goes: as told, or the first free name in this folder."""
    from edge_client.pictures.outputs import check_output

    stem = {"t2i": "t2i", "decode": getattr(given, "file", Path()).stem}.get(given.command)
    default = f"{stem or f'{given.image.stem}-{given.command}'}.png"
    output: Path = given.output or free_name(default, "" if given.no_tokens else ".umic")
    check_output(output)
    return output


def free_name(name: str, beside: str = "") -> Path:
    """`name`, or `name` with the first number that makes it new in this folder.

    Args:
        name: with its suffix.
        beside: suffix of a second file of the same stem, which is to be new as well.
    """
    path, number = Path(name), 1
    while path.exists() or (beside and path.with_suffix(beside).exists()):
        number += 1
        path = Path(f"{Path(name).stem}-{number}{Path(name).suffix}")
    return path
