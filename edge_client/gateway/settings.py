"""Every setting of the gateway, checked, with its default in one place.

It does not know where a value came from, nor whom the sessions talk to (see `config`).
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from shared_protocol.errors import ConfigError

KEY_VARIABLE = "UNIMIC_GATEWAY_KEY"
DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 8401
DEFAULT_SESSIONS, DEFAULT_QUEUE = 4, 16
DEFAULT_MAX_BODY = 64
MEBIBYTE = 2**20
LOOPBACK_NAMES = frozenset(("127.0.0.1", "localhost", "::1"))


@dataclass(frozen=True)
class GatewaySettings:
    """How the gateway listens and what it lets in.

    Args:
        host: address to listen on.
        port: TCP port; 0 takes a free one.
        ready_file: where the address is written once it answers; None = nowhere.
        key: what applications must send as `Authorization: Bearer KEY`; None = no key is asked for.
        allow_fetch: whether pictures are fetched from http and https addresses that a request
            names.
        allow_hosts: further names under which it may be reached.
        allow_origins: web pages, as "https://host:port", that may use it beside its own page.
        sessions: most conversations with the cloud at once.
        queue: most requests that wait for one.
        max_body: largest request body, in bytes.
        no_key: ask for none, on whatever address: for a port that only this device reaches.

    Raises:
        ConfigError: a value that cannot be used.
    """

    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    ready_file: Path | None = None
    key: str | None = field(default=None, repr=False)
    allow_fetch: bool = False
    allow_hosts: tuple[str, ...] = ()
    allow_origins: tuple[str, ...] = ()
    sessions: int = DEFAULT_SESSIONS
    queue: int = DEFAULT_QUEUE
    max_body: int = DEFAULT_MAX_BODY * MEBIBYTE
    no_key: bool = False

    def __post_init__(self) -> None:
        if self.key is None and not self.no_key and os.environ.get(KEY_VARIABLE):
            object.__setattr__(self, "key", os.environ[KEY_VARIABLE])
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"the port is {self.port}", "use 0 (a free one) to 65535")
        for name, low, high in (("sessions", 1, 64), ("queue", 0, 10_000)):
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"--{name} is {getattr(self, name)}", f"use {low}..{high}")
        if self.max_body < 1:
            raise ConfigError("--max-body is 0", "use 1 MiB or more")
        self._check_who()

    def _check_who(self) -> None:
        if self.key is not None and not (self.key.isascii() and self.key.isprintable()):
            raise ConfigError("the key holds characters that no header may carry", "check it")
        if self.key is not None and self.no_key:
            raise ConfigError("--key and --no-key do not go together", "leave one of them out")
        for origin in self.allow_origins:
            parts = urlsplit(origin)
            if not parts.scheme or not parts.netloc or parts.path:
                raise ConfigError(
                    f"{origin!r} is no origin of a web page", "write https://host or http://host:1"
                )
        if not self.is_local and self.key is None and not self.no_key:
            raise ConfigError(
                f"on {self.host} everybody in the network could use this device's way to the cloud",
                f"give --key (better {KEY_VARIABLE}), or listen on {DEFAULT_HOST}; --no-key is "
                "for a container whose port is published on this device only",
            )

    @property
    def is_local(self) -> bool:
        """Whether only programs of this device reach it."""
        return self.host in LOOPBACK_NAMES or _is_loopback(self.host)

    def lets_in(self, name: str) -> bool:
        """Whether a request may call this device `name` (a Host header without its port).

        A page on another site can have its own name point here, but not an address of numbers.
        """
        if name in LOOPBACK_NAMES or name == self.host or name in self.allow_hosts:
            return True
        return not self.is_local and _is_address(name)


def _is_address(name: str) -> bool:
    import ipaddress  # where it is needed: the help of all commands passes here

    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_loopback(name: str) -> bool:
    import ipaddress

    return _is_address(name) and ipaddress.ip_address(name).is_loopback
