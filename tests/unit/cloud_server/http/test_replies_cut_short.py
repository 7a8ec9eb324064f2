"""Replies that cannot be whole, bodies that are not read, and what is said of errors; as events."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from functools import partial

import msgpack
import pytest
from fastapi.testclient import TestClient
from serving_fakes import (
    LONG_S,
    MSGPACK,
    STREAM,
    FailingEngine,
    GatedEngine,
    LiveServer,
    a_message,
    fake_model,
    fake_settings,
    opened,
    serving,
)

from cloud_server.http import routes
from cloud_server.http.app import create_app
from cloud_server.http.problems import error_response, origin_of
from cloud_server.http.task_endpoint import ClientGoneError, check_headers, linger, read_body
from cloud_server.serving.batcher import batching_queue
from cloud_server.serving.service import Service
from cloud_server.serving.telemetry import tracing
from shared_protocol.errors import (
    BodyTooLargeError,
    DeadlineError,
    InvalidInputError,
    MediaTypeError,
    OverloadedError,
    RateLimitError,
    UnauthorizedError,
)
from shared_protocol.http.origin import UNKNOWN
from shared_protocol.session.framing import MAX_FRAME
from shared_protocol.session.hello import Status, decode_welcome
from shared_protocol.session.paths import SESSION_PATH

pytestmark = pytest.mark.anyio


def scope(kind="http", headers=MSGPACK, path="/v1/t2i"):
    found = {
        "type": kind, "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1",
        "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": b"",
        "root_path": "", "client": ("test", 1), "server": ("test", 80),
        "headers": [(k.lower().encode(), v.encode()) for k, v in headers.items()],
    }  # fmt: skip
    return found | ({"method": "POST"} if kind == "http" else {"subprotocols": []})


class Ends:
    """Both ends of one request as events; `torn` says at which event sending fails."""

    def __init__(self, *events, torn=lambda event: False):
        self.sent, self._events, self._torn = [], list(events), torn
        self.received = 0

    async def receive(self):
        if not self._events:
            await asyncio.Event().wait()
        self.received += 1
        return self._events.pop(0)

    async def send(self, event):
        if self._torn(event):
            self._torn = lambda event: False
            raise RuntimeError("torn")
        self.sent.append(event)

    @property
    def body(self):
        return b"".join(event.get("body", b"") for event in self.sent)

    @property
    def headers(self):
        return {k.decode(): v.decode() for k, v in self.sent[0]["headers"]}


def body(data=b"", more=False):
    return {"type": "http.request", "body": data, "more_body": more}


GONE = {"type": "http.disconnect"}
WHOLE = body(a_message())


async def counted(client, status):
    return (
        f'unimic_requests_total{{status="{status}",task="t2i"}} 1.0'
        in (await client.get("/metrics")).text
    )


def is_end(event):
    return event.get("more_body") is False


def has_body(event):
    return bool(event.get("body"))


@pytest.mark.parametrize("torn", [has_body, is_end])
async def test_a_single_reply_that_breaks_is_cut_and_nothing_added(torn):
    async with serving() as (client, service):
        ends = Ends(WHOLE, torn=torn)
        await create_app(service.settings, service)(scope(), ends.receive, ends.send)
        assert await counted(client, 500)
    assert [event["type"] for event in ends.sent][:1] == ["http.response.start"]
    assert ends.sent[0]["status"] == 200
    assert not any(is_end(event) for event in ends.sent)
    assert len(ends.sent) == (1 if torn is has_body else 2)


async def test_a_stream_that_breaks_ends_in_an_error_but_not_after_its_end():
    def is_message(event):
        return len(event.get("body", b"")) > 8

    async with serving() as (_, service):
        app = create_app(service.settings, service)
        broken, ended = Ends(WHOLE, torn=is_message), Ends(WHOLE, torn=is_end)
        for ends in (broken, ended):
            await app(scope(headers=STREAM), ends.receive, ends.send)
    unpacker = msgpack.Unpacker()
    unpacker.feed(broken.body)
    *_, last = unpacker
    assert last["code"] == "internal"
    assert is_end(broken.sent[-1])
    assert b"internal" not in ended.body
    assert not any(is_end(event) for event in ended.sent)
    assert broken.headers["x-accel-buffering"] == "no"


async def test_a_time_limit_of_the_works_own_is_a_fault_and_no_deadline():
    async with serving(runner=FailingEngine(TimeoutError("a socket of its own"))) as (client, _):
        reply = await client.post("/v1/t2i", content=a_message(), headers=MSGPACK)
    assert (reply.status_code, reply.json()["code"]) == (500, "internal")


async def test_what_comes_after_the_body_is_no_hanging_up():
    engine = GatedEngine()
    with opened(engine.gate):
        async with serving(runner=engine) as (client, service):
            ends = Ends(WHOLE, body(), body(), GONE)
            await create_app(service.settings, service)(scope(), ends.receive, ends.send)
            assert (ends.received, ends.sent) == (4, [])
            assert await counted(client, 499)


async def test_a_refusal_before_the_body_closes_the_connection_and_one_after_it_does_not():
    async with serving() as (_, service):
        app = create_app(service.settings, service)
        early = Ends(*[body(b"x" * 10, True)] * 3, body(b"x"))
        await app(scope(headers={"Content-Type": "text/plain"}), early.receive, early.send)
        late = Ends(body(b"junk"))
        await app(scope(), late.receive, late.send)
    assert (early.sent[0]["status"], late.sent[0]["status"]) == (415, 400)
    assert early.headers["connection"] == "close"
    assert early.received == 4, "read on, so that the reply is not lost"
    assert "connection" not in late.headers


@pytest.mark.parametrize(
    ("events", "most", "read"),
    [
        ([body(b"x" * 10, True)] * 5, 25, 3),
        ([body(b"x" * 10, True)] * 5, 20, 2),
        ([body(b"x" * 10, True), body(b"x"), body(b"x")], 100, 2),
        ([body(b"x", True), GONE, body(b"x")], 100, 2),
        ([body(b"x", True)], 100, 1),
        ([body(b"x", True)], 0, 0),
    ],
)
async def test_what_a_refused_client_still_sends_is_read_within_bounds(events, most, read):
    ends = Ends(*events)
    await asyncio.wait_for(linger(ends.receive, most, 0.02), LONG_S)
    assert ends.received == read


async def test_a_body_may_be_as_long_as_the_limit_and_no_byte_longer():
    pieces = (body(b"x" * 60, True), body(b"y" * 40, True), body())
    assert await read_body(Ends(*pieces).receive, 100, LONG_S) == b"x" * 60 + b"y" * 40
    ends = Ends(*pieces)
    with pytest.raises(BodyTooLargeError, match="too long") as caught:
        await read_body(ends.receive, 99, LONG_S)
    assert "at most 99" in caught.value.remedy
    assert ends.received == 2
    with pytest.raises(ClientGoneError):
        await read_body(Ends(body(b"x", True), GONE).receive, 99, LONG_S)
    with pytest.raises(DeadlineError, match=r"did not arrive in 0\.01 s"):
        await read_body(Ends(body(b"x", True)).receive, 99, 0.01)
    assert await read_body(Ends({"type": "http.request"}).receive, 0, LONG_S) == b""


def fields(**given):
    return {"content-type": "application/msgpack"} | {
        name.replace("_", "-"): value for name, value in given.items()
    }


@pytest.mark.parametrize(
    "headers",
    [
        fields(), fields(content_length="100"), fields(content_length="junk"),
        fields(content_encoding=" Identity"), fields(content_type="Application/MsgPack ; v=1"),
    ],
)  # fmt: skip
def test_heads_that_may_pass(headers):
    check_headers(headers, 100)


@pytest.mark.parametrize(
    ("headers", "kind", "complaint"),
    [
        (fields(content_length="101"), BodyTooLargeError, "the body has 101 bytes"),
        (fields(content_encoding="gzip"), MediaTypeError, "content encoding 'gzip'"),
        (fields(content_type=""), MediaTypeError, "content type 'missing'"),
        ({}, MediaTypeError, "content type 'missing'"),
        (fields(content_type="text/plain; x"), MediaTypeError, "content type 'text/plain'"),
    ],
)
def test_heads_that_are_refused_are_told_why(headers, kind, complaint):
    with pytest.raises(kind, match=complaint) as caught:
        check_headers(headers, 100)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (OverloadedError("full", "retry", 1.2), 503, {"retry-after": "2"}),
        (OverloadedError("full", "retry", 7.0), 503, {"retry-after": "7"}),
        (OverloadedError("full"), 503, {"retry-after": "1"}),
        (RateLimitError("often", "wait", 30.0), 429, {"retry-after": "30"}),
        (UnauthorizedError("no key"), 401, {"www-authenticate": "Bearer"}),
        (DeadlineError("late"), 504, {}),
        (InvalidInputError("odd"), 422, {}),
    ],
)
def test_each_error_has_its_status_and_its_headers(error, status, said):
    reply = error_response(error, "name-1")
    assert reply.status_code == status
    kept = ("retry-after", "www-authenticate")
    assert {name: reply.headers[name] for name in kept if name in reply.headers} == said
    assert reply.headers["cache-control"] == "no-store"
    assert b'"request_id":"name-1"' in reply.body
    assert error_response(error, "name-1", 418).status_code == 418


def test_a_field_that_comes_twice_says_nothing():
    one, two = (b"x-request-id", b"one"), (b"x-request-id", b"two")
    place = b"00-" + b"1" * 32 + b"-" + b"2" * 16 + b"-01"
    both = origin_of({"headers": [one, (b"traceparent", place), (b"host", b"a"), (b"host", b"b")]})
    assert (both.request_id, both.traceparent) == ("one", place.decode())
    assert origin_of({"headers": [one, two]}) == UNKNOWN
    assert origin_of({"headers": [(b"host", b"a")]}) == UNKNOWN


async def test_a_path_that_cannot_be_is_told_with_its_place():
    async with serving() as (client, _):
        reply = await client.get(f"/v1/jobs/{'x' * 201}")
    assert (reply.status_code, reply.json()["code"]) == (422, "invalid_input")
    assert reply.json()["message"].startswith("path key: ")
    assert reply.json()["request_id"] == reply.headers["x-request-id"]


async def test_without_an_installed_package_the_version_is_unknown(monkeypatch):
    def missing(name):
        raise routes.PackageNotFoundError(name)

    async with serving() as (client, _):
        known = (await client.get("/v1/info")).json()["version"]
        monkeypatch.setattr(routes, "version", missing)
        assert (await client.get("/v1/info")).json()["version"] == "unknown"
    assert known[0].isdigit()
    assert tracing._version() == known
    monkeypatch.setattr(tracing, "version", missing)
    assert tracing._version() == "unknown"


# ------------------------------------------------------------------------------------------------
# Conversations over WebSocket
# ------------------------------------------------------------------------------------------------


def application():
    settings = fake_settings()
    service = Service(settings, fake_model, partial(batching_queue, settings))
    return create_app(settings, service)


@pytest.mark.parametrize(
    ("frame", "code"), [("words", "bad_message"), (bytes(MAX_FRAME + 1), "over_limit")]
)
def test_what_is_no_frame_ends_a_conversation(caplog, frame, code):
    caplog.set_level("INFO")
    with TestClient(application()) as client, client.websocket_connect(SESSION_PATH) as link:
        client.portal.call(asyncio.sleep, 0)
        link.send_text(frame) if isinstance(frame, str) else link.send_bytes(frame)
        assert link.receive() == {"type": "websocket.close", "code": 1000, "reason": ""}
    assert f"conversation ended: {code}" in caplog.messages


def test_the_longest_frame_is_read():
    with TestClient(application()) as client, client.websocket_connect(SESSION_PATH) as link:
        link.send_bytes(bytes(MAX_FRAME))
        assert decode_welcome(link.receive_bytes(), 0).status is Status.VERSION


@pytest.mark.parametrize("error", [OSError, RuntimeError])
async def test_a_websocket_that_breaks_is_no_fault(caplog, error):
    async def send(event):
        if event["type"] != "websocket.accept":
            raise error("gone")

    ends = Ends({"type": "websocket.connect"}, {"type": "websocket.receive", "bytes": b"\x07"})
    headers = {"x-request-id": "name-1"}
    await application()(scope("websocket", headers, SESSION_PATH), ends.receive, send)
    assert ends.received == 2
    assert "conversation failed" not in caplog.text


async def test_the_opening_of_a_websocket_is_answered_under_its_name():
    ends = Ends({"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1006})
    headers = {"x-request-id": "name-1"}
    await application()(scope("websocket", headers, SESSION_PATH), ends.receive, ends.send)
    assert (ends.sent[0]["type"], ends.headers) == ("websocket.accept", {"x-request-id": "name-1"})


# ------------------------------------------------------------------------------------------------
# On a socket
# ------------------------------------------------------------------------------------------------


def test_bytes_that_are_no_body_after_the_reply_has_begun_add_nothing_to_it():
    head = (
        b"POST /v1/t2i HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
    )
    with (
        LiveServer(fake_settings(port=0)) as server,
        socket.create_connection(("127.0.0.1", server.port), LONG_S) as link,
    ):
        link.sendall(head)
        answer = b""
        while b"media_type" not in answer:
            answer += link.recv(65536)
        link.sendall(b"no length of a chunk\r\n")
        while chunk := link.recv(65536):
            answer += chunk
    assert answer.count(b"HTTP/1.1 ") == 1
    assert answer.startswith(b"HTTP/1.1 415 ")


def test_a_connection_that_is_one_too_many_is_hung_up_on_while_the_others_work():
    engine = GatedEngine()
    message = a_message()
    head = f"POST /v1/t2i HTTP/1.1\r\nHost: x\r\nContent-Type: {MSGPACK['Content-Type']}\r\n"
    with (
        opened(engine.gate),
        LiveServer(fake_settings(port=0, max_connections=1), engine) as server,
        socket.create_connection(("127.0.0.1", server.port), LONG_S) as first,
    ):
        first.sendall(f"{head}Content-Length: {len(message)}\r\n\r\n".encode() + message)
        assert engine.started.wait(LONG_S)
        second = socket.create_connection(("127.0.0.1", server.port), LONG_S)
        with second, suppress(ConnectionResetError):
            assert second.recv(100) == b""
        engine.gate.set()
        assert first.recv(100).startswith(b"HTTP/1.1 200 ")
