"""Bytes to the cloud and bytes back, with progress, safe retries and typed errors.

It does not know what the bytes mean, nor pixels, nor how progress is shown.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

import httpx

from edge_client.replies import (
    MAX_REPLY_BYTES,
    MalformedReplyError,
    Message,
    ReplyReader,
    ServerTiming,
    Step,
    printable,
    timing_from_header,
    wire_error,
)
from shared_protocol.errors import (
    DeadlineError,
    OverloadedError,
    ServerTimeoutError,
    TransportError,
    UnauthorizedError,
    UnimicError,
)

MESSAGE_TYPE = "application/msgpack"
STREAM_TYPE = "application/msgpack-seq"
ATTEMPTS = 3
BACKOFF = 0.25
"""Seconds before the first retry; doubles with each."""
MAX_WAIT = 20.0
"""Longest wait between attempts, whatever the server asks for."""
CONNECT_TIMEOUT = 5.0
_GATEWAY_STATUS = (502, 503, 504)
_CHECK = "check --server or UNIMIC_SERVER"

T = TypeVar("T")
OnStep = Callable[[int, int], None]
"""Called with (finished steps, all steps) while the cloud works."""


@dataclass(frozen=True)
class Reply:
    """What came back.

    Args:
        message: one UniMIC message.
        timing: see `ServerTiming`.
        sent: request body bytes of all attempts.
        received: reply body bytes of all attempts, progress included.
        attempts: how often the request was made.
    """

    message: bytes
    timing: ServerTiming = field(default_factory=ServerTiming)
    sent: int = 0
    received: int = 0
    attempts: int = 1


class Transport(Protocol):
    """Carries messages to a cloud and its replies back."""

    def exchange(self, task: str, message: bytes, key: str, on_step: OnStep | None = None) -> Reply:
        """Send one message for `task` ("t2i", …); equal keys name one piece of work.

        Raises:
            UnimicError: what the service answered instead, or why it could not be reached.
        """

    def info(self) -> dict[str, Any]:
        """What the service says about itself."""


class HttpTransport:
    """A cloud server over HTTP, on one kept-alive connection.

    A request is made again, with the same idempotency key, when the connection fails, breaks or
    ends early and when the answer is 502, 503 or 504: by the key the server recognises work that
    it has already done, so that a retry costs no second generation.

    Args:
        server: address, such as "http://127.0.0.1:8400".
        api_key: sent as a bearer token.
        timeout: seconds for one exchange in all, waiting and retries included.
        handler: replaces the network in tests.
        sleep: replaces waiting in tests.
    """

    def __init__(
        self,
        server: str,
        api_key: str | None = None,
        timeout: float = 120.0,
        *,
        handler: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.server = server.rstrip("/")
        self._timeout = timeout
        self._sleep = sleep
        headers = {"Accept-Encoding": "identity"}
        if api_key:
            headers["Authorization"] = f"Bearer {api_key}"
        self._client = httpx.Client(
            headers=headers, transport=handler, trust_env=not is_loopback(self.server)
        )

    def __enter__(self) -> HttpTransport:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def exchange(self, task: str, message: bytes, key: str, on_step: OnStep | None = None) -> Reply:
        """See `Transport.exchange`."""
        headers = {
            "Content-Type": MESSAGE_TYPE,
            "Accept": f"{STREAM_TYPE}, {MESSAGE_TYPE};q=0.9",
            "Idempotency-Key": key,
        }
        call = _Call("POST", f"{self.server}/v1/{task}", headers, message, self._timeout)
        data, timing = self._persist(call, lambda reply: _read_message(reply, call, on_step))
        return Reply(data, timing, call.sent, call.received, call.attempts)

    def info(self) -> dict[str, Any]:
        """See `Transport.info`."""
        headers = {"Accept": "application/json"}
        call = _Call("GET", f"{self.server}/v1/info", headers, b"", self._timeout)
        return self._persist(call, lambda reply: _read_info(reply, call))

    def _persist(self, call: _Call, read: Callable[[httpx.Response], T]) -> T:
        """Make the call up to ATTEMPTS times, as long as trying again is safe and in time."""
        while True:
            call.attempts += 1
            try:
                with self._response(call) as response:
                    return read(response)
            except _AgainError as again:
                wait = _wait_before(call.attempts, again.error.retry_after)
                if call.attempts >= ATTEMPTS or wait >= call.remaining():
                    raise again.error from again.__cause__
            self._sleep(wait)

    @contextmanager
    def _response(self, call: _Call) -> Iterator[httpx.Response]:
        """The response to one attempt; httpx's errors become ours here and nowhere else."""
        left = max(0.001, call.remaining())
        timeout = httpx.Timeout(left, connect=min(left, CONNECT_TIMEOUT))
        try:
            with self._client.stream(
                call.method,
                call.url,
                headers=call.headers,
                content=call.body or None,
                timeout=timeout,
            ) as response:
                call.sent += len(call.body)
                _check_status(response, call)
                yield response
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise self._unreachable(error) from error
        except httpx.TimeoutException as error:
            raise self._late() from error
        except (httpx.NetworkError, httpx.RemoteProtocolError) as error:
            broken = TransportError(
                f"the connection to {self.server} broke: {_reason(error)}",
                "try again; the server's log may say why",
            )
            raise _AgainError(broken) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            fault = f"cannot talk to {self.server}: {_reason(error)}"
            raise TransportError(fault, _CHECK) from error
        except _LateError as error:
            raise self._late() from error

    def _unreachable(self, error: Exception) -> Exception:
        reason = _reason(error)
        remedy = f"start it with cloud-server, or {_CHECK}"
        unreachable = TransportError(f"cannot reach {self.server}: {reason}", remedy)
        return unreachable if "CERTIFICATE" in reason else _AgainError(unreachable)

    def _late(self) -> ServerTimeoutError:
        return ServerTimeoutError(
            f"{self.server} did not finish in {self._timeout:g} s", "give it longer with --timeout"
        )


