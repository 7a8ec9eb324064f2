"""The reply of one exchange while it is being sent, and the events of its request.

It does not know what is replied; it knows how far the reply has got and how it may still end.
"""

from __future__ import annotations

import msgpack
from starlette.types import Message, Receive, Send

from cloud_server.http.problems import error_response
from cloud_server.http.reading import linger
from cloud_server.serving.metrics import Trace
from shared_protocol.errors import UnimicError, error_to_wire

STREAM_TYPE = "application/msgpack-seq"
_LINGER_S = 1.0
_LINGER_BYTES = 1 << 20


class Incoming:
    """The request's body events, and whether all of them were read."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.exhausted = False

    async def __call__(self) -> Message:
        event = await self._receive()
        self.exhausted = not event.get("more_body", False)
        return event


class Reply:
    """The reply being sent; knows how far it has got."""

    def __init__(self, send: Send, trace: Trace) -> None:
        self._send = send
        self._trace = trace
        self._kind = ""
        self._ended = False

    async def start(self, status: int, kind: str, headers: dict[str, str]) -> None:
        """Send the status and the headers."""
        self._kind = kind
        self._trace.status = status
        fields = {
            "Content-Type": kind,
            "X-Request-Id": self._trace.id,
            "Cache-Control": "no-store",
            **headers,
        }
        raw = [(k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in fields.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": raw})

    async def send(self, data: bytes) -> None:
        """Send a piece of the body."""
        self._trace.bytes_down += len(data)
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self) -> None:
        """Say that the body is complete."""
        self._ended = True
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def fail(self, error: UnimicError, incoming: Incoming) -> None:
        """Tell the client of `error` in the way that is left."""
        self._trace.status = error.http_status
        if self._ended:
            return
        if self._kind == STREAM_TYPE:
            await self.send(msgpack.packb(error_to_wire(error)))
        elif self._kind:
            return  # the length was promised: cutting the reply short is all that is left
        else:
            await self._fail_whole(error, incoming)
        await self.end()

    async def _fail_whole(self, error: UnimicError, incoming: Incoming) -> None:
        response = error_response(error)
        headers = dict(response.headers)
        if not incoming.exhausted:
            headers["connection"] = "close"
        kind = headers.pop("content-type")
        await self.start(response.status_code, kind, headers)
        await self.send(bytes(response.body))
        if not incoming.exhausted:
            await linger(incoming, _LINGER_BYTES, _LINGER_S)
