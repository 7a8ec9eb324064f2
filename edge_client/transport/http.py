"""Bytes to the cloud and bytes back, with progress, safe retries and typed errors.

It does not know what the bytes mean, nor pixels, nor how progress is shown.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Self, TypeVar

import httpx

from edge_client.transport.base import ORIGIN, Notice, Reply, Sink, waits_in_vain
from edge_client.transport.certificates import distrusted
from edge_client.transport.counted_http import CountedHttp
from edge_client.transport.http_answers import (
    CHECK,
    AgainError,
    Call,
    LateError,
    check_status,
    go_on,
    read_file,
    read_info,
    read_message,
    reason_of,
)
from edge_client.transport.loopback import is_loopback
from edge_client.transport.proxies import proxy_for
from shared_protocol.errors import (
    ConfigError,
    RateLimitError,
    ServerTimeoutError,
    TransportError,
    UnimicError,
)
from shared_protocol.http.contract import (
    ACCEPT_STREAM,
    BUNDLE_PATH,
    FILE_PATH,
    IDEMPOTENCY_KEY,
    INFO_PATH,
    JOB_PATH,
    JSON_TYPE,
    MESSAGE_TYPE,
    PREFER,
    TIMED,
    Preferences,
    task_path,
)
from shared_protocol.http.origin import UNKNOWN
from shared_protocol.messages import OnStep
from shared_protocol.tasks import Task

ATTEMPTS = 3
"""Most attempts at what is not worth waiting for: a server's description, or an unknown name."""
BACKOFF, MAX_BACKOFF = 0.25, 5.0
"""Seconds before the first retry, which double with each, and the most of them."""
MAX_WAIT = 20.0
"""Longest wait between attempts, whatever the server asks for."""
CONNECT_TIMEOUT = 5.0

_CANCEL_S = 2.0
T = TypeVar("T")


