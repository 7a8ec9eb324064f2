"""Whether this end and a server would understand each other, and what to do if not.

It does not know how a server is asked, nor how its answer is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shared_protocol.message.bitstream import VERSION
from shared_protocol.message.codec import CodecBundle
from shared_protocol.selfcheck.roundtrip import round_trip_digest

_INSTALL = (
    "install the same release on both ends, name the server's bundle with --bundle, or get it with "
    "'edge-client fetch'"
)


@dataclass(frozen=True)
class Point:
    """One thing that both ends must hold alike.

    Args:
        name: what it is.
        ours, theirs: its value on this end and on the server.
        remedy: what to do if they differ.
    """

    name: str
    ours: str
    theirs: str
    remedy: str

    @property
    def agrees(self) -> bool:
        """Whether both ends hold the same."""
        return self.ours == self.theirs


def compare(bundle: CodecBundle, info: Mapping[str, Any]) -> list[Point]:
    """What this end holds beside what a server says of itself (`GET /v1/info`)."""
    entropy = info.get("entropy")
    theirs = entropy.get("digest") if isinstance(entropy, Mapping) else None
    digest = round_trip_digest(bundle) if theirs else "not checked"
    return [
        Point("format version", str(VERSION), _said(info.get("protocol")), _INSTALL),
        Point(
            "bundle fingerprint", bundle.fingerprint.hex(), _said(info.get("fingerprint")), _INSTALL
        ),
        Point(
            "entropy self-check",
            digest,
            _said(theirs or "not checked"),
            "one end computes wrongly; results stay right with uniform coding, only larger: "
            "install again, then report both machines",
        ),
    ]


def _said(value: object) -> str:
    text = "not said" if value is None else str(value)
    return "".join(char if char.isprintable() else " " for char in text)[:64]
