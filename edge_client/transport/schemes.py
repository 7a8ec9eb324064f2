"""Opens the link that a server's address asks for.

It does not know how a link works; each is imported only when it is opened.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from edge_client.transport.base import OpenTransport
from shared_protocol.errors import ConfigError
from shared_protocol.http.contract import TIMED, Preferences


def _http(server: str, api_key: str | None, timeout: float, wish: Preferences) -> OpenTransport:
    from edge_client.transport.http import HttpTransport  # httpx takes its time to import

    return HttpTransport(server, api_key, timeout, wish=wish)


SCHEMES: dict[str, Callable[[str, str | None, float, Preferences], OpenTransport]] = {
    "http": _http,
    "https": _http,
    "unix": _http,
}
"""Scheme of an address to what opens it; another kind of link is one module and one row."""


def open_transport(
    server: str,
    api_key: str | None = None,
    timeout: float = 120.0,
    wish: Preferences = TIMED,
) -> OpenTransport:
    """The transport that a server's address asks for.

    Args:
        server: address, such as "http://127.0.0.1:8400".
        api_key: proves who asks; None = nobody in particular.
        timeout: seconds for one exchange in all, waiting and retries included.
        wish: what to be told besides the result.

    Raises:
        ConfigError: an address of another scheme.
    """
    scheme = urlsplit(server).scheme
    if scheme not in SCHEMES:
        known = ", ".join(f"{name}:" for name in SCHEMES)
        raise ConfigError(f"{server!r} is no address that can be opened", f"known are {known}")
    return SCHEMES[scheme](server, api_key, timeout, wish)
