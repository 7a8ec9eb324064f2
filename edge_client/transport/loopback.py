"""Whether an address means this machine.

It opens nothing.
"""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit


def is_loopback(server: str) -> bool:
    """Whether an address means this machine, a socket file included, which no proxy should see.

    >>> is_loopback("http://127.0.0.1:8400"), is_loopback("https://example.org")
    (True, False)
    """
    host = urlsplit(server).hostname or ""
    if server.startswith("unix:") or host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
