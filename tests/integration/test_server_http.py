"""A real server on a loopback port, as clients and as troublemakers meet it."""

import asyncio
import socket
import threading

import httpx
import msgpack
import pytest
from serving_fakes import (
    BUNDLE,
    LONG_S,
    MSGPACK,
    STREAM,
    FailingEngine,
    FakeEngine,
    GatedEngine,
    LiveServer,
    SlowEngine,
    a_message,
    a_request,
    fake_settings,
    opened,
)

from edge_client.transport.http import HttpTransport
from shared_protocol.errors import InvalidInputError, UnauthorizedError
from shared_protocol.message.codec import decode_response
from shared_protocol.tasks import Task

CLIENTS = 200


def settings(**changes):
    return fake_settings(port=0, **changes)


def post(server, body, headers=MSGPACK, task="t2i"):
    return httpx.post(f"{server.url}/v1/{task}", content=body, headers=headers, timeout=LONG_S)


def raw(server, *pieces):
    """Send bytes over a socket of its own and return all that comes back."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=LONG_S) as connection:
        for piece in pieces:
            connection.sendall(piece)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    return answer


def head(*lines):
    fixed = ("POST /v1/t2i HTTP/1.1", "Host: test", "Content-Type: application/msgpack")
    return "\r\n".join([*fixed, *lines, "", ""]).encode()


def test_all_tasks_are_served_over_one_connection():
    with LiveServer(settings()) as server, httpx.Client(base_url=server.url) as client:
        for task in (Task.T2I, Task.INPAINT, Task.OUTPAINT, Task.VQA):
            path = f"/v1/{task.name.lower()}"
            reply = client.post(path, content=a_message(task), headers=MSGPACK)
            assert reply.status_code == 200
            assert decode_response(reply.content, a_request(task), BUNDLE).value.task is task


@pytest.mark.slow
def test_two_hundred_clients_at_once_are_all_answered():
    engine = FakeEngine()
    limits = settings(max_queue=CLIENTS, max_inflight=CLIENTS)

    async def one(client, seed):
        headers = STREAM if seed % 2 else MSGPACK
        reply = await client.post("/v1/t2i", content=a_message(seed=seed), headers=headers)
        return reply.status_code, reply.content

    async def everybody(server):
        every = httpx.Limits(max_connections=CLIENTS)
        async with httpx.AsyncClient(base_url=server.url, timeout=LONG_S, limits=every) as client:
            return await asyncio.gather(*(one(client, seed) for seed in range(CLIENTS)))

    with LiveServer(limits, engine, max_batch=8) as server:
        replies = asyncio.run(everybody(server))
        assert server.service.inflight == 0
    for seed, (status, content) in enumerate(replies):
        assert status == 200
        unpacker = msgpack.Unpacker()
        unpacker.feed(content)
        *_, last = unpacker
        frame = msgpack.packb(last)
        codes = decode_response(frame, a_request(seed=seed), BUNDLE).value.image.codes
        assert codes[0, 0] == seed % 64
    assert sum(engine.batches) == CLIENTS


@pytest.mark.slow
def test_more_clients_than_places_are_refused_politely_and_nobody_hangs():
    async def one(client, url, seed):
        return await client.post(f"{url}/v1/t2i", content=a_message(seed=seed), headers=MSGPACK)

    async def everybody(url):
        limits = httpx.Limits(max_connections=100)
        async with httpx.AsyncClient(timeout=LONG_S, limits=limits) as client:
            return await asyncio.gather(*(one(client, url, seed) for seed in range(CLIENTS)))

    with LiveServer(settings(max_queue=4, max_inflight=8)) as server:
        replies = asyncio.run(everybody(server.url))
        assert post(server, a_message()).status_code == 200
    assert {reply.status_code for reply in replies} <= {200, 503}
    for reply in replies:
        if reply.status_code == 503:
            assert reply.json()["code"] == "overloaded"
            assert int(reply.headers["retry-after"]) >= 1


def test_progress_arrives_while_the_model_works():
    engine = GatedEngine()
    with opened(engine.gate), LiveServer(settings(), engine) as server:
        url = f"{server.url}/v1/t2i"
        body = a_message()
        wish = {**STREAM, "Prefer": "timing"}
        with httpx.stream("POST", url, content=body, headers=wish, timeout=LONG_S) as reply:
            chunks = reply.iter_raw()
            first = next(chunks)
            assert not engine.gate.is_set()
            engine.gate.set()
            rest = b"".join(chunks)
    unpacker = msgpack.Unpacker()
    unpacker.feed(first + rest)
    *steps, timing, frame = unpacker
    assert steps[0] == [0, 5]
    assert steps == sorted(steps)
    assert "timing" in timing
    assert isinstance(frame, msgpack.ExtType)


def test_the_edges_own_transport_understands_the_stream():
    seen = []
    with LiveServer(settings(api_key="key")) as server:
        with HttpTransport(server.url, "key") as edge:
            reply = edge.exchange(
                Task.VQA, a_message(Task.VQA), "k1", lambda *step: seen.append(step)
            )
            assert edge.info()["bundle"] == "fake"
        with HttpTransport(server.url, "wrong") as stranger, pytest.raises(UnauthorizedError):
            stranger.exchange(Task.VQA, a_message(Task.VQA), "k2")
    answer = decode_response(reply.message, a_request(Task.VQA), BUNDLE).value
    assert answer.text.ids.tolist() == [9, 8, 7]
    assert seen
    assert reply.timing.model is not None


def test_the_edges_own_transport_meets_late_failures_as_typed_errors():
    engine = FailingEngine(InvalidInputError("not this one"))
    with (
        LiveServer(settings(), engine) as server,
        HttpTransport(server.url) as edge,
        pytest.raises(InvalidInputError, match="not this one"),
    ):
        edge.exchange(Task.T2I, a_message(), "k")


def test_an_endless_chunked_body_is_refused_and_not_read_to_its_end():
    chunk = b"400\r\n" + b"x" * 1024 + b"\r\n"
    with LiveServer(settings(max_body=4096)) as server:
        answer = raw(server, head("Transfer-Encoding: chunked"), *[chunk] * 10)
        assert post(server, a_message()).status_code == 200
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"code":"body_too_large"' in answer
    assert b"connection: close" in answer.lower()


def test_a_body_declared_too_large_is_refused_without_waiting_for_it():
    with LiveServer(settings(max_body=4096)) as server:
        answer = raw(server, head("Content-Length: 1000000", "Expect: 100-continue"))
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"100 Continue" not in answer


def test_a_large_refused_body_still_gets_its_answer():
    with LiveServer(settings(max_body=4096)) as server:
        reply = post(server, b"x" * 300_000)
    assert (reply.status_code, reply.json()["code"]) == (413, "body_too_large")


def test_a_body_that_trickles_times_out_and_keeps_nobody_waiting():
    with LiveServer(settings(body_timeout=0.3)) as server:
        trickling = threading.Thread(
            target=lambda: answers.append(raw(server, head("Content-Length: 50"), b"abc"))
        )
        answers = []
        trickling.start()
        assert post(server, a_message()).status_code == 200
        trickling.join(LONG_S)
    assert answers[0].startswith(b"HTTP/1.1 504 ")
    assert b'"code":"deadline"' in answers[0]


def test_a_client_that_says_nothing_is_hung_up_on():
    with LiveServer(settings(head_timeout=0.2)) as server:
        assert raw(server, b"POST /v1/t2i HTTP/1.1\r\nHost:") == b""
        assert post(server, a_message()).status_code == 200


def test_bytes_that_are_no_http_do_not_disturb_others():
    with LiveServer(settings()) as server:
        assert raw(server, b"\x00\x01\x02 nonsense\r\n\r\n").startswith(b"HTTP/1.1 400 ")
        assert post(server, a_message()).status_code == 200


def test_a_client_that_hangs_up_gives_its_place_in_the_queue_away():
    engine = GatedEngine()
    with opened(engine.gate), LiveServer(settings(), engine) as server:
        first = threading.Thread(target=lambda: post(server, a_message(seed=1)))
        first.start()
        assert engine.started.wait(LONG_S)
        body = a_message(seed=2)
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(head(f"Content-Length: {len(body)}") + body)
            wait_until(lambda: server.service.queue_depth == 1)
        wait_until(lambda: server.service.queue_depth == 0)
        engine.gate.set()
        first.join(LONG_S)
    assert [request.seed for request in engine.requests] == [1]


def test_work_that_nobody_waits_for_stops_at_its_next_step():
    engine = GatedEngine()
    with opened(engine.gate), LiveServer(settings(), engine) as server:
        body = a_message(steps=50)
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(head(f"Content-Length: {len(body)}") + body)
            assert engine.started.wait(LONG_S)
        wait_until(lambda: server.service.inflight == 0)
        engine.gate.set()
        assert post(server, a_message(steps=3)).status_code == 200
    assert engine.steps_done == 1 + 3


def asking(server, **options):
    """A thread that asks for work, and what it was answered (None: the connection broke)."""
    answers = []

    def ask():
        try:
            answers.append(post(server, a_message(**options)))
        except httpx.TransportError:
            answers.append(None)

    thread = threading.Thread(target=ask)
    thread.start()
    return thread, answers


def test_work_that_outlasts_the_grace_time_of_a_stop_is_told_so():
    engine = SlowEngine(0.02)
    with LiveServer(settings(shutdown_timeout=0.1), engine) as server:
        thread, answers = asking(server, steps=100)
        wait_until(lambda: engine.requests)
        server.signal()
        thread.join(LONG_S)
    assert (answers[0].status_code, answers[0].json()["code"]) == (503, "overloaded")


def test_a_second_signal_ends_at_once():
    engine = GatedEngine()
    with opened(engine.gate), LiveServer(settings(), engine) as server:
        thread, answers = asking(server, steps=100)
        assert engine.started.wait(LONG_S)
        server.signal()
        server.signal()
        thread.join(LONG_S)
        engine.gate.set()
        wait_until(lambda: engine.steps_done)
    assert answers[0] is None or answers[0].status_code >= 500
    assert engine.steps_done == 1


def wait_until(condition):
    event = threading.Event()
    for _ in range(int(LONG_S / 0.005)):
        if condition():
            return
        event.wait(0.005)
    raise AssertionError("it did not happen")
