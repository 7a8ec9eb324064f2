"""What a command has to say, and the small things that several commands need.

It does not print, and knows no command.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_client.config import Settings


@dataclass(frozen=True)
class Outcome:
    """What a command has to say.

    Args:
        result: first line or lines: a path, an answer.
        data: all of it for machines, JSON-ready.
        details: tables for people.
        warnings: one line each.
        failed: whether the exit code tells of a failure.
        aside: whether standard output holds a picture, so that words go elsewhere.
    """

    result: str
    data: Any
    details: str = ""
    warnings: tuple[str, ...] = field(default=())
    failed: bool = False
    aside: bool = False


def exposed_key(settings: Settings) -> list[str]:
    """The warning that the API key would travel in clear, if it would."""
    from edge_client.transport.loopback import is_loopback

    private = settings.server.startswith(("https:", "tls:", "exec:"))
    if not settings.api_key or private or is_loopback(settings.server):
        return []
    return [f"the API key travels unencrypted to {settings.server}; use https or tls"]
