"""One request for a task over HTTP: body in, one message out, with progress if the client wants it.

It does not know what the messages mean; `serving.service` does. HTTP.md is the specification of
both forms of the reply, `shared_protocol.http.reply_stream` writes the streamed one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from cloud_server.http.problems import error_response, internal_error, origin_of, request_id_of
from cloud_server.links.connections import address_of
from cloud_server.serving.admission.rate_limits import RateLimits
from cloud_server.serving.service import Service, ServiceJob, party_of, work_key
from cloud_server.serving.telemetry.metrics import STATUS_CLIENT_GONE, Trace
from cloud_server.serving.ticket import Reports
from shared_protocol.errors import (
    BodyTooLargeError,
    DeadlineError,
    InvalidInputError,
    MediaTypeError,
    UnimicError,
)
from shared_protocol.http.contract import (
    IDEMPOTENCY_KEY,
    MESSAGE_TYPE,
    MESSAGE_TYPES,
    PREFER,
    SERVER_TIMING,
    STREAM_TYPE,
    Preferences,
    is_idempotency_key,
    preferences,
    wants_stream,
)
from shared_protocol.http.reply_stream import Failure, Step, timing_to_header, write_event
from shared_protocol.http.reply_stream import Message as MessageEvent
from shared_protocol.tasks import Task

logger = logging.getLogger(__name__)

_LINGER_S = 1.0
_LINGER_BYTES = 1 << 20


class _Connection:
    """The request's events and its reply; knows how far both have got, and how it may still end."""

    def __init__(self, receive: Receive, send: Send, trace: Trace, rates: RateLimits) -> None:
        self._receive = receive
        self._send = send
        self._trace = trace
        self._rates = rates
        self._exhausted = False
        self._kind = ""
        self._ended = False

    async def receive(self) -> Message:
        """The next event of the request."""
        event = await self._receive()
        self._exhausted = not event.get("more_body", False)
        return event

    async def start(self, status: int, kind: str, headers: dict[str, str]) -> None:
        """Send the status and the headers."""
        self._kind = kind
        self._trace.status = status
        fields = {
            "Content-Type": kind,
            **(self._rates.headers(self._trace.owner) if self._trace.owner else {}),
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

    async def fail(self, error: UnimicError) -> None:
        """Tell the client of `error` in the way that is left."""
        self._trace.status = error.http_status
        if self._ended:
            return
        error.request_id = self._trace.origin.request_id  # a stream's head has named it already
        if self._kind == STREAM_TYPE:
            await self.send(write_event(Failure(error)))
        elif self._kind:
            return  # the length was promised: cutting the reply short is all that is left
        else:
            await self._fail_whole(error)
        await self.end()

    async def _fail_whole(self, error: UnimicError) -> None:
        response = error_response(error, self._trace.id)
        headers = dict(response.headers)
        if not self._exhausted:
            headers["connection"] = "close"
        kind = headers.pop("content-type")
        await self.start(response.status_code, kind, headers)
        await self.send(bytes(response.body))
        if not self._exhausted:
            await linger(self.receive, _LINGER_BYTES, _LINGER_S)


class TaskEndpoint(Response):
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
        if self._service.metrics.exporter is not None:
            trace.spans = []
        trace.id, trace.origin = request_id_of(scope), origin_of(scope)
        connection = _Connection(receive, send, trace, self._service.rates)
        try:
            await self._serve(scope, connection)
        except ClientGoneError:
            trace.status = STATUS_CLIENT_GONE
        except asyncio.CancelledError:
            trace.status = STATUS_CLIENT_GONE
            raise
        except UnimicError as error:
            await asyncio.sleep(self._service.patience_with(trace.party, error))
            await connection.fail(error)
        except Exception:
            logger.exception("incident %s", trace.id, extra={"request_id": trace.id})
            await connection.fail(internal_error(trace.id))
        finally:
            trace.finish()
            self._service.metrics.observe(trace)
            logger.info("%s", trace)

    async def _serve(self, scope: Scope, connection: _Connection) -> None:
        headers, settings, trace = Headers(scope=scope), self._service.settings, self._trace
        trace.owner = self._service.owner(headers.get("authorization"))
        trace.party = party_of(trace.owner, address_of(scope.get("client")))
        check_headers(headers, settings.max_body)
        given = _idempotency_key(headers)
        key = None if given is None else work_key(trace.owner, given)
        limit = asyncio.timeout(settings.request_timeout)
        try:
            async with limit:
                with self._service.admission(trace.party, trace.owner):
                    receive = connection.receive
                    with trace.span("receive"):
                        body = await read_body(receive, settings.max_body, settings.body_timeout)
                    trace.bytes_up = len(body)
                    form = _stream if wants_stream(headers.get("accept", "")) else _single
                    wish = preferences(headers.get(PREFER, ""))
                    answer = self._answer(body, key, lambda job: form(job, connection, wish))
                    await _unless_gone(receive, answer)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise DeadlineError(
                f"it took longer than {settings.request_timeout:g} s",
                "retry with the same Idempotency-Key, or ask for fewer steps",
            ) from error

    async def _answer(
        self,
        body: bytes,
        key: str | None,
        form: Callable[[ServiceJob], Awaitable[None]],
    ) -> None:
        async with self._service.job(body, self._trace, key) as job:
            await form(job)


async def _single(job: ServiceJob, connection: _Connection, wish: Preferences) -> None:
    message = await job.message()
    headers = {"Content-Length": str(len(message))}
    if wish.timing:
        headers[SERVER_TIMING] = timing_to_header(job.trace.timing())
    with job.trace.span("send"):
        await connection.start(200, MESSAGE_TYPE, headers)
        await connection.send(message)
        await connection.end()


async def _stream(job: ServiceJob, connection: _Connection, wish: Preferences) -> None:
    await connection.start(200, STREAM_TYPE, {"X-Accel-Buffering": "no"})
    reports = Reports(wish.steps - 1)
    async for step, total in job.steps():
        if (step == 0 and wish.steps) or reports.due(step, total):  # the first says that it began
            await connection.send(write_event(Step(step, total)))
    message = await job.message()
    timing = write_event(job.trace.timing()) if wish.timing else b""
    with job.trace.span("send"):
        await connection.send(timing + write_event(MessageEvent(message)))
        await connection.end()


def _idempotency_key(headers: Headers) -> str | None:
    key = headers.get(IDEMPOTENCY_KEY)
    if key is not None and not is_idempotency_key(key):
        raise InvalidInputError(
            f"the {IDEMPOTENCY_KEY} is not usable", "use 1..200 visible ASCII characters"
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


# ------------------------------------------------------------------------------------------------
# The body of a request, read within limits: declared size, real size, type and time
# ------------------------------------------------------------------------------------------------


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
