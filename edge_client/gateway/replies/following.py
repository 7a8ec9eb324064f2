"""Waits for work on behalf of a client: one answer at the end, or events as they come.

It does not know what the events say. A client that hangs up ends its work.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from edge_client.gateway.problems import Problem, problem_of
from edge_client.gateway.work.jobs import Job

logger = logging.getLogger(__name__)

RETRIES = "x-stainless-retry-count"
"""How often the client has asked before; OpenAI's libraries send it with every request."""
_FIRST_PAUSE_S, _SLACK_S = 0.5, 1.0
"""What those libraries wait before they ask again, doubled each time."""
GONE = 499


class ClientGoneError(Exception):
    """The client has hung up; nobody reads an answer."""


class Rendering(Protocol):
    """Turns what a job tells into events for one client."""

    def begin(self) -> Iterable[bytes]:
        """What comes first."""

    def take(self, event: Any) -> Iterable[bytes]:
        """What one event of the job becomes."""

    def end(self, result: Any) -> Iterable[bytes]:
        """What comes last."""

    def fail(self, problem: Problem) -> Iterable[bytes]:
        """What comes in place of the rest."""


def retries_of(request: Request) -> int | None:
    """How often the client has asked before; None for one that never says it."""
    text = request.headers.get(RETRIES, "")
    return int(text) if text.isdecimal() and len(text) < 4 else None


def patience_of(request: Request) -> float:
    """Seconds that work goes on without its client, which may be about to ask again."""
    count = retries_of(request)
    return 0.0 if count is None else _FIRST_PAUSE_S * 2 ** min(count, 4) + _SLACK_S


def key_of(request: Request, digest: str) -> str:
    """Equal for equal requests of one client."""
    return f"{request.url.path} {digest} {request.headers.get('authorization', '')}"


async def result_of(request: Request, job: Job) -> Any:
    """What a job returns.

    Raises:
        ClientGoneError: the client has hung up.
        Exception: what the job raised.
    """
    return await _unless_gone(request.receive, job, job.result, patience_of(request))


async def stream_of(
    request: Request, job: Job, rendering: Rendering, params: Mapping[str, str]
) -> Response:
    """Events of a job, from its first on; a failure before that is an answer of its own."""
    events = job.events()

    async def first() -> tuple[Any, bool]:
        async for event in events:
            return event, True
        return None, False

    found = await _unless_gone(request.receive, job, first, patience_of(request), keep=True)
    return EventStream(job, found, events, rendering, params)


class EventStream(Response):
    """The reply that brings the events of a job; see `stream_of`, which makes it."""

    media_type = "text/event-stream"

    def __init__(
        self,
        job: Job,
        first: tuple[Any, bool],
        events: AsyncIterator[Any],
        rendering: Rendering,
        params: Mapping[str, str],
    ) -> None:
        super().__init__(None, 200, {"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._job = job
        self._first = first
        self._events = events
        self._rendering = rendering
        self._params = params

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send, until the end or until the client hangs up."""
        await send(
            {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        )

        async def run() -> None:
            async for piece in self._pieces():
                body = {"type": "http.response.body", "body": piece, "more_body": True}
                await send(body)
            await send({"type": "http.response.body", "body": b"", "more_body": False})

        with suppress(ClientGoneError, OSError):
            await _unless_gone(receive, self._job, run, 0.0, follows=True)

    async def _pieces(self) -> AsyncIterator[bytes]:
        rendering = self._rendering
        for piece in rendering.begin():
            yield piece
        try:
            async for event in self._all():
                for piece in rendering.take(event):
                    yield piece
            result = await self._job.result()
        except Exception as error:
            problem = problem_of(error, self._params)
            if problem.status == 500:
                logger.exception("the gateway failed")
            for piece in rendering.fail(problem):
                yield piece
            return
        for piece in rendering.end(result):
            yield piece

    async def _all(self) -> AsyncIterator[Any]:
        event, there = self._first
        if there:
            yield event
            async for event in self._events:
                yield event


def sse(data: Any, event: str | None = None) -> bytes:
    """One server-sent event."""
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    head = f"event: {event}\n" if event else ""
    return f"{head}data: {text}\n\n".encode()


async def _unless_gone(
    receive: Receive,
    job: Job,
    work: Callable[[], Any],
    patience: float,
    *,
    keep: bool = False,
    follows: bool = False,
) -> Any:
    """What `work` gives while the client is there.

    Args:
        receive: tells when it hangs up.
        job: what it waits for.
        work: makes what is awaited.
        patience: seconds that the job goes on without it.
        keep: go on following the job afterwards.
        follows: the job is followed already.
    """
    if not follows:
        job.follow()
    working: asyncio.Task[Any] = asyncio.ensure_future(work())
    watching = asyncio.ensure_future(_hang_up(receive))
    left = False
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            working.cancel()
            job.leave(patience)
            left = True
            with suppress(asyncio.CancelledError, Exception):
                await working
            raise ClientGoneError
        return working.result()
    except BaseException:
        if not left:
            job.leave(0.0)
            left = True
        raise
    finally:
        watching.cancel()
        if not keep and not left:
            job.leave(0.0)


async def _hang_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
