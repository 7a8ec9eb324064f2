"""Conversations over WebSocket: every binary message is one frame.

It does not know what a frame says; `serving.conversation` does.
"""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, WebSocket
from starlette.websockets import WebSocketDisconnect

from cloud_server.http.problems import origin_of
from cloud_server.links.connections import address_of
from cloud_server.serving.conversation import Conversations
from cloud_server.serving.frame_link import LinkClosedError
from shared_protocol.errors import BadMessageError, LimitError
from shared_protocol.http.contract import REQUEST_ID
from shared_protocol.session.framing import MAX_FRAME
from shared_protocol.session.paths import SESSION_PATH

_DONE, _UNSUPPORTED = 1000, 1003


class _WebSocketLink:
    """A WebSocket as a `FrameLink`."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket

    async def receive(self) -> bytes:
        event = await self._socket.receive()
        if event["type"] == "websocket.disconnect":
            raise LinkClosedError
        data = event.get("bytes")
        if data is None:
            raise BadMessageError("a text message came where frames travel", "send binary ones")
        if len(data) > MAX_FRAME:
            raise LimitError(f"a frame of {len(data)} bytes is over the limit of {MAX_FRAME}")
        return bytes(data)

    async def send(self, frame: bytes) -> None:
        try:
            await self._socket.send_bytes(frame)
        except (WebSocketDisconnect, RuntimeError, OSError) as error:
            raise LinkClosedError from error


def add_sessions(router: APIRouter, conversations: Conversations) -> None:
    """Add the path on which conversations open."""

    @router.websocket(SESSION_PATH)
    async def session(socket: WebSocket) -> None:
        origin = origin_of(socket.scope)
        named = {REQUEST_ID: origin.request_id} if origin.request_id else {}
        await socket.accept(headers=[(k.lower().encode(), v.encode()) for k, v in named.items()])
        try:
            authorization = socket.headers.get("authorization")
            address = address_of(socket.scope.get("client"))
            await conversations.serve(_WebSocketLink(socket), authorization, address, origin)
            await socket.close(_DONE)
        except (WebSocketDisconnect, RuntimeError, OSError, asyncio.CancelledError):
            return
