"""Reads HTTP answers: messages, progress, errors, and whatever is no UniMIC server's answer.

It does not know how a request is made, nor when it is made again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx

from edge_client.transport.base import Sink
from shared_protocol.errors import (
    DeadlineError,
    OverloadedError,
    TransportError,
    UnauthorizedError,
    UnimicError,
    error_from_wire,
    printable,
)
from shared_protocol.http.contract import (
    MAX_REPLY_BYTES,
    MESSAGE_TYPE,
    NO_PATH,
    RETRY_AFTER,
    SERVER_TIMING,
    STREAM_TYPE,
)
from shared_protocol.http.reply_stream import (
    Failure,
    MalformedReplyError,
    Message,
    ReplyReader,
    ServerTiming,
    Step,
    timing_from_header,
)
from shared_protocol.messages import OnStep

PROGRESS = 1 << 16
"""Bytes of a file that have to come within each time limit."""
CHECK = "check --server or UNIMIC_SERVER"
_AGAIN_STATUS = (429, 502, 503, 504)
_BEHIND = f"see that cloud-server runs behind the proxy, or {CHECK}"
_MEANINGS = {
    403: ("a proxy or a firewall in between forbids it", f"ask who runs it, or {CHECK}"),
    407: (
        "a proxy in between wants a user and a password",
        "put both into HTTP_PROXY or HTTPS_PROXY: http://USER:PASSWORD@HOST:PORT",
    ),
    413: (
        "a proxy in between takes no body",
        "raise its limit, such as nginx's client_max_body_size",
    ),
    429: (
        "a proxy in between limits how often it is asked",
        "ask less often, or whoever runs it for a higher limit",
    ),
    500: ("a proxy in between failed, or lost the server", _BEHIND),
    502: ("a proxy in between does not reach the server", _BEHIND),
    503: ("a proxy in between has no server to ask", _BEHIND),
    504: (
        "a proxy in between got no answer in its own time limit",
        f"raise that limit, such as nginx's proxy_read_timeout, or {CHECK}",
    ),
}
"""Status of what is no UniMIC server's answer to what it means, and the remedy."""


@dataclass
class Call:
    """One exchange and what it has cost so far.

    Args:
        server: as people give it; `url` may say it otherwise.
        waited: seconds spent between attempts.
    """

    method: str
    url: str
    headers: dict[str, str]
    body: bytes
    timeout: float
    server: str = ""
    sent: int = 0
    received: int = 0
    attempts: int = 0
    waited: float = 0.0
    started: float = field(default_factory=time.monotonic)

    def remaining(self) -> float:
        """Seconds left."""
        return self.timeout - max(self.waited, time.monotonic() - self.started)

    @property
    def told(self) -> str:
        """The address for people."""
        return self.url if self.url.startswith(self.server) else self.server


class AgainError(Exception):
    """An attempt failed in a way that makes another one safe."""

    def __init__(self, error: UnimicError) -> None:
        super().__init__(str(error))
        self.error = error


class LateError(Exception):
    """The reply was still coming in when the time was up."""


def _chunks(response: httpx.Response, call: Call, limit: int = MAX_REPLY_BYTES) -> Iterator[bytes]:
    """The body as it arrives, counted, bounded in size and in time."""
    size = 0
    for chunk in response.iter_raw():
        size += len(chunk)
        call.received += len(chunk)
        if size > limit:
            raise TransportError(f"the reply from {call.told} is over {limit:,} bytes", CHECK)
        if call.remaining() <= 0:
            raise LateError
        yield chunk


def read_message(
    response: httpx.Response, call: Call, on_step: OnStep | None
) -> tuple[bytes, ServerTiming]:
    """The message and timing of a successful answer, single or streamed.

    Raises:
        AgainError: the stream ends early or in an error that passes.
        LateError: the time is up.
        UnimicError: the error that the stream ends in, or what is wrong with the answer.
    """
    kind = _media_type(response)
    timing = timing_from_header(response.headers.get(SERVER_TIMING, ""))
    if kind == MESSAGE_TYPE:
        return b"".join(_chunks(response, call)), timing
    if kind != STREAM_TYPE:
        raise _foreign(response, call)
    try:
        return _read_stream(response, call, timing, on_step)
    except MalformedReplyError as error:
        raise TransportError(f"{call.told}: {printable(str(error))}", CHECK) from error
    except (OverloadedError, DeadlineError) as error:
        raise AgainError(error) from None


def _read_stream(
    response: httpx.Response, call: Call, timing: ServerTiming, on_step: OnStep | None
) -> tuple[bytes, ServerTiming]:
    reader = ReplyReader()
    data = b""
    for chunk in _chunks(response, call):
        for event in reader.feed(chunk):
            if isinstance(event, Step):
                if on_step is not None:
                    on_step(event.done, event.total)
            elif isinstance(event, Message):
                data = event.data
            elif isinstance(event, Failure):
                raise event.error
            else:
                timing = event
    if not reader.complete:
        cut = TransportError(f"the reply from {call.told} ended early", "try again")
        raise AgainError(cut)
    return data, timing


