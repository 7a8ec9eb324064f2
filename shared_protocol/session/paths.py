"""Where conversations open, by kind of link; SESSION.md is the specification.

It does not know how a link works.
"""

from __future__ import annotations

SESSION_PATH = "/v1/session"
"""Of the WebSocket, on the port of the HTTP interface."""
