"""HTTP in all its moods: retries keep one key, answers of every kind become typed errors."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import msgpack
import pytest

from edge_client.transport.http import ATTEMPTS, MAX_WAIT, HttpTransport
from edge_client.transport.loopback import is_loopback
from shared_protocol.errors import (
    CODES,
    BundleMismatchError,
    ChecksumError,
    ConfigError,
    DeadlineError,
    OverloadedError,
    RateLimitError,
    ServerTimeoutError,
    ServiceError,
    TransportError,
    UnauthorizedError,
    UnimicError,
    error_to_wire,
)
from shared_protocol.tasks import Task

MESSAGE = msgpack.packb(msgpack.ExtType(0x55, b"M" + bytes(40)))
TRIED_AGAIN = {"overloaded", "rate_limited", "deadline", "server_timeout"}
SERVER = "http://127.0.0.1:8400"
Handler = Callable[[httpx.Request], httpx.Response]


class Script:
    """Answers one request after the other as told, and keeps the requests."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []
        self.waits: list[float] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return unread(answer)

    @property
    def keys(self) -> set[str]:
        return {request.headers["Idempotency-Key"] for request in self.requests}

    def transport(self, **options: Any) -> HttpTransport:
        handler = httpx.MockTransport(self)
        return HttpTransport(SERVER, handler=handler, sleep=self.waits.append, **options)


def unread(answer: httpx.Response) -> httpx.Response:
    """The same response as it comes from a socket: its body still to be read."""
    body = httpx.ByteStream(answer.content) if answer.is_closed else answer.stream
    return httpx.Response(answer.status_code, headers=answer.headers, stream=body)


def single(message: bytes = MESSAGE, **headers: str) -> httpx.Response:
    timing = "decode;dur=1, queue;dur=2, model;dur=30, encode;dur=4"
    headers = {"Content-Type": "application/msgpack", "Server-Timing": timing, **headers}
    return httpx.Response(200, content=message, headers=headers)


def stream(*values: bytes) -> httpx.Response:
    headers = {"Content-Type": "application/msgpack-seq"}

    def trickle() -> Iterator[bytes]:
        for byte in b"".join(values):
            yield bytes([byte])

    return httpx.Response(200, content=trickle(), headers=headers)


def failure(error: UnimicError, **headers: str) -> httpx.Response:
    return httpx.Response(error.http_status, json=error_to_wire(error), headers=headers)


def test_a_single_reply_brings_message_timing_and_counts() -> None:
    script = Script(single())
    reply = script.transport(api_key="secret").exchange(Task.T2I, b"hello", "key-1")
    assert reply.message == MESSAGE
    assert (reply.timing.model, reply.timing.total) == (30.0, 37.0)
    assert (reply.sent, reply.received, reply.attempts) == (5, len(MESSAGE), 1)
    request = script.requests[0]
    assert (request.method, request.url.path) == ("POST", "/v1/t2i")
    assert request.headers["Authorization"] == "Bearer secret"
    assert request.headers["Content-Type"] == "application/msgpack"
    assert request.headers["Prefer"] == "timing"
    assert set(request.headers) == {
        "host", "authorization", "content-type", "content-length", "idempotency-key", "prefer"
    }  # fmt: skip
    assert request.content == b"hello"


@pytest.mark.parametrize("server", ["tcp://h:1", "exec:ssh h", "h:80"])
def test_an_address_that_carries_conversations_only_is_told(server: str) -> None:
    with pytest.raises(ConfigError, match="carries conversations only"):
        HttpTransport(server)


def test_a_streamed_reply_reports_its_steps() -> None:
    timing = msgpack.packb({"timing": {"model": 7.5}})
    script = Script(stream(msgpack.packb([1, 2]), msgpack.packb([2, 2]), timing, MESSAGE))
    steps: list[tuple[int, int]] = []
    reply = script.transport().exchange(Task.VQA, b"x", "k", lambda *step: steps.append(step))
    assert steps == [(1, 2), (2, 2)]
    assert reply.message == MESSAGE
    assert reply.timing.model == 7.5


@pytest.mark.parametrize(
    "fault",
    [
        httpx.ConnectError("refused"),
        httpx.ReadError("reset"),
        httpx.WriteError("broken pipe"),
        httpx.RemoteProtocolError("disconnected without a response"),
        failure(OverloadedError("busy")),
        failure(DeadlineError("slow")),
        httpx.Response(502, text="<html>bad gateway</html>"),
        stream(msgpack.packb([1, 2])),
        stream(msgpack.packb(error_to_wire(OverloadedError("stopping")))),
    ],
    ids=lambda fault: type(fault).__name__,
)
def test_a_passing_fault_is_tried_again_with_the_same_key(fault: httpx.Response) -> None:
    script = Script(fault, single())
    reply = script.transport().exchange(Task.T2I, b"hello", "one-key")
    assert reply.message == MESSAGE
    assert reply.attempts == 2
    assert script.keys == {"one-key"}
    assert [request.content for request in script.requests] == [b"hello"] * 2
    assert len(script.waits) == 1


