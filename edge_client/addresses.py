"""What may stand behind `--server`: addresses checked, and what was probably meant.

It opens nothing, and does not know who answers there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from urllib.parse import SplitResult, urlsplit

from shared_protocol.errors import ConfigError

DEFAULT_SERVER = "http://127.0.0.1:8400"
_BARE = ("tcp", "tls")
_WEB = ("http", "https")
_OTHERS = ("exec", "unix")
_MEANT: Mapping[str, str] = {"ws": "http", "wss": "https"}
_KNOWN = (
    "http://HOST:PORT, https://HOST, tcp://HOST:PORT, tls://HOST:PORT, unix:FILE or exec:COMMAND"
)
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[\w.-]+)(:\d+)?(/.*)?", re.ASCII)


def checked_server(server: str) -> str:
    """The address in the one form that all else reads.

    >>> checked_server(" HTTP://host:8400/ "), checked_server("unix:///run/a.sock")
    ('http://host:8400', 'unix:/run/a.sock')

    Raises:
        ConfigError: it cannot be one; the remedy says what was probably meant.
    """
    given = server.strip()
    scheme, colon, rest = given.partition(":")
    scheme = scheme.lower()
    if scheme == "exec":
        return f"exec:{rest}"
    if scheme == "unix":
        return _socket(rest)
    if not colon or scheme not in (*_BARE, *_WEB):
        raise ConfigError(f"{server!r} is no server address", _meant(given, scheme, rest))
    return _host(server, f"{scheme}:{rest}")


def _host(server: str, given: str) -> str:
    try:
        parts = urlsplit(given)
        port = parts.port
    except ValueError as error:
        fault = f"{server!r} is no server address: {error}"
        raise ConfigError(fault, f"write it like {DEFAULT_SERVER}") from error
    if not parts.hostname or port == 0:
        fault = f"{server!r} names no host" if port != 0 else f"{server!r} names port 0"
        raise ConfigError(fault, f"write it like {parts.scheme}://host:8400")
    if parts.scheme in _BARE:
        _check_bare(server, parts)
    if parts.username is not None or parts.query or parts.fragment:
        raise ConfigError(
            "a server address holds no user, query or fragment", "pass a key with --api-key"
        )
    return given.rstrip("/")


def _check_bare(server: str, parts: SplitResult) -> None:
    if parts.port is None:
        raise ConfigError(f"{server!r} names no port", f"write it like {parts.scheme}://host:8401")
    if parts.path.strip("/"):
        raise ConfigError(
            f"{server!r} has a path, and bare frames know none",
            f"write {parts.scheme}://{parts.netloc}, or the http or https address",
        )


def _socket(path: str) -> str:
    """unix:FILE, absolute."""
    if os.name == "nt":
        raise ConfigError("this system has no Unix sockets", "give --server an http address")
    bare = path.removeprefix("//")
    if not bare or bare.endswith("/"):
        raise ConfigError(f"'unix:{path}' names no socket file", "write it like unix:/run/a.sock")
    return f"unix:{os.path.abspath(os.path.expanduser(bare))}"


def _meant(given: str, scheme: str, rest: str) -> str:
    """What to write instead."""
    if scheme in _MEANT:
        return f"write {_MEANT[scheme]}:{rest}; conversations open WebSockets there by themselves"
    if "://" in given:
        return f"known are {_KNOWN}"
    if given.startswith(("/", "./", "~")) or given.endswith(".sock"):
        return f"write unix:{given} for a socket file"
    if _HOST.fullmatch(given):
        port = ":8400" if given.lower() in ("localhost", "127.0.0.1", "[::1]") else ""
        return f"write http://{given}{port}, or https://{given} where it speaks TLS"
    return f"write it like {DEFAULT_SERVER}"
