"""All connections of a host: how many there may be, and which has to go for another.

It does not know what they carry. At a limit the connection that has waited longest for its client
is closed, of the address that has the most; those on which work is done are left alone.
"""

from __future__ import annotations

import asyncio
import ipaddress
import resource
import socket
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from cloud_server.settings import Settings

ACCEPTED_AT_ONCE = 32
"""Connections that are accepted before any is looked at; asyncio would take the whole backlog, and
logs one line for each once no file is left."""
LOCAL = "local"
"""The address of whoever comes over a socket file."""
_OTHER_FILES = 80
_MOST = 4096


def address_of(peer: object) -> str:
    """Who is told apart by a socket's address: an IPv4 address, or 64 bits of an IPv6 one.

    >>> address_of(("192.0.2.7", 5000)), address_of(("2001:db8::1", 5000, 0, 0))
    ('192.0.2.7', '2001:db8::/64')
    """
    if not isinstance(peer, (tuple, list)) or not peer:
        return LOCAL
    try:
        address = ipaddress.ip_address(str(peer[0]).partition("%")[0])
    except ValueError:
        return str(peer[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


class ListeningSocket(socket.socket):
    """A socket on which many may wait although few are accepted at once."""

    def listen(self, backlog: int = 0) -> None:
        """Let as many wait as the system allows, whatever is asked for."""
        super().listen(max(backlog, socket.SOMAXCONN))

    @classmethod
    def of(cls, plain: socket.socket) -> ListeningSocket:
        """`plain`, taken over; of TCP, with its name.

        By that name asyncio knows connections whose small writes must not wait for one another:
        the head of a reply would go at once, its body 40 ms later.
        """
        tcp = plain.family in (socket.AF_INET, socket.AF_INET6)
        proto = socket.IPPROTO_TCP if tcp else plain.proto
        return cls(plain.family, plain.type, proto, plain.detach())


@dataclass
class _Entry:
    address: str
    waiting_since: float | None


class Connections:
    """The open connections, each by its transport; for one event loop.

    Args:
        most: of all.
        most_of_one: of one address.
    """

    def __init__(self, most: int, most_of_one: int) -> None:
        self._most = most
        self._most_of_one = most_of_one
        self._open: dict[asyncio.BaseTransport, _Entry] = {}
        self._counts: Counter[str] = Counter()

    @classmethod
    def of(cls, settings: Settings) -> Connections:
        """As many as the settings say, or as the limit of open files has room for."""
        most = settings.max_connections or _room_for_files()
        return cls(most, settings.max_per_address or max(1, most * 3 // 4))

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, transport: asyncio.BaseTransport, address: str) -> bool:
        """Count a new connection in; False where no other could be closed for it: close it."""
        if self._counts[address] >= self._most_of_one and not self._close_one(address):
            return False
        if len(self._open) >= self._most:
            largest = max(self._counts, key=lambda each: self._counts[each])
            if not self._close_one(largest):
                return False
        self._open[transport] = _Entry(address, time.monotonic())
        self._counts[address] += 1
        return True

    def working(self, transport: asyncio.BaseTransport) -> None:
        """It is not the client's turn on this connection."""
        entry = self._open.get(transport)
        if entry is not None:
            entry.waiting_since = None

    def waiting(self, transport: asyncio.BaseTransport) -> None:
        """It is the client's turn."""
        entry = self._open.get(transport)
        if entry is not None:
            entry.waiting_since = time.monotonic()

    def gone(self, transport: asyncio.BaseTransport) -> None:
        """The connection has ended."""
        entry = self._open.pop(transport, None)
        if entry is None:
            return
        self._counts[entry.address] -= 1
        if not self._counts[entry.address]:
            del self._counts[entry.address]

    def _close_one(self, address: str) -> bool:
        """Close the connection of an address that has waited longest; whether there was one."""
        waiting = [
            (entry.waiting_since, transport)
            for transport, entry in self._open.items()
            if entry.address == address and entry.waiting_since is not None
        ]
        if not waiting:
            return False
        _, oldest = min(waiting, key=lambda pair: pair[0])
        self.gone(oldest)
        _abort(oldest)
        return True


def _abort(transport: Any) -> None:
    """Close at once, whatever has not been sent."""
    transport.abort()


def _room_for_files() -> int:
    """Connections for which there are files, besides those that the server needs itself."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files == resource.RLIM_INFINITY:
        return _MOST
    return max(
        8,
        min(
            _MOST,
            files - _OTHER_FILES - ACCEPTED_AT_ONCE,
        ),
    )
