"""HTTP/1.1 and WebSocket with a deadline for every wait for the client, on top of uvicorn's.

It does not know what is served. uvicorn has one such deadline, of idle connections, and the first
byte of another request ends it; here every request has its own, and no byte extends it:

::

    connected ── head_s ──► head whole ─► served ── idle_s ──► first byte ── head_s ──► head whole
                                            └─ nothing is taken of the reply: stall_s
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from cloud_server.links.connections import Connections, address_of
from shared_protocol.errors import BadMessageError, error_to_wire
from shared_protocol.http.contract import JSON_TYPE


@dataclass(frozen=True)
class Patience:
    """How long a client is waited for, in seconds.

    Args:
        head: for the head of a request.
        idle: between two requests.
        stall: for a client that takes nothing of its reply.
    """

    head: float
    idle: float
    stall: float


class PatientProtocol(H11Protocol):
    """One connection.

    Args:
        patience: its deadlines.
        connections: all of them; counts this one.
    """

    def __init__(self, patience: Patience, connections: Connections, **given: Any) -> None:
        super().__init__(**given)
        self._patience = patience
        self._all = connections
        self._deadline: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self._begun = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count it, and start the clock."""
        super().connection_made(transport)
        if not self._all.admit(transport, address_of(transport.get_extra_info("peername"))):
            transport.abort()
            return
        self._begun = True
        self._arm(self._patience.head)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._all.gone(self.transport)
        self._disarm()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on; the first byte of a further request starts the clock of its head."""
        if self._waits and not self._begun:
            self._begun = True
            self._arm(self._patience.head)
        super().data_received(data)

    def handle_events(self) -> None:
        """Serve what has arrived whole."""
        before = self.cycle
        super().handle_events()
        if self.cycle is not before:
            self._disarm()
            self._all.working(self.transport)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Pass the connection on; from now on it has deadlines of its own."""
        self._disarm()
        super().handle_websocket_upgrade(event)
        protocol = self.transport.get_protocol()
        if isinstance(protocol, PatientWebSocket):
            protocol.counted_by(self._all)

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        cycle = self.cycle
        super().on_response_complete()
        if self.cycle is cycle and not self.transport.is_closing():
            self._wait_for_more()

    def send_400_response(self, msg: str) -> None:
        """Tell of a protocol error as of every other."""
        error = BadMessageError(f"this is no HTTP/1.1: {msg.rstrip('.').lower()}")
        body = json.dumps(error_to_wire(error)).encode()
        headers = [
            ("Content-Type", JSON_TYPE),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
            ("Connection", "close"),
        ]
        try:
            for part in (
                h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
                h11.Data(data=body),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(part) or b"")
        except h11.LocalProtocolError:
            pass  # a reply is on its way already
        self.transport.close()

    def pause_writing(self) -> None:
        """The client takes nothing: start a clock."""
        super().pause_writing()
        self._stalled = self.loop.call_later(self._patience.stall, self.transport.abort)

    def resume_writing(self) -> None:
        """It takes something again."""
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    @property
    def _waits(self) -> bool:
        """Whether it is the client's turn."""
        return self.cycle is None or self.cycle.response_complete

    def _wait_for_more(self) -> None:
        self._unset_keepalive_if_required()
        self._all.waiting(self.transport)
        self._begun = bool(self.conn.trailing_data[0])
        self._arm(self._patience.head if self._begun else self._patience.idle)

    def _arm(self, seconds: float) -> None:
        self._disarm()
        self._deadline = self.loop.call_later(seconds, self._hang_up)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _hang_up(self) -> None:
        if self._waits:
            self.transport.abort()


class PatientWebSocket(WebSocketsSansIOProtocol):
    """A WebSocket that is counted like every other connection."""

    _all: Connections | None = None

    def counted_by(self, connections: Connections) -> None:
        """Say when it ends."""
        self._all = connections

    def data_received(self, data: bytes) -> None:
        """Read on; it has not waited for its client just now."""
        if self._all is not None:
            self._all.waiting(self.transport)
        super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        if self._all is not None:
            self._all.gone(self.transport)
        super().connection_lost(exc)