def test_a_fault_that_stays_ends_with_the_time_and_its_own_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    script = Script(*[failure(OverloadedError("the queue is full")) for _ in range(50)])
    with pytest.raises(OverloadedError, match="the queue is full"):
        script.transport(timeout=60.0).exchange(Task.T2I, b"", "k")
    assert 0 < script.waits[0] < script.waits[1] < 1
    assert max(script.waits) < 7
    assert 45 < sum(script.waits) < 60
    assert caplog.messages == ["the queue is full; trying again for up to 60 s"]


def test_a_server_that_cannot_describe_itself_is_asked_three_times() -> None:
    script = Script(*[failure(OverloadedError("the model is being loaded"))] * 5)
    with pytest.raises(OverloadedError):
        script.transport().info()
    assert len(script.requests) == ATTEMPTS


def test_a_name_that_nobody_knows_is_not_waited_for() -> None:
    unknown = httpx.ConnectError("[Errno -2] Name or service not known")
    unknown.__cause__ = socket.gaierror(-2, "Name or service not known")
    script = Script(*[unknown] * 5)
    with pytest.raises(TransportError, match="not known"):
        script.transport().exchange(Task.T2I, b"", "k")
    assert len(script.requests) == ATTEMPTS


@pytest.mark.parametrize(
    ("header", "wait"), [("3", 3.0), ("9999", MAX_WAIT), ("-4", 0.0), ("nan", 0.0)]
)
def test_retry_after_is_honoured_within_a_cap(header: str, wait: float) -> None:
    script = Script(failure(OverloadedError("busy"), **{"Retry-After": header}), single())
    script.transport().exchange(Task.T2I, b"", "k")
    assert script.waits == [wait]


def test_a_limit_of_a_key_is_waited_for_as_long_as_it_says_and_no_longer_than_there_is_time():
    limited = failure(RateLimitError("2 of 2 used", "wait", 45.0))
    script = Script(limited, single())
    script.transport(timeout=60.0).exchange(Task.T2I, b"", "k")
    assert script.waits == [45.0]
    script = Script(failure(RateLimitError("2 of 2 used", "wait", 45.0)))
    with pytest.raises(RateLimitError, match="2 of 2 used"):
        script.transport(timeout=30.0).exchange(Task.T2I, b"", "k")
    assert script.waits == []


def test_a_proxy_that_limits_is_waited_for_and_told_as_what_it_is() -> None:
    full = httpx.Response(429, text="slow down", headers={"Retry-After": "2"})
    script = Script(full, single())
    script.transport().exchange(Task.T2I, b"", "k")
    assert script.waits == [2.0]
    with pytest.raises(TransportError, match=r"429.*limits how often"):
        Script(full, full).transport(timeout=1.0).exchange(Task.T2I, b"", "k")


def test_no_retry_is_started_that_the_time_does_not_allow() -> None:
    script = Script(failure(OverloadedError("busy", retry_after=5.0)))
    with pytest.raises(OverloadedError):
        script.transport(timeout=2.0).exchange(Task.T2I, b"", "k")
    assert script.waits == []


@pytest.mark.parametrize("code", sorted(set(CODES) - TRIED_AGAIN))
def test_every_other_error_of_the_tree_is_mapped_back_and_not_tried_again(code: str) -> None:
    if CODES[code].http_status == 502:
        pytest.skip("the client's own")
    script = Script(failure(CODES[code]("what", "do")))
    with pytest.raises(CODES[code], match="what") as caught:
        script.transport().exchange(Task.T2I, b"", "k")
    assert type(caught.value) is CODES[code]
    assert len(script.requests) == 1


def test_a_late_checksum_error_in_a_stream_keeps_its_type() -> None:
    late = msgpack.packb(error_to_wire(ChecksumError("differs")))
    with pytest.raises(ChecksumError):
        Script(stream(late)).transport().exchange(Task.T2I, b"", "k")


def test_a_missing_key_says_how_to_give_one() -> None:
    script = Script(failure(UnauthorizedError("no key")))
    with pytest.raises(UnauthorizedError, match=r"UNIMIC_API_KEY or give --api-key"):
        script.transport().exchange(Task.T2I, b"", "k")


def test_a_bundle_mismatch_keeps_the_servers_words() -> None:
    script = Script(failure(BundleMismatchError("ends hold ab and cd", "install cd")))
    with pytest.raises(BundleMismatchError, match=r"ab and cd \(install cd\)"):
        script.transport().exchange(Task.T2I, b"", "k")


def test_an_unreachable_server_says_how_to_start_one() -> None:
    script = Script(*[httpx.ConnectError("Connection refused")] * 50)
    expected = r"cannot reach http://127\.0\.0\.1:8400: Connection refused \(start it with cloud-s"
    with pytest.raises(TransportError, match=expected):
        script.transport().exchange(Task.T2I, b"", "k")


