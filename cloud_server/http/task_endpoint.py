"""One exchange over HTTP: body in, one message out, with progress before it if the client wants.

It does not know what the messages mean; `service` does.

A single reply is one message, its timing in `Server-Timing`. A streamed reply is a sequence of
msgpack values::

    [0, total] [step, total] …  {"timing": {stage: ms, …}}  message        when all goes well
    [0, total] [step, total] …  {"code": …, "message": …, …}               when it fails after all
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import re
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import msgpack
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from cloud_server.http.problems import internal_error
from cloud_server.http.reading import (
    MESSAGE_TYPE,
    ClientGoneError,
    check_headers,
    read_body,
    until_gone,
)
from cloud_server.http.replying import STREAM_TYPE, Incoming, Reply
from cloud_server.serving.metrics import STATUS_CLIENT_GONE, Trace
from cloud_server.serving.service import Job, Service
from shared_protocol.errors import (
    DeadlineError,
    InvalidInputError,
    UnauthorizedError,
    UnimicError,
)
from shared_protocol.tasks import Task

logger = logging.getLogger(__name__)

_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,200}")
_REFUSES = re.compile(r";\s*q=0(\.0*)?\s*(;|$)")


def wants_stream(accept: str) -> bool:
    """Whether an Accept header names the streamed form.

    >>> wants_stream("application/msgpack-seq, application/msgpack;q=0.9")
    True
    """
    ranges = (part.strip().lower() for part in accept.split(","))
    return any(
        r.partition(";")[0].strip() == STREAM_TYPE and not _REFUSES.search(r) for r in ranges
    )


def check_key(headers: Headers, api_key: str | None) -> None:
    """Raise `UnauthorizedError` unless the bearer key is `api_key`, or none is asked for."""
    if api_key is None:
        return
    scheme, _, given = headers.get("authorization", "").partition(" ")
    same = hmac.compare_digest(given.strip().encode("latin-1", "replace"), api_key.encode())
    if scheme.lower() != "bearer" or not same:
        fault = "the key is wrong" if given else "no key was given"
        raise UnauthorizedError(fault, "send 'Authorization: Bearer KEY'")


class Exchange(Response):
    """Serves one request; an ASGI reply that reads its own request.

    Args:
        service: does the work.
        task: what the path asks for.
    """

    def __init__(self, service: Service, task: Task) -> None:
        super().__init__()
        self._service = service
        self._trace = Trace(task)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read, work and reply; every error becomes a reply, a stream's last value, or silence."""
        trace = self._trace
        incoming = Incoming(receive)
        reply = Reply(send, trace)
        try:
            await self._serve(Headers(scope=scope), incoming, reply)
        except ClientGoneError:
            trace.status = STATUS_CLIENT_GONE
        except asyncio.CancelledError:
            trace.status = STATUS_CLIENT_GONE
            raise
        except UnimicError as error:
            await reply.fail(error, incoming)
        except Exception:
            logger.exception("incident %s", trace.id)
            await reply.fail(internal_error(trace.id), incoming)
        finally:
            trace.finish()
            self._service.metrics.observe(trace)
            logger.info("%s", trace)

    async def _serve(self, headers: Headers, incoming: Incoming, reply: Reply) -> None:
        settings = self._service.settings
        check_key(headers, settings.api_key)
        check_headers(headers, settings.max_body)
        key = _idempotency_key(headers)
        self._service.check_open()
        limit = asyncio.timeout(settings.request_timeout)
        try:
            async with limit:
                body = await read_body(incoming, settings.max_body, settings.body_timeout)
                self._trace.bytes_up = len(body)
                with self._service.admission():
                    form = _stream if wants_stream(headers.get("accept", "")) else _single
                    work = self._work(body, key, _seconds_to(limit), lambda job: form(job, reply))
                    await _unless_gone(incoming, work)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise DeadlineError(
                f"it took longer than {settings.request_timeout:g} s",
                "retry with the same Idempotency-Key, or ask for fewer steps",
            ) from error

    async def _work(
        self, body: bytes, key: str | None, left: float, answer: Callable[[Job], Awaitable[None]]
    ) -> None:
        async with self._service.job(body, self._trace, key, left) as job:
            await answer(job)


async def _single(job: Job, reply: Reply) -> None:
    message = await job.message()
    timing = ", ".join(f"{stage};dur={ms}" for stage, ms in job.trace.timing_ms().items())
    headers = {"Server-Timing": timing, "Content-Length": str(len(message))}
    await reply.start(200, MESSAGE_TYPE, headers)
    await reply.send(message)
    await reply.end()


async def _stream(job: Job, reply: Reply) -> None:
    await reply.start(200, STREAM_TYPE, {"X-Accel-Buffering": "no"})
    async for step, total in job.steps():
        await reply.send(msgpack.packb([step, total]))
    message = await job.message()
    await reply.send(msgpack.packb({"timing": job.trace.timing_ms()}))
    await reply.send(message)
    await reply.end()


def _seconds_to(limit: asyncio.Timeout) -> float:
    when = limit.when()
    assert when is not None, "made with a limit"
    return when - asyncio.get_running_loop().time()


def _idempotency_key(headers: Headers) -> str | None:
    key = headers.get("idempotency-key")
    if key is not None and not _IDEMPOTENCY_KEY.fullmatch(key):
        raise InvalidInputError(
            "the Idempotency-Key is not usable", "use 1..200 visible ASCII characters"
        )
    return key


async def _unless_gone(receive: Receive, work: Coroutine[Any, Any, None]) -> None:
    """Await `work`; cancel it when the client hangs up.

    Raises:
        ClientGoneError: the client hung up first.
    """
    working = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(until_gone(receive))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGoneError
        await working
    finally:
        working.cancel()
        watching.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)
