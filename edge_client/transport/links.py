"""Links that carry the frames of a conversation, by the scheme of an address.

It does not know what the frames say; each kind of link is imported only when it is opened.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from edge_client.transport.base import Link
from shared_protocol.errors import ConfigError, as_typed

CONNECT_TIMEOUT = 10.0
"""Most seconds for a link to open."""


OpenLink = Callable[[str, str | None, float, str], Link]
"""From address, API key, seconds and route to a link that is open."""


def _websocket(server: str, api_key: str | None, timeout: float, route: str) -> Link:
    from edge_client.transport.websocket_link import WebSocketLink

    return WebSocketLink(server, api_key, timeout, route)


def _socket(server: str, api_key: str | None, timeout: float, route: str) -> Link:
    from edge_client.transport.stream_links import SocketLink

    return SocketLink(server, timeout)


def _command(server: str, api_key: str | None, timeout: float, route: str) -> Link:
    from edge_client.transport.stream_links import CommandLink

    return CommandLink(server)


LINKS: dict[str, OpenLink] = {
    "http": _websocket,
    "https": _websocket,
    "tcp": _socket,
    "tls": _socket,
    "exec": _command,
    "unix": _websocket,
}
"""Scheme of an address to what opens a link there; another kind is one module and one row."""

KEY_IN_HELLO = frozenset(("tcp", "tls", "exec"))
"""Schemes whose opening has no place for a key."""
NAMES = {
    **dict.fromkeys(("http", "https", "unix"), "WebSocket"),
    "tcp": "TCP",
    "tls": "TLS",
    "exec": "pipe",
}
"""What people call the link of a scheme."""


def scheme_of(server: str) -> str:
    """The scheme of an address; raises `ConfigError` for one that no link is for."""
    scheme = urlsplit(server).scheme
    if scheme not in LINKS:
        known = ", ".join(f"{name}:" for name in LINKS)
        raise ConfigError(f"{server!r} is no address that can be opened", f"known are {known}")
    return scheme


def open_link(server: str, api_key: str | None, timeout: float, route: str = "") -> Link:
    """A link to the server.

    Args:
        server: its address.
        api_key: proves who asks, where the link's opening has a place for it.
        timeout: seconds.
        route: see `shared_protocol.session.paths.route_of`; "" = any of several servers will do.

    Raises:
        LinkDownError: it cannot be reached now.
        NoSessionsError: it holds no conversations.
        TransportError: it cannot be reached in this way at all.
    """
    try:
        return LINKS[scheme_of(server)](server, api_key, min(timeout, CONNECT_TIMEOUT), route)
    except RuntimeError as error:  # of the system, which starts no more threads
        raise as_typed(error) or error from error
