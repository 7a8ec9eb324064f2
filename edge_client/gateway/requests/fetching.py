"""Gets a picture from an address that a request names, if that is allowed: public hosts only.

A request must not make this device look into its own network, so that the address is looked up
once, checked, and then connected to as it was checked.
"""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urljoin, urlsplit

import httpx

from edge_client.gateway.refused import RefusedError
from edge_client.gateway.requests.fields import shown

MAX_FETCHED = 32 * 2**20
_SECONDS = 20.0
_REDIRECTS = 3


def fetch_picture(address: str) -> bytes:
    """What is at an http or https address.

    Raises:
        RefusedError: it cannot be had, is too large, or lies inside of a network.
    """
    for _ in range(_REDIRECTS + 1):
        try:
            found = _get(address)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            raise _failed(address, str(error) or type(error).__name__) from None
        if isinstance(found, bytes):
            return found
        address = urljoin(address, found)
    raise _failed(address, f"it leads on more than {_REDIRECTS} times")


def _get(address: str) -> bytes | str:
    """The content, or the address where it is instead."""
    parts = urlsplit(address)
    host = parts.hostname or ""
    if parts.scheme not in ("http", "https") or not host:
        raise _failed(address, "only http and https addresses are fetched")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    place = public_address(host, port)
    url = httpx.URL(address).copy_with(host=place, fragment=None)
    headers = {"host": parts.netloc.rpartition("@")[2], "accept": "image/*"}
    extensions = {"sni_hostname": host}
    with (
        httpx.Client(timeout=_SECONDS, trust_env=False) as client,
        client.stream("GET", url, headers=headers, extensions=extensions) as reply,
    ):
        if reply.is_redirect:
            return str(reply.headers.get("location", ""))
        if reply.status_code != 200:
            raise _failed(address, f"its server answers {reply.status_code}")
        content = bytearray()
        for piece in reply.iter_bytes():
            content += piece
            if len(content) > MAX_FETCHED:
                raise _failed(address, f"it has over {MAX_FETCHED:,} bytes")
        return bytes(content)


def public_address(host: str, port: int) -> str:
    """An address of `host` that is not inside of somebody's network.

    Raises:
        RefusedError: it has others, too, or none.
        OSError: it is not known.
    """
    found = {entry[4][0] for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    places = [str(each) for each in found]
    inner = [each for each in places if not ipaddress.ip_address(each.split("%")[0]).is_global]
    if inner or not places:
        raise _failed(host, "it lies inside of a network, and only public addresses are fetched")
    return sorted(places)[0]


def _failed(address: str, why: str) -> RefusedError:
    return RefusedError(
        f"cannot fetch {shown(address)}: {why}; send a data URL instead",
        "image_url",
        "fetch_failed",
    )