class HttpTransport:
    """A cloud server over HTTP, on one kept-alive connection.

    A request is made again, with the same idempotency key and until its time is up, when the
    connection is refused, breaks or ends early and when the answer is 429, 502, 503 or 504: by the
    key the server recognises work that it has already done, so that a retry costs no second
    generation, and a server that is started anew is waited for.

    Args:
        server: address, such as "http://127.0.0.1:8400" or "unix:/run/unimic.sock".
        api_key: sent as a bearer token.
        timeout: seconds for one exchange in all, waiting and retries included.
        wish: what to be told besides the result.
        handler: replaces the network in tests.
        sleep: replaces waiting in tests.
    """

    def __init__(
        self,
        server: str,
        api_key: str | None = None,
        timeout: float = 120.0,
        *,
        wish: Preferences = TIMED,
        handler: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if not server.startswith(("http://", "https://", "unix:")):
            raise ConfigError(
                f"{server!r} carries conversations only",
                "give the http, https or unix address of that server with --server",
            )
        self.server = server.rstrip("/")
        file = server.removeprefix("unix:") if server.startswith("unix:") else None
        self._base = self.server if file is None else "http://localhost"
        self._timeout = timeout
        self._sleep = sleep
        trusts = not is_loopback(self.server)
        # Certificates take longer to load than all else; only plain HTTP without a proxy, which
        # might speak TLS itself, can do without.
        plain = self._base.startswith("http://") and not (trusts and proxy_for(self._base))
        self._counter = handler or CountedHttp(trusts, verify=not plain, socket_file=file)
        self._client = httpx.Client(transport=self._counter, trust_env=False)
        self._client.headers.clear()  # each costs more than many a message, and nobody reads them
        if api_key:
            self._client.headers["Authorization"] = f"Bearer {api_key}"
        self._wish = wish

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def exchange(
        self, task: Task, message: bytes, key: str, on_step: OnStep | None = None
    ) -> Reply:
        """See `Transport.exchange`."""
        headers = {"Content-Type": MESSAGE_TYPE, IDEMPOTENCY_KEY: key}
        if on_step is not None:
            headers["Accept"] = ACCEPT_STREAM
        if self._wish.header:
            headers[PREFER] = self._wish.header
        if ORIGIN.get() is not UNKNOWN:
            headers |= ORIGIN.get().headers
        before = self._moved()
        call = self._call("POST", task_path(task), headers, message)
        try:
            data, timing = self._persist(
                call, lambda reply: read_message(reply, call, on_step), patient=True
            )
        except (KeyboardInterrupt, ServerTimeoutError):
            self.cancel(key)
            raise
        now = self._moved()
        if before is None or now is None:
            return Reply(data, timing, call.sent, call.received, call.attempts)
        sent, received = now[0] - before[0], now[1] - before[1]
        return Reply(data, timing, sent, received, call.attempts)

    def _until(self, deadline: float) -> None:
        """Let no step of an exchange go on beyond this moment."""
        if isinstance(self._counter, CountedHttp):
            self._counter.deadline = deadline

    def _moved(self) -> tuple[int, int] | None:
        """Bytes sent and received so far, if they are counted."""
        counter = self._counter
        return (counter.sent, counter.received) if isinstance(counter, CountedHttp) else None

    def cancel(self, key: str) -> None:
        """End the work under a key, if the server can be reached at once; never raises."""
        self._until(time.monotonic() + _CANCEL_S)
        with suppress(httpx.HTTPError, httpx.InvalidURL, UnimicError):
            self._client.delete(self._base + JOB_PATH.format(key=key), timeout=_CANCEL_S)

    def info(self) -> dict[str, Any]:
        """See `Transport.info`."""
        call = self._call("GET", INFO_PATH, {"Accept": JSON_TYPE})
        return self._persist(call, lambda reply: read_info(reply, call))

    def bundle(self, fingerprint: str) -> dict[str, Any]:
        """The listing of the bundle of that fingerprint, if the server holds it."""
        path = BUNDLE_PATH.format(fingerprint=fingerprint)
        call = self._call("GET", path, {"Accept": JSON_TYPE})
        return self._persist(call, lambda reply: read_info(reply, call))

    def download(self, fingerprint: str, file: str, sink: Sink, size: int) -> None:
        """Fill `sink` up to `size` bytes with a file of that bundle, going on from what it has.

        The timeout is that of a connection which stands still; after progress, attempts are
        counted from one again.
        """
        call = self._call("GET", FILE_PATH.format(fingerprint=fingerprint, file=file), {})
        go_on(call, sink)
        self._persist(call, lambda reply: read_file(reply, call, sink, size, self._until))

    def _call(self, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> Call:
        return Call(method, self._base + path, headers, body, self._timeout, self.server)

    def _persist(self, call: Call, read: Callable[[httpx.Response], T], patient: bool = False) -> T:
        """Make the call as long as trying again is safe and in time.

        Args:
            call: is made.
            read: takes the answer.
            patient: try until the time is up, not just `ATTEMPTS` times.
        """
        notice = Notice()
        while True:
            call.attempts += 1
            try:
                with self._response(call) as response:
                    return read(response)
            except AgainError as again:
                wait = _wait_before(call.attempts, again.error)
                enough = call.attempts >= ATTEMPTS and (not patient or waits_in_vain(again))
                if enough or wait >= call.remaining():
                    raise again.error from again.__cause__
                if patient:
                    notice(again.error, call.remaining())
            self._sleep(wait)
            call.waited += wait

    @contextmanager
    def _response(self, call: Call) -> Iterator[httpx.Response]:
        """The response to one attempt; httpx's errors become ours here and nowhere else."""
        left = max(0.001, call.remaining())
        self._until(call.started + call.timeout)
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
                check_status(response, call)
                yield response
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise self._unreachable(error) from error
        except httpx.TimeoutException as error:
            raise self._late() from error
        except (httpx.NetworkError, httpx.RemoteProtocolError) as error:
            broken = TransportError(
                f"the connection to {self.server} broke: {reason_of(error)}",
                "try again; the server's log may say why",
            )
            raise AgainError(broken) from error
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, ImportError) as error:
            fault = f"cannot talk to {self.server}: {reason_of(error)}"
            raise TransportError(fault, CHECK) from error
        except LateError as error:
            raise self._late() from error

    def _unreachable(self, error: Exception) -> Exception:
        reason = reason_of(error)
        if "CERTIFICATE" in reason:
            return TransportError(*distrusted(self.server, reason))
        if "[SSL" in reason:
            fault = f"{self.server} does not speak TLS as expected: {reason}"
            return TransportError(fault, f"write http:// if it speaks plain HTTP, or {CHECK}")
        flag = self.server.replace("unix:", " --unix ") if self._base != self.server else ""
        remedy = f"start it with cloud-server{flag}, or {CHECK}"
        return AgainError(TransportError(f"cannot reach {self.server}: {reason}", remedy))

    def _late(self) -> ServerTimeoutError:
        return ServerTimeoutError(
            f"{self.server} did not finish in {self._timeout:g} s", "give it longer with --timeout"
        )


def _wait_before(attempts: int, error: UnimicError) -> float:
    retry_after = error.retry_after
    if retry_after is not None:
        # What a limit of a key says is exact: to ask before is in vain.
        most = retry_after if isinstance(error, RateLimitError) else MAX_WAIT
        return min(retry_after, most) if retry_after > 0 else 0.0
    backoff = min(MAX_BACKOFF, BACKOFF * 2 ** min(attempts - 1, 10))
    return float(backoff * random.uniform(0.75, 1.25))
