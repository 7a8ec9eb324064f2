"""Health, keys, unknown paths, faults and the documentation of the application."""

import asyncio
import threading
from functools import partial

import httpx
import pytest
from serving_fakes import (
    LONG_S,
    MSGPACK,
    FakeEngine,
    a_message,
    fake_model,
    fake_settings,
    serving,
)

from cloud_server.http.app import create_app
from cloud_server.http.task_endpoint import wants_stream
from cloud_server.serving.batcher import batching_queue
from cloud_server.serving.service import Service
from shared_protocol.errors import CODES, CheckpointError

pytestmark = pytest.mark.anyio

KEY = "correct-horse"
TASK_PATHS = ("/v1/t2i", "/v1/inpaint", "/v1/outpaint", "/v1/vqa")


def bearer(key):
    return {**MSGPACK, "Authorization": f"Bearer {key}"}


@pytest.mark.parametrize("path", ["/v1/info", "/metrics", "/docs", "/openapi.json"])
async def test_reading_paths_ask_for_the_key(path):
    async with serving(fake_settings(api_key=KEY)) as (client, _):
        without = await client.get(path)
        wrong = await client.get(path, headers=bearer("wrong"))
        right = await client.get(path, headers=bearer(KEY))
    assert [r.status_code for r in (without, wrong, right)] == [401, 401, 200]
    assert without.headers["www-authenticate"] == "Bearer"
    assert without.json()["code"] == "unauthorized"


async def test_work_asks_for_the_key_before_it_reads_the_body():
    engine = FakeEngine()
    async with serving(fake_settings(api_key=KEY), engine) as (client, _):
        wrong = await client.post("/v1/t2i", content=b"junk", headers=bearer("wröng".encode()))
        basic = {**MSGPACK, "Authorization": f"Basic {KEY}"}
        other = await client.post("/v1/t2i", content=a_message(), headers=basic)
        right = await client.post("/v1/t2i", content=a_message(), headers=bearer(KEY))
    assert [r.status_code for r in (wrong, other, right)] == [401, 401, 200]
    assert wrong.headers["www-authenticate"] == "Bearer"
    assert len(engine.requests) == 1


async def test_health_needs_no_key():
    async with serving(fake_settings(api_key=KEY)) as (client, _):
        assert (await client.get("/healthz")).json() == {"status": "ok"}
        assert (await client.get("/readyz")).json() == {"status": "ready"}


async def test_nothing_is_served_until_the_model_is_loaded():
    gate = threading.Event()

    def load():
        assert gate.wait(LONG_S)
        return fake_model()

    settings = fake_settings()
    service = Service(settings, load, partial(batching_queue, settings))
    transport = httpx.ASGITransport(create_app(settings, service))
    await service.start()
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            alive = await client.get("/healthz")
            waiting = await client.get("/readyz")
            refused = await client.post("/v1/t2i", content=a_message(), headers=MSGPACK)
            info = await client.get("/v1/info")
            gate.set()
            await service.ready()
            ready = await client.get("/readyz")
    finally:
        gate.set()
        await service.close(0.0)
    assert alive.status_code == 200
    assert (waiting.status_code, waiting.json()) == (503, {"status": "loading"})
    assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
    assert int(refused.headers["retry-after"]) >= 1
    assert info.status_code == 503
    assert ready.status_code == 200


async def test_what_keeps_the_model_from_loading_is_told_to_the_host():
    def load():
        raise CheckpointError("the weights are torn")

    settings = fake_settings()
    service = Service(settings, load, partial(batching_queue, settings))
    await service.start()
    with pytest.raises(CheckpointError, match="torn"):
        await service.ready()
    await service.close(0.0)


async def test_a_stopping_server_is_not_ready_and_refuses_work():
    async with serving() as (client, service):
        service.refuse()
        assert (await client.get("/readyz")).json() == {"status": "stopping"}
        reply = await client.post("/v1/t2i", content=a_message(), headers=MSGPACK)
    assert (reply.status_code, reply.json()["code"]) == (503, "overloaded")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nowhere", 404), ("GET", "/v1/t2i", 405), ("POST", "/healthz", 405)],
)
async def test_unknown_paths_and_methods_are_typed_errors(method, path, status):
    async with serving() as (client, _):
        reply = await client.request(method, path)
    assert reply.status_code == status
    assert reply.json()["code"] == "not_found"
    assert (status == 405) == ("allow" in reply.headers)