@dataclass
class _Call:
    """One exchange and what it has cost so far."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes
    timeout: float
    sent: int = 0
    received: int = 0
    attempts: int = 0
    started: float = field(default_factory=time.monotonic)

    def remaining(self) -> float:
        return self.started + self.timeout - time.monotonic()


class _AgainError(Exception):
    """An attempt failed in a way that makes another one safe."""

    def __init__(self, error: UnimicError) -> None:
        super().__init__(str(error))
        self.error = error


class _LateError(Exception):
    """The reply was still coming in when the time was up."""


def _wait_before(attempts: int, retry_after: float | None) -> float:
    if retry_after is not None:
        return min(retry_after, MAX_WAIT) if retry_after > 0 else 0.0
    return float(BACKOFF * 2 ** (attempts - 1) * random.uniform(0.75, 1.25))


def _chunks(response: httpx.Response, call: _Call, limit: int = MAX_REPLY_BYTES) -> Iterator[bytes]:
    """The body as it arrives, counted, bounded in size and in time."""
    size = 0
    for chunk in response.iter_raw():
        size += len(chunk)
        call.received += len(chunk)
        if size > limit:
            raise TransportError(f"the reply from {call.url} is over {limit:,} bytes", _CHECK)
        if call.remaining() <= 0:
            raise _LateError
        yield chunk


def _read_message(
    response: httpx.Response, call: _Call, on_step: OnStep | None
) -> tuple[bytes, ServerTiming]:
    kind = _media_type(response)
    timing = timing_from_header(response.headers.get("Server-Timing", ""))
    if kind == MESSAGE_TYPE:
        return b"".join(_chunks(response, call)), timing
    if kind != STREAM_TYPE:
        raise _foreign(response, call)
    try:
        return _read_stream(response, call, timing, on_step)
    except MalformedReplyError as error:
        raise TransportError(f"{call.url}: {printable(str(error))}", _CHECK) from error
    except (OverloadedError, DeadlineError) as error:
        raise _AgainError(error) from None


def _read_stream(
    response: httpx.Response, call: _Call, timing: ServerTiming, on_step: OnStep | None
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
            else:
                timing = event
    if not reader.complete:
        cut = TransportError(f"the reply from {call.url} ended early", "try again")
        raise _AgainError(cut)
    return data, timing


def _read_info(response: httpx.Response, call: _Call) -> dict[str, Any]:
    body = _json(b"".join(_chunks(response, call)))
    if not isinstance(body, dict):
        raise _foreign(response, call)
    return body


def _check_status(response: httpx.Response, call: _Call) -> None:
    """Raise what an unsuccessful response says."""
    if response.is_success:
        return
    error = _error_of(response, call)
    if response.status_code in _GATEWAY_STATUS:
        if error.retry_after is None:
            error.retry_after = _seconds(response.headers.get("Retry-After", ""))
        raise _AgainError(error)
    raise error


def _error_of(response: httpx.Response, call: _Call) -> UnimicError:
    body = _json(b"".join(_chunks(response, call)))
    if not isinstance(body, dict) or "code" not in body:
        return _foreign(response, call)
    error = wire_error(body)
    if isinstance(error, UnauthorizedError):
        error.remedy = "set UNIMIC_API_KEY or give --api-key"
    return error


def _foreign(response: httpx.Response, call: _Call) -> TransportError:
    """Whatever answered is no UniMIC server."""
    status, kind = response.status_code, printable(_media_type(response) or "no content type", 60)
    if response.is_redirect:
        target = printable(response.headers.get("Location", "?"), 200)
        return TransportError(f"{call.url} redirects to {target}", "use that address as --server")
    return TransportError(
        f"{call.url} answered {status} ({kind}), which is not how a UniMIC server answers", _CHECK
    )


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


def _reason(error: Exception) -> str:
    return printable(str(error) or type(error).__name__, 200)


def is_loopback(server: str) -> bool:
    """Whether an address means this machine, which no proxy should see.

    >>> is_loopback("http://127.0.0.1:8400"), is_loopback("https://example.org")
    (True, False)
    """
    host = urlsplit(server).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
