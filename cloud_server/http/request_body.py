"""Reads request bodies within limits: declared size, real size, type and time.

It does not know what a body means.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from shared_protocol.errors import BodyTooLargeError, DeadlineError, MediaTypeError
from shared_protocol.http.contract import MESSAGE_TYPE, MESSAGE_TYPES

Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]


class ClientGoneError(Exception):
    """The client hung up; nobody is left to be told."""


def check_headers(headers: Mapping[str, str], max_body: int) -> None:
    """Refuse a body by what its headers say, before any of it is read.

    Raises:
        MediaTypeError: another content type than msgpack, or a compressed body.
        BodyTooLargeError: the declared length is over `max_body` bytes.
    """
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in MESSAGE_TYPES:
        raise MediaTypeError(f"content type {kind or 'missing'!r}", f"send {MESSAGE_TYPE}")
    coding = headers.get("content-encoding", "identity").strip().lower()
    if coding != "identity":
        raise MediaTypeError(
            f"content encoding {coding!r}", "messages are compact; send them as is"
        )
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length) > max_body:
        raise _too_large(f"the body has {int(length)} bytes", max_body)


def _too_large(fault: str, max_body: int) -> BodyTooLargeError:
    return BodyTooLargeError(fault, f"this server reads at most {max_body}")


async def read_body(receive: Receive, max_body: int, timeout_s: float) -> bytes:
    """The whole body, read no further than `max_body` bytes.

    Raises:
        BodyTooLargeError: it goes on after `max_body` bytes.
        DeadlineError: it did not arrive in `timeout_s` seconds.
        ClientGoneError: the client hung up.
    """
    try:
        async with asyncio.timeout(timeout_s):
            return await _read(receive, max_body)
    except TimeoutError as error:
        raise DeadlineError(
            f"the body did not arrive in {timeout_s:g} s", "send it faster or retry"
        ) from error


async def _read(receive: Receive, max_body: int) -> bytes:
    body = bytearray()
    more = True
    while more:
        chunk, more = await _next_chunk(receive)
        body += chunk
        if len(body) > max_body:
            raise _too_large("the body is too long", max_body)
    return bytes(body)


async def _next_chunk(receive: Receive) -> tuple[bytes, bool]:
    event = await receive()
    if event["type"] == "http.disconnect":
        raise ClientGoneError
    return event.get("body", b""), event.get("more_body", False)


async def linger(receive: Receive, max_bytes: int, timeout_s: float) -> None:
    """Read on, within bounds, and throw away what a refused client still sends.

    A connection that is closed on unread bytes is reset, and the client may lose the reply.
    """
    try:
        async with asyncio.timeout(timeout_s):
            more = True
            while more and max_bytes > 0:
                chunk, more = await _next_chunk(receive)
                max_bytes -= len(chunk)
    except (TimeoutError, ClientGoneError):
        return


async def until_gone(receive: Receive) -> None:
    """Wait, after the body, until the client hangs up."""
    while (await receive())["type"] != "http.disconnect":
        pass
