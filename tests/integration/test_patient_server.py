"""Every wait for a client has an end, on a real server: heads, idle links, bodies, readers."""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import suppress

import httpx
import pytest
from serving_fakes import (
    LONG_S,
    MSGPACK,
    GatedEngine,
    LiveServer,
    a_message,
    fake_settings,
    opened,
)

from cloud_server.http.task_endpoint import read_body
from cloud_server.serving.loaded_model import SharedFile
from shared_protocol.errors import DeadlineError

GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
SOON_S = 5.0
"""Much longer than the limits here, much shorter than any other."""


def settings(**changes):
    short = {"port": 0, "head_timeout": 0.3, "idle_timeout": 0.6}
    return fake_settings(**{**short, **changes})


def open_link(server):
    return socket.create_connection(("127.0.0.1", server.port), timeout=SOON_S)


def until_closed(link):
    """Everything that comes until the server hangs up, and after how long."""
    started, answer = time.monotonic(), b""
    try:
        while chunk := link.recv(65536):
            answer += chunk
    except ConnectionResetError:
        pass
    return answer, time.monotonic() - started


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /healthz HTTP/1.1\r\nX: ",
        GET + b"GET /healthz HTTP/1.1\r\nX: ",
        GET + GET + b"G",
        GET,
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc",
    ],
    ids=["nothing", "half", "half after one", "a byte after two", "idle", "half a body"],
)
def test_a_client_that_falls_silent_is_hung_up_on(sent):
    with LiveServer(settings()) as server, open_link(server) as link:
        link.sendall(sent)
        answer, seconds = until_closed(link)
        assert answer.count(b"HTTP/1.1 200 ") == sent.count(b"GET /healthz HTTP/1.1\r\nHost")
        assert seconds < SOON_S


@pytest.mark.parametrize("first", [b"", GET], ids=["first", "second"])
def test_a_head_that_trickles_is_not_waited_for_longer(first):
    with LiveServer(settings()) as server, open_link(server) as link:
        link.sendall(first)
        started = time.monotonic()
        with suppress(OSError):
            while time.monotonic() - started < SOON_S:
                link.sendall(b"G")
                time.sleep(0.05)
        assert time.monotonic() - started < SOON_S


def test_a_connection_that_is_used_stays():
    with LiveServer(settings()) as server, httpx.Client(base_url=server.url) as client:
        for _ in range(6):
            assert client.get("/healthz").status_code == 200
            time.sleep(0.2)


def test_work_that_takes_longer_than_a_head_may_is_not_cut_off():
    engine = GatedEngine()
    with opened(engine.gate), LiveServer(settings(), engine) as server:
        threading.Timer(1.5, engine.gate.set).start()
        reply = httpx.post(
            f"{server.url}/v1/t2i", content=a_message(), headers=MSGPACK, timeout=LONG_S
        )
        assert reply.status_code == 200


def test_a_client_that_takes_nothing_of_a_large_reply_is_hung_up_on(tmp_path):
    large = tmp_path / "weights"
    large.write_bytes(bytes(30_000_000))
    shared = {"weights": SharedFile(large, "ab" * 32)}
    wanted = f"GET /v1/bundles/{bytes(range(32)).hex()}/weights HTTP/1.1\r\nHost: x\r\n\r\n"
    changes = {"manifest": b"{}", "files": shared}
    with (
        LiveServer(settings(request_timeout=0.5), **changes) as server,
        open_link(server) as link,
    ):
        link.sendall(wanted.encode())
        time.sleep(2.0)
        assert len(until_closed(link)[0]) < 30_000_000


def test_at_the_limit_new_clients_are_served_and_silent_ones_go():
    with LiveServer(settings(head_timeout=LONG_S, max_connections=20)) as server:
        links = [open_link(server) for _ in range(60)]
        for link in links:
            link.sendall(GET + b"GET /healthz HTTP/1.1\r\nX: ")
        for _ in range(5):
            assert httpx.get(f"{server.url}/healthz", timeout=SOON_S).status_code == 200
        for link in links:
            link.close()


