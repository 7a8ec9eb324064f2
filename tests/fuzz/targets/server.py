"""The server through its ASGI application, with engines that answer at once: no sockets.

Whatever is sent, a reply is one that the documentation has, and no fault of the server's own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

from serving_fakes import (
    BUNDLE,
    MSGPACK,
    STREAM,
    a_message,
    a_request,
    fake_settings,
    serving,
    with_neck,
)

from shared_protocol.errors import CODES, BadMessageError
from shared_protocol.http.reply_stream import MalformedReplyError, ReplyReader
from shared_protocol.session.framing import FrameCutter, framed
from shared_protocol.session.hello import Hello, encode_hello
from shared_protocol.session.paths import SESSION_PATH
from shared_protocol.session.state import SessionState
from shared_protocol.session.turns import encode_turn
from shared_protocol.tasks import Task
from targets.target import Target, refused

TASKS = (Task.T2I, Task.INPAINT, Task.OUTPAINT, Task.VQA)
LABELLING = 240
"""First bytes from which on a request is one to classify."""
SESSION = b"sessions"
LIMITS = {"max_grid": 12, "max_steps": 20, "max_new_tokens": 8, "hello_timeout": 1.0}


class Application:
    """A server that is ready, on an event loop of its own."""

    def __init__(self) -> None:
        logging.disable(logging.CRITICAL)
        self.loop = asyncio.new_event_loop()
        self._stack = AsyncExitStack()
        self.client, self.service = self.loop.run_until_complete(
            self._stack.enter_async_context(serving(fake_settings(**LIMITS), **with_neck()))
        )
        self.app: Any = self.client._transport.app

    def close(self) -> None:
        """End the server and its loop."""
        self.loop.run_until_complete(self._stack.aclose())
        self.loop.close()
        logging.disable(logging.NOTSET)

    def post(self, path: str, body: bytes, headers: dict[str, str]) -> Any:
        """The reply to one POST."""
        return self.loop.run_until_complete(self.client.post(path, content=body, headers=headers))

    def converse(self, frames: list[bytes]) -> list[bytes]:
        """The frames that come back for those that are sent, over WebSocket."""
        return self.loop.run_until_complete(self._converse(frames))

    async def _converse(self, frames: list[bytes]) -> list[bytes]:
        events: list[dict[str, Any]] = [{"type": "websocket.connect"}]
        events += [{"type": "websocket.receive", "bytes": frame} for frame in frames]
        found: list[bytes] = []

        async def receive() -> dict[str, Any]:
            if events:
                return events.pop(0)
            # Answers come before the device leaves.
            await asyncio.sleep(0.002)
            return {"type": "websocket.disconnect", "code": 1000}

        async def send(event: dict[str, Any]) -> None:
            if event["type"] == "websocket.send":
                found.append(event["bytes"])

        scope = {
            "type": "websocket",
            "path": SESSION_PATH,
            "raw_path": SESSION_PATH.encode(),
            "root_path": "",
            "scheme": "ws",
            "query_string": b"",
            "headers": [],
            "client": ("test", 1),
            "server": ("test", 80),
            "subprotocols": [],
            "state": {},
            "extensions": {},
        }
        await asyncio.wait_for(self.app(scope, receive, send), 20.0)
        return found


class HttpReader(Application):
    """The first byte chooses task, kind of reply and content type; the rest is the body."""

    def __call__(self, data: bytes) -> None:
        choice = (data or b"\0")[0]
        task = Task.CLASSIFY if choice >= LABELLING else TASKS[choice % 4]
        streamed = bool(choice & 4)
        headers = dict(STREAM if streamed else MSGPACK)
        if choice & 8:
            headers["Idempotency-Key"] = f"key-{choice >> 4}"
        reply = self.post(f"/v1/{task.name.lower()}", data[1:], headers)
        assert reply.status_code < 500, reply.text
        if reply.status_code != 200:
            told = reply.json()
            assert CODES[told["code"]].http_status == reply.status_code
            assert set(told) <= {"code", "message", "remedy", "retry_after", "request_id"}
        elif streamed:
            reader = ReplyReader()
            assert refused(lambda: reader.feed(reply.content), (MalformedReplyError,)) is None
            assert reader.complete
        else:
            assert reply.content


def _bodies() -> Iterator[bytes]:
    for place, task in enumerate(TASKS):
        for choice in (0, 4, 8, 12):
            yield bytes([place + choice]) + a_message(task, seed=1, steps=2)
    for choice, options in ((0, {}), (4, {"top": 9}), (8, {"names": True})):
        yield bytes([LABELLING + choice]) + a_message(Task.CLASSIFY, **options)


class SocketReader(Application):
    """A stream of frames, each of which is a message of the WebSocket."""

    def __call__(self, data: bytes) -> None:
        frames: list[bytes] = []
        cutter = FrameCutter()
        # What is no whole frame is sent as one all the same.
        error = refused(lambda: frames.extend(cutter.feed(data)), (BadMessageError,))
        if error is not None or not frames:
            frames.append(data)
        found = self.converse(frames)
        assert len(found) <= 20 * len(frames)
        assert self.service.inflight == 0


def _talks() -> Iterator[bytes]:
    hello = encode_hello(Hello(BUNDLE.fingerprint[:4], SESSION, progress=3, previews=True))
    state = SessionState(SESSION)
    for task in Task:
        up, _ = encode_turn(a_request(task, seed=1, steps=2), state, BUNDLE)
        yield framed(hello) + framed(up.data)
        yield framed(hello) + framed(up.data) + framed(b"\xff\xfe")
    offers = (bytes(8), b"pictures")
    yield framed(encode_hello(Hello(BUNDLE.fingerprint[:4], SESSION, 3, offers=offers)))
    yield framed(encode_hello(Hello(b"none", SESSION, key="k")))


TARGETS = (
    Target(
        "http_requests",
        lambda folder: HttpReader(),
        _bodies,
        (
            "cloud_server.http.task_endpoint",
            "cloud_server.http.problems",
            "cloud_server.serving.service",
            "cloud_server.serving.translation",
        ),
        (),
        400,
        seconds=3.0,
    ),
    Target(
        "web_sockets",
        lambda folder: SocketReader(),
        _talks,
        ("cloud_server.http.session_route", "cloud_server.serving.conversation"),
        (),
        400,
        seconds=3.0,
    ),
)