def read_info(response: httpx.Response, call: Call) -> dict[str, Any]:
    """The JSON object of a successful answer."""
    body = _json(b"".join(_chunks(response, call)))
    if not isinstance(body, dict):
        raise _foreign(response, call)
    return body


def go_on(call: Call, sink: Sink) -> None:
    """Make the next attempt at `call` ask for what `sink` lacks."""
    call.headers.pop("Range", None)
    if sink.size:
        call.headers["Range"] = f"bytes={sink.size}-"


def read_file(
    response: httpx.Response,
    call: Call,
    sink: Sink,
    size: int,
    until: Callable[[float], object] = lambda deadline: None,
) -> None:
    """Add the body of a successful answer to `sink`, up to `size` bytes in all.

    The time limit starts over with every `PROGRESS` bytes: what is slow may take its time, what
    stands still, or nearly does, may not. `until` is told the moment at which it ends.

    Raises:
        AgainError: the body ends early; the next attempt goes on from there.
    """
    if response.status_code != 206 and sink.size:
        sink.restart()
    try:
        before = sink.size
        for chunk in _chunks(response, call, size - sink.size):
            sink.write(chunk)
            call.attempts, call.waited = 1, 0.0
            if sink.size - before >= PROGRESS:
                before, call.started = sink.size, time.monotonic()
                until(call.started + call.timeout)
    finally:
        go_on(call, sink)
    if sink.size < size:
        raise AgainError(TransportError(f"{call.told} ended early", "run the command again"))


def check_status(response: httpx.Response, call: Call) -> None:
    """Raise what an unsuccessful response says."""
    if response.is_success:
        return
    error = _error_of(response, call)
    # Some proxies, such as Ray Serve's, say 500 of a server that died under their hands; ours says
    # what failed, and that it would fail again.
    lost = response.status_code == 500 and isinstance(error, TransportError)
    if lost or response.status_code in _AGAIN_STATUS:
        if error.retry_after is None:
            error.retry_after = _seconds(response.headers.get(RETRY_AFTER, ""))
        raise AgainError(error)
    raise error


def _error_of(response: httpx.Response, call: Call) -> UnimicError:
    body = _json(b"".join(_chunks(response, call)))
    if not isinstance(body, dict) or "code" not in body:
        return _foreign(response, call)
    error = error_from_wire(body)
    if isinstance(error, UnauthorizedError):
        error.remedy = "set UNIMIC_API_KEY or give --api-key"
    parts = urlsplit(call.server)
    if error.message == NO_PATH and parts.path:
        error.message = f"{error.message} below {call.server}"
        error.remedy = f"leave out {parts.path}: --server {parts.scheme}://{parts.netloc}"
    return error


def _foreign(response: httpx.Response, call: Call) -> TransportError:
    """Whatever answered is no UniMIC server."""
    if response.is_redirect:
        return _elsewhere(response.headers.get("Location", "?"), call)
    status, kind = response.status_code, printable(_media_type(response) or "no content type", 60)
    fault = f"{call.told} answered {status} ({kind}), which is not how a UniMIC server answers"
    meaning, remedy = _MEANINGS.get(status, ("", CHECK))
    if status == 200 and kind == "text/html":
        meaning = "a web page: another service, or the login of a network, is there"
    elif status == 413:
        meaning = f"{meaning} of {len(call.body):,} bytes"
    return TransportError(f"{fault}: {meaning}" if meaning else fault, remedy)


def _elsewhere(location: str, call: Call) -> TransportError:
    """Where a redirect leads, and what to give as the server instead."""
    target = urljoin(call.url, location)
    path = call.url.removeprefix(call.server)
    base = printable(target.partition("?")[0].removesuffix(path), 200)
    fault = f"{call.told} redirects to {printable(target, 200)}"
    if target.partition("?")[0].endswith(path) and base != call.server:
        return TransportError(fault, f"give --server {base}")
    remedy = (
        f"another service, or the login of a network, is there: open it in a browser, or {CHECK}"
    )
    return TransportError(fault, remedy)


def _media_type(response: httpx.Response) -> str:
    return str(response.headers.get("Content-Type", "")).split(";")[0].strip().lower()


def _json(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _seconds(header: str) -> float | None:
    try:
        return float(header)
    except ValueError:  # the date form is not worth its code: our server sends seconds
        return None


def reason_of(error: Exception) -> str:
    """What an HTTP library's error says, on one line."""
    return printable(str(error) or type(error).__name__, 200)
