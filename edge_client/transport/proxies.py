"""Which proxy stands before a server, who said so, and what to do where it fails.

It opens nothing.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

from edge_client.transport.loopback import is_loopback
from shared_protocol.errors import ConfigError, TransportError, printable

_KINDS = ("http", "https", "socks4", "socks4a", "socks5", "socks5h")
_LONGEST = 2048
_SOCKS = {"socksio": "socksio", "python_socks": "python-socks"}
"""Modules that speak SOCKS, for HTTP and for WebSockets, and what installs them."""


class Proxy(NamedTuple):
    """A proxy, and the variable that names it."""

    url: str
    variable: str

    @property
    def told(self) -> str:
        """How people find it: without user and password."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]} that {self.variable} names"

    @property
    def socks(self) -> bool:
        """Whether it speaks SOCKS."""
        return self.url.startswith("socks")


def proxy_for(server: str) -> Proxy | None:
    """The proxy that the environment names for an http or https address; none for this machine.

    Raises:
        ConfigError: what is named cannot be used.
    """
    parts = urlsplit(server)
    if is_loopback(server) or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    named = getproxies()
    kind = parts.scheme if named.get(parts.scheme) else "all"
    value = named.get(kind)
    if not value:
        return None
    proxy = Proxy(value if "://" in value else f"http://{value}", _variable(kind))
    _check(proxy)
    return proxy


def _variable(kind: str) -> str:
    """The name under which the environment has it; the lower-case one is read last, and wins."""
    for name in (f"{kind}_proxy", f"{kind.upper()}_PROXY"):
        if os.environ.get(name):
            return name
    return "the system's settings"


def _check(proxy: Proxy) -> None:
    try:
        parts = urlsplit(proxy.url)
        usable = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:  # half an IPv6 address, or a port beyond all
        parts, usable = SplitResult("", "", "", "", ""), False
    around = f"correct or unset {proxy.variable}, or name the server in NO_PROXY"
    usable = usable and parts.netloc.isprintable() and len(parts.netloc) <= _LONGEST
    if parts.scheme not in _KINDS or not usable:
        shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"  # never a password
        fault = f"{proxy.variable} names {printable(shown, 60)!r}, which is no proxy"
        raise ConfigError(fault, f"write it like http://proxy:3128; {around}")
    lacking = [name for module, name in _SOCKS.items() if find_spec(module) is None]
    if proxy.socks and lacking:
        raise ConfigError(
            f"the proxy {proxy.told} speaks SOCKS, which needs {' and '.join(lacking)}",
            f"pip install {' '.join(lacking)}; or {around}",
        )


def dead(proxy: Proxy, server: str, reason: str) -> TransportError:
    """The error that the proxy itself does not answer, whatever the server does."""
    return TransportError(
        f"cannot reach the proxy {proxy.told}, and so not {server}: {reason}",
        f"start the proxy, correct or unset {proxy.variable}, or name the server in NO_PROXY",
    )


def refused(proxy: Proxy, server: str, reason: str) -> TransportError:
    """The error that the proxy answers and does not let through."""
    remedy = "ask who runs it, or name the server in NO_PROXY"
    if "407" in reason:
        remedy = f"put both into {proxy.variable}: http://USER:PASSWORD@HOST:PORT"
        reason = f"{reason}: it wants a user and a password"
    return TransportError(
        f"the proxy {proxy.told} lets nothing through to {server}: {reason}", remedy
    )