def test_a_wrong_certificate_is_not_tried_again() -> None:
    script = Script(httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed"))
    with pytest.raises(TransportError, match="CERTIFICATE"):
        script.transport().exchange(Task.T2I, b"", "k")


def test_a_silent_server_runs_into_the_timeout_once() -> None:
    script = Script(httpx.ReadTimeout("timed out"), httpx.Response(204))
    with pytest.raises(ServerTimeoutError, match=r"did not finish in 7 s \(give it longer"):
        script.transport(timeout=7.0).exchange(Task.T2I, b"", "k")
    assert [request.method for request in script.requests] == ["POST", "DELETE"]
    assert script.requests[1].url.path == "/v1/jobs/k"


@pytest.mark.parametrize(
    ("response", "complaint"),
    [
        (httpx.Response(200, html="<h1>hi</h1>"), "answered 200 (text/html), which is not how"),
        (httpx.Response(404, html="<h1>no</h1>"), "answered 404 (text/html)"),
        (httpx.Response(404, json={"detail": "Not Found"}), "answered 404 (application/json)"),
        (httpx.Response(200, content=b""), "no content type"),
        (
            httpx.Response(307, headers={"Location": "https://x.org/"}),
            "redirects to https://x.org/",
        ),
        (stream(b"\xc1"), "the reply is not msgpack"),
        (single(bytes(2 << 20)), "is over 1,048,576 bytes"),
    ],
)
def test_what_is_no_unimic_server_is_recognised(response: httpx.Response, complaint: str) -> None:
    with pytest.raises(TransportError) as caught:
        Script(response).transport().exchange(Task.T2I, b"", "k")
    assert complaint in str(caught.value)
    assert "--server" in str(caught.value)


def test_a_500_of_what_stands_between_is_tried_again_and_one_of_the_server_is_not() -> None:
    lost = httpx.Response(500, text="Internal Server Error")
    script = Script(lost, single(b"message"))
    assert script.transport().exchange(Task.T2I, b"", "k").message == b"message"
    assert len({request.headers["Idempotency-Key"] for request in script.requests}) == 1
    failed = httpx.Response(500, json={"code": "internal", "message": "incident 7"})
    with pytest.raises(UnimicError, match="incident 7"):
        Script(failed).transport().exchange(Task.T2I, b"", "k")
    with pytest.raises(TransportError, match=r"answered 500 \(text/plain\).*a proxy in between"):
        Script(*[httpx.Response(500, text="oops")] * 9).transport(timeout=3.0).exchange(
            Task.T2I, b"", "k"
        )


def test_an_error_body_that_names_an_unknown_code_is_still_an_error() -> None:
    body = {"code": "from_the_future", "message": "\x1b[31mred"}
    with pytest.raises(ServiceError, match=r"^ \[31mred"):
        Script(httpx.Response(418, json=body)).transport().exchange(Task.T2I, b"", "k")


def test_info_returns_the_servers_json() -> None:
    script = Script(httpx.Response(200, json={"bundle": "builtin"}))
    assert script.transport().info() == {"bundle": "builtin"}
    assert script.requests[0].url.path == "/v1/info"


def test_info_of_something_else_is_recognised() -> None:
    with pytest.raises(TransportError, match="not how a UniMIC server answers"):
        Script(httpx.Response(200, html="<p>")).transport().info()


def test_a_server_below_a_path_keeps_that_path() -> None:
    script = Script(single())
    transport = HttpTransport("https://h.org/unimic/", handler=httpx.MockTransport(script))
    transport.exchange(Task.T2I, b"", "k")
    assert str(script.requests[0].url) == "https://h.org/unimic/v1/t2i"


def test_only_this_machine_counts_as_loopback() -> None:
    ours = ["http://localhost:1", "http://127.8.8.8", "http://[::1]:80", "http://a.localhost"]
    assert all(is_loopback(server) for server in ours)
    assert not any(is_loopback(server) for server in ["http://10.0.0.1", "http://localhost.org"])


@pytest.fixture
def authorities(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every file of certificates that is loaded, in order."""
    loaded: list[str] = []
    monkeypatch.setattr(
        ssl.SSLContext, "load_verify_locations", lambda self, *a, **k: loaded.append(str(a or k))
    )
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return loaded


@pytest.mark.parametrize("server", ["http://127.0.0.1:8400", "http://example.org"])
def test_plain_http_loads_no_certificates(authorities: list[str], server: str) -> None:
    HttpTransport(server).close()
    assert authorities == []


@pytest.mark.parametrize(
    ("server", "proxy"),
    [("https://127.0.0.1:8400", None), ("https://a.org", None), ("http://a.org", "https://b.org")],
)
def test_whatever_speaks_tls_loads_them(
    authorities: list[str], monkeypatch: pytest.MonkeyPatch, server: str, proxy: str | None
) -> None:
    if proxy:
        monkeypatch.setenv("http_proxy", proxy)
    HttpTransport(server).close()
    assert authorities