async def test_a_fault_outside_the_work_is_an_internal_error_with_a_number(monkeypatch, caplog):
    def explode(*args):
        raise RuntimeError("secret detail")

    async with serving() as (client, service):
        monkeypatch.setattr(service.metrics, "expose", explode)
        reply = await client.get("/metrics")
    assert (reply.status_code, reply.json()["code"]) == (500, "internal")
    assert "secret detail" not in reply.text
    assert "incident" in caplog.text


async def test_documentation_names_binary_bodies_and_every_error():
    async with serving(fake_settings(api_key=KEY)) as (client, _):
        schema = (await client.get("/openapi.json", headers=bearer(KEY))).json()
    for path in TASK_PATHS:
        operation = schema["paths"][path]["post"]
        body = operation["requestBody"]["content"]
        assert body == {"application/msgpack": {"schema": {"type": "string", "format": "binary"}}}
        assert set(operation["responses"]["200"]["content"]) == {
            "application/msgpack",
            "application/msgpack-seq",
        }
        for status in ("400", "401", "409", "413", "415", "422", "500", "503", "504"):
            content = operation["responses"][status]["content"]["application/json"]
            assert content["schema"]["$ref"].endswith("/ErrorBody")
        assert operation["security"]


async def test_without_a_key_the_documentation_asks_for_none():
    async with serving() as (client, _):
        schema = (await client.get("/openapi.json")).json()
    assert "security" not in schema["paths"]["/v1/t2i"]["post"]


def test_every_error_has_a_status_that_the_documentation_names():
    documented = {400, 401, 404, 409, 413, 415, 422, 429, 500, 502, 503, 504}
    assert {cls.http_status for cls in CODES.values()} <= documented


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("", False),
        ("*/*", False),
        ("application/msgpack", False),
        ("application/msgpack-seq", True),
        ("application/msgpack-seq, application/msgpack;q=0.9", True),
        ("application/msgpack, Application/MsgPack-Seq;q=0.5", True),
        ("application/msgpack-seq;q=0", False),
        ("application/msgpack-sequel", False),
    ],
)
def test_the_streamed_form_is_sent_only_when_asked_for(accept, wanted):
    assert wants_stream(accept) is wanted


async def test_a_client_that_hangs_up_frees_its_place_in_the_queue():
    from serving_fakes import GatedEngine, opened

    engine = GatedEngine()
    with opened(engine.gate):
        async with serving(runner=engine) as (client, service):
            gone = asyncio.Event()
            first = asyncio.create_task(
                client.post("/v1/t2i", content=a_message(seed=1), headers=MSGPACK)
            )
            await asyncio.to_thread(engine.started.wait, LONG_S)
            app = create_app(service.settings, service)
            second = asyncio.create_task(_raw_post(app, a_message(seed=2), gone))
            while service.queue_depth < 1:
                await asyncio.sleep(0.001)
            gone.set()
            await second
            assert service.queue_depth == 0
            engine.gate.set()
            assert (await first).status_code == 200
            metrics = (await client.get("/metrics")).text
    assert [request.seed for request in engine.requests] == [1]
    assert 'unimic_requests_total{status="499",task="t2i"} 1.0' in metrics


async def _raw_post(app, body, gone):
    """POST to /v1/t2i as ASGI events; hang up when `gone` is set."""
    events = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive():
        if events:
            return events.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(event):
        raise AssertionError("nothing can be sent to a client that is gone")

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/v1/t2i",
        "raw_path": b"/v1/t2i",
        "query_string": b"",
        "root_path": "",
        "headers": [(b"content-type", b"application/msgpack")],
        "client": ("test", 1),
        "server": ("test", 80),
    }
    await app(scope, receive, send)
