"""Spans of requests: which there are, where they belong, and that nobody makes them in vain."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from serving_fakes import (
    BUNDLE,
    MSGPACK,
    STREAM,
    FailingEngine,
    FakeEngine,
    GatedEngine,
    LiveServer,
    a_message,
    a_request,
    fake_settings,
    opened,
    serving,
)

from cloud_server.generation.work import begin
from cloud_server.serving.telemetry.tracing import Spans, open_spans
from cloud_server.settings import Settings
from edge_client.exchange.best import BestExchange
from edge_client.exchange.coded_exchange import Stopwatch
from edge_client.transport.base import ORIGIN
from shared_protocol.errors import ConfigError
from shared_protocol.http.origin import Origin
from shared_protocol.tasks import Task

PLACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACED = {**MSGPACK, "traceparent": PLACE, "x-request-id": "job-1"}


class PhasedEngine(FakeEngine):
    """Says what it begins, as the real one does."""

    def step(self, step):
        begin(("prompt", "generate", "mend", "settle")[min(step, 4) - 1])


@pytest.fixture
def kept():
    """An exporter to memory."""
    return InMemorySpanExporter()


@pytest.fixture
def spans(kept):
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    yield Spans(provider)
    provider.shutdown()


def by_name(kept):
    return {span.name: span for span in kept.get_finished_spans()}


@pytest.mark.anyio
@pytest.mark.parametrize("headers", [MSGPACK, STREAM])
async def test_every_stage_is_a_span_below_the_place_that_came_along(
    kept, spans, headers, tmp_path
):
    keys = tmp_path / "keys"
    keys.write_text("ann hush-hush\n")
    keys.chmod(0o600)
    settings = fake_settings(api_keys=keys)
    async with serving(settings, PhasedEngine()) as (client, service):
        service.metrics.listen(spans.export)
        asked = {**TRACED, **headers, "Authorization": "Bearer hush-hush"}
        reply = await client.post("/v1/inpaint", content=a_message(Task.INPAINT), headers=asked)
    assert reply.status_code == 200
    found = by_name(kept)
    root = found.pop("inpaint")
    assert list(found) == [
        "receive",
        "decode",
        "queue",
        "model",
        "prompt",
        "generate",
        "mend",
        "settle",
        "encode",
        "send",
    ]
    assert f"{root.context.trace_id:032x}" == PLACE[3:35]
    assert f"{root.parent.span_id:016x}" == PLACE[36:52]
    for name, span in found.items():
        above = found["model"] if name in ("prompt", "generate", "mend", "settle") else root
        assert span.parent.span_id == above.context.span_id
        assert above.start_time <= span.start_time <= span.end_time <= above.end_time
    order = [
        found[name].start_time for name in ("receive", "decode", "queue", "model", "encode", "send")
    ]
    assert order == sorted(order)
    assert found["decode"].attributes["unimic.bytes.text"] > 0
    said = dict(root.attributes)
    assert (said["unimic.key"], said["unimic.request_id"], said["unimic.status"]) == (
        "ann",
        "job-1",
        200,
    )
    assert "hush" not in str([dict(span.attributes) for span in kept.get_finished_spans()])


@pytest.mark.anyio
@pytest.mark.parametrize(
    "place", ["", "junk", PLACE[:-2] + "zz", PLACE.replace("b7ad6b7169203331", "0" * 16)]
)
async def test_without_a_place_a_trace_begins_here(kept, spans, place):
    async with serving() as (client, service):
        service.metrics.listen(spans.export)
        headers = {**MSGPACK, "traceparent": place}
        reply = await client.post("/v1/vqa", content=a_message(Task.VQA), headers=headers)
    assert reply.status_code == 200
    root = by_name(kept)["vqa"]
    assert root.parent is None
    assert root.context.trace_id


@pytest.mark.anyio
async def test_what_is_not_sampled_is_not_exported(kept, spans):
    async with serving() as (client, service):
        service.metrics.listen(spans.export)
        headers = {**MSGPACK, "traceparent": PLACE[:-1] + "0"}
        await client.post("/v1/t2i", content=a_message(), headers=headers)
    assert kept.get_finished_spans() == ()


@pytest.mark.anyio
async def test_a_failure_has_its_spans_as_far_as_it_came(kept, spans):
    async with serving(runner=FailingEngine(ValueError("x"))) as (client, service):
        service.metrics.listen(spans.export)
        await client.post("/v1/t2i", content=a_message(), headers=TRACED)
        await client.post("/v1/t2i", content=b"junk", headers=TRACED)
    first, second = (span for span in kept.get_finished_spans() if span.name == "t2i")
    all_ = kept.get_finished_spans()
    assert {"queue", "model"} <= {s.name for s in all_ if s.parent.span_id == first.context.span_id}
    assert not first.status.is_ok
    assert first.attributes["unimic.status"] == 500
    assert second.status.is_unset
    below = [
        s.name for s in kept.get_finished_spans() if s.parent.span_id == second.context.span_id
    ]
    assert below == ["receive", "decode"]


def test_turns_of_a_conversation_have_the_place_of_its_opening(kept, spans):
    with LiveServer(fake_settings(port=0)) as server:
        server.service.metrics.listen(spans.export)
        token = ORIGIN.set(Origin("job-2", PLACE))
        exchange = BestExchange(BUNDLE, server.url)
        try:
            for task in (Task.T2I, Task.VQA):
                exchange.hold(a_request(task), Stopwatch())
        finally:
            exchange.close()
            ORIGIN.reset(token)
    found = by_name(kept)
    for name in ("t2i", "vqa"):
        assert f"{found[name].context.trace_id:032x}" == PLACE[3:35]
        assert found[name].attributes["unimic.request_id"] == "job-2"
    assert [found[name].attributes["unimic.turn"] for name in ("t2i", "vqa")] == ["0", "1"]
    assert {"decode", "queue", "model", "encode", "send"} <= set(found)


@pytest.mark.anyio
async def test_who_joins_work_under_way_has_no_span_from_before_it_came(kept, spans):
    engine = GatedEngine()
    async with serving(runner=engine) as (client, service):
        service.metrics.listen(spans.export)
        headers = {**MSGPACK, "Idempotency-Key": "one"}
        with opened(engine.gate):
            ask = partial(client.post, "/v1/t2i", content=a_message(), headers=headers)
            first = asyncio.create_task(ask())
            await asyncio.to_thread(engine.started.wait, 10)
            second = asyncio.create_task(ask())
            await asyncio.sleep(0.1)
        await asyncio.gather(first, second)
    found = kept.get_finished_spans()
    starts = {span.context.span_id: span.start_time for span in found if span.name == "t2i"}
    assert len(starts) == 2
    for span in found:
        assert span.name == "t2i" or span.start_time >= starts[span.parent.span_id]
    assert [span.name for span in found].count("queue") == 1


@pytest.mark.anyio
async def test_one_batch_tells_each_of_its_requests(kept, spans):
    engine, settings = PhasedEngine(), fake_settings(batch_window=0.5)
    async with serving(settings, engine, max_batch=2) as (client, service):
        service.metrics.listen(spans.export)
        asked = [client.post("/v1/t2i", content=a_message(seed=n), headers=MSGPACK) for n in (1, 2)]
        await asyncio.gather(*asked)
    names = [span.name for span in kept.get_finished_spans()]
    assert engine.batches == [2]
    assert (names.count("generate"), names.count("t2i")) == (2, 2)


def test_nobody_is_asked_for_spans_unless_a_collector_is_named():
    settings = Settings()
    assert open_spans(settings, {}) is None
    named = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    assert open_spans(settings, {**named, "OTEL_SDK_DISABLED": "true"}) is None
    assert open_spans(settings, {**named, "OTEL_TRACES_EXPORTER": "none"}) is None
    opened = open_spans(settings, named)
    assert opened is not None
    opened.close()


def test_a_server_without_a_collector_imports_no_opentelemetry():
    code = (
        "import sys; from cloud_server.http.host import build_host\n"
        "from cloud_server.settings import Settings\n"
        "build_host(Settings(), lambda: None, [], print)\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry.sdk')]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_missing_package_stops_whoever_asks_by_flag_and_only_warns_whoever_has_the_variables(
    monkeypatch, caplog
):
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(ConfigError, match="not installed") as caught:
        open_spans(Settings(otlp_endpoint="http://127.0.0.1:9"), {})
    assert "unimic[tracing]" in caught.value.remedy
    assert open_spans(Settings(), {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}) is None
    assert "no traces" in caplog.text


def test_an_endpoint_that_is_no_address_is_refused():
    with pytest.raises(ConfigError, match="collector"):
        Settings(otlp_endpoint="localhost:4318")


class Collector(BaseHTTPRequestHandler):
    """Takes OTLP over HTTP."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.taken.append((self.path, self.headers.get("Content-Encoding"), body))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def test_a_collector_gets_the_spans_of_a_real_server_when_it_stops():
    collector = HTTPServer(("127.0.0.1", 0), Collector)
    collector.taken = []
    thread = threading.Thread(target=collector.serve_forever)
    thread.start()
    try:
        endpoint = f"http://127.0.0.1:{collector.server_port}"
        with LiveServer(fake_settings(port=0, otlp_endpoint=endpoint)) as server:
            httpx.post(f"{server.url}/v1/t2i", content=a_message(), headers=TRACED)
    finally:
        collector.shutdown()
        thread.join()
        collector.server_close()
    assert {path for path, _, _ in collector.taken} == {"/v1/traces"}
    sent = ExportTraceServiceRequest.FromString(collector.taken[0][2])
    about = {a.key: a.value.string_value for a in sent.resource_spans[0].resource.attributes}
    assert about["service.name"] == "unimic-cloud"
    names = [span.name for each in sent.resource_spans[0].scope_spans for span in each.spans]
    assert {"t2i", "receive", "decode", "queue", "model", "encode", "send"} <= set(names)


def test_a_server_that_cannot_trace_as_it_is_told_says_so_in_a_line():
    code = (
        "import sys; sys.modules['opentelemetry.sdk.trace'] = None\n"
        "from cloud_server import cli\n"
        "sys.exit(cli.main(['--stub', '--port', '0', '--otlp-endpoint', 'http://127.0.0.1:9']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("cloud-server: opentelemetry")
    assert "unimic[tracing]" in done.stderr
    assert len(done.stderr.splitlines()) == 1