def test_what_is_no_http_is_told_as_every_other_error():
    with LiveServer(settings()) as server, open_link(server) as link:
        link.sendall(b"\x01\x02 nonsense\r\n\r\n")
        head, _, body = until_closed(link)[0].partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"application/json" in head
    assert json.loads(body)["code"] == "bad_message"


def test_a_body_with_two_ends_is_refused():
    lines = "Content-Type: application/msgpack\r\nContent-Length: 5\r\nTransfer-Encoding: chunked"
    with LiveServer(settings()) as server, open_link(server) as link:
        link.sendall(f"POST /v1/t2i HTTP/1.1\r\nHost: x\r\n{lines}\r\n\r\n0\r\n\r\n".encode())
        answer = until_closed(link)[0]
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"connection: close" in answer.lower()
    assert b"Content-Length and Transfer-Encoding" in answer


@pytest.mark.parametrize("path", ["/v1/t2i", "/nowhere", "/healthz"])
def test_an_error_says_once_that_it_is_not_to_be_kept(path):
    with LiveServer(settings()) as server:
        reply = httpx.post(f"{server.url}{path}", content=b"x", headers=MSGPACK)
    assert reply.status_code >= 400
    assert reply.headers.get_list("cache-control") == ["no-store"]


def test_a_client_that_has_a_file_is_not_sent_it_again(tmp_path):
    file = tmp_path / "weights"
    file.write_bytes(b"content")
    changes = {"manifest": b"{}", "files": {"weights": SharedFile(file, "ab" * 32)}}
    with LiveServer(settings(), **changes) as server:
        url = f"{server.url}/v1/bundles/{bytes(range(32)).hex()}/weights"
        tag = httpx.get(url).headers["etag"]
        for held in (tag, f'"other", W/{tag}', "*"):
            reply = httpx.get(url, headers={"If-None-Match": held})
            assert (reply.status_code, reply.content, reply.headers["etag"]) == (304, b"", tag)
        assert httpx.get(url, headers={"If-None-Match": '"other"'}).content == b"content"


def test_the_description_is_a_page_without_scripts_behind_the_key():
    with LiveServer(settings(api_key="secret")) as server:
        for path in ("/docs", "/openapi.json"):
            assert httpx.get(f"{server.url}{path}").status_code == 401
        page = httpx.get(f"{server.url}/docs", headers={"Authorization": "Bearer secret"})
    assert page.status_code == 200
    assert "/v1/t2i" in page.text
    assert "<script" not in page.text
    assert "http://" not in page.text
    assert "https://" not in page.text


def test_one_address_with_many_half_bodies_keeps_no_other_out():
    head = b"POST /v1/t2i HTTP/1.1\r\nHost: x\r\nContent-Type: application/msgpack\r\n"
    with LiveServer(settings(max_queue=4, max_batch=1)) as server:
        links = []
        for _ in range(12):
            link = socket.create_connection(
                ("127.0.0.1", server.port), LONG_S, source_address=("127.0.0.2", 0)
            )
            link.sendall(head + b"Content-Length: 50\r\n\r\nabc")
            links.append(link)
        time.sleep(0.3)
        assert server.service.inflight == 5
        reply = httpx.post(f"{server.url}/v1/t2i", content=a_message(), headers=MSGPACK)
        assert reply.status_code == 200
        for link in links:
            link.close()


@pytest.mark.anyio
async def test_a_body_is_waited_for_as_long_as_the_limit_says():
    import asyncio

    async def nothing():
        await asyncio.sleep(LONG_S)

    started = time.monotonic()
    with pytest.raises(DeadlineError, match=r"did not arrive in 0\.1 s"):
        await read_body(nothing, 1000, 0.1)
    assert time.monotonic() - started < SOON_S
