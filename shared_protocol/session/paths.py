"""Where conversations open, and what tells them apart there; SESSION.md is the specification.

It does not know how a link works.
"""

from __future__ import annotations

import hashlib

SESSION_PATH = "/v1/session"
"""Of the WebSocket, on the port of the HTTP interface."""
ROUTE_HEADER = "Session"
"""Of the opening of a WebSocket: by it a proxy before several servers finds the one that an earlier
link of the conversation led to."""
_ROUTE_DIGITS = 4


def route_of(session: bytes) -> str:
    """What `ROUTE_HEADER` says of a conversation: the same at each of its openings, and no secret.

    It is short, since an opening is to take 200 bytes; many conversations may share one. The
    session's own bytes are found by nobody from it: who holds them may ask about its pictures.

    >>> route_of(bytes(8))
    '9023'
    """
    return hashlib.sha256(b"route" + session).hexdigest()[:_ROUTE_DIGITS]
