"""The name of a request: taken if it may stand in a log, else made, and the same everywhere."""

import logging

import httpx
import msgpack
import pytest
from serving_fakes import (
    MSGPACK,
    STREAM,
    FailingEngine,
    LiveServer,
    a_message,
    fake_settings,
    serving,
)

from cloud_server.http.app import FaultBoundary
from shared_protocol.errors import InternalError, error_from_wire, error_to_wire

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("given", ["a", "0e9f-17", "req_12.3~x/y:z+w=@", "x" * 128])
async def test_a_usable_name_is_kept_in_header_and_log(given, caplog):
    caplog.set_level(logging.INFO)
    async with serving() as (client, _):
        headers = {**MSGPACK, "x-request-id": given}
        reply = await client.post("/v1/t2i", content=a_message(), headers=headers)
    assert reply.headers["x-request-id"] == given
    assert any(f"id={given} " in line for line in caplog.messages)


@pytest.mark.parametrize(
    "given", ["", "two words", "a\tb", 'a"b', "x" * 129, "schlüssel", "a;b", "a,b", "a%0ab", "{}"]
)
async def test_another_name_is_replaced(given, caplog):
    caplog.set_level(logging.INFO)
    async with serving() as (client, _):
        headers = {**MSGPACK, "x-request-id": given.encode()}
        reply = await client.post("/v1/t2i", content=a_message(), headers=headers)
    assert reply.status_code == 200
    made = reply.headers["x-request-id"]
    assert len(made) == 8
    assert any(f"id={made} " in line for line in caplog.messages)


async def test_two_names_are_none():
    async with serving() as (client, _):
        headers = [*MSGPACK.items(), ("x-request-id", "one"), ("x-request-id", "two")]
        reply = await client.post("/v1/t2i", content=a_message(), headers=headers)
    assert reply.headers.get_list("x-request-id")[0] not in ("one", "two")
    assert len(reply.headers.get_list("x-request-id")) == 1


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/healthz", 200),
        ("GET", "/v1/info", 200),
        ("GET", "/metrics", 200),
        ("GET", "/nowhere", 404),
        ("DELETE", "/v1/t2i", 405),
        ("GET", "/v1/jobs/unknown", 404),
        ("POST", "/v1/t2i", 400),
    ],
)
async def test_every_path_answers_under_the_name_and_errors_hold_it(method, path, status):
    async with serving() as (client, _):
        headers = {**MSGPACK, "x-request-id": "n-1"}
        body = b"junk" if method == "POST" else None
        reply = await client.request(method, path, content=body, headers=headers)
        unnamed = await client.request(method, path, content=body, headers=MSGPACK)
    assert reply.status_code == status
    assert reply.headers.get_list("x-request-id") == ["n-1"]
    assert len(unnamed.headers["x-request-id"]) == 8
    if status >= 400:
        assert reply.json()["request_id"] == "n-1"
        assert unnamed.json()["request_id"] == unnamed.headers["x-request-id"]


async def test_a_stream_that_fails_late_holds_the_name():
    async with serving(runner=FailingEngine(ValueError("x"))) as (client, _):
        headers = {**STREAM, "x-request-id": "late.1"}
        reply = await client.post("/v1/t2i", content=a_message(), headers=headers)
    unpacker = msgpack.Unpacker()
    unpacker.feed(reply.content)
    last = list(unpacker)[-1]
    assert (last["code"], last["request_id"]) == ("internal", "late.1")


def test_what_is_refused_before_any_path_is_named_too():
    with LiveServer(fake_settings(port=0)) as server:
        both = {"Content-Length": "1", "Transfer-Encoding": "chunked", "X-Request-Id": "b.1"}
        reply = httpx.post(f"{server.url}/v1/t2i", headers=both, content=iter([b"x"]))
    assert reply.headers["x-request-id"] == reply.json()["request_id"] == "b.1"


def test_an_edge_reads_the_name_and_makes_it_safe_to_show():
    error = InternalError("broken")
    assert "request_id" not in error_to_wire(error)
    error.request_id = "n-1"
    assert error_from_wire(error_to_wire(error)).request_id == "n-1"
    hostile = error_from_wire({"code": "internal", "message": "x", "request_id": "\x1b[31m" * 99})
    assert "\x1b" not in hostile.request_id
    assert len(hostile.request_id) <= 128


@pytest.mark.parametrize("begun", [False, True])
async def test_a_fault_is_answered_unless_a_reply_has_begun(begun):
    sent = []

    async def send(message):
        sent.append(message)

    async def app(scope, receive, send):
        if begun:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("a fault of the program")

    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    await FaultBoundary(app)(scope, None, send)
    starts = [message["status"] for message in sent if message["type"] == "http.response.start"]
    assert starts == ([200] if begun else [500])
    assert len(sent) == (1 if begun else 2)
