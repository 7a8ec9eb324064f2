"""The paths as a client sees them, with an engine that answers at once."""

import asyncio
from dataclasses import replace
from types import SimpleNamespace

import msgpack
import numpy as np
import pytest
from serving_fakes import (
    BUNDLE,
    LONG_S,
    MSGPACK,
    STREAM,
    FailingEngine,
    FakeEngine,
    GatedEngine,
    a_message,
    a_request,
    fake_settings,
    message,
    opened,
    serving,
)

from shared_protocol.errors import CODES, PromptError
from shared_protocol.message.codec import decode_response, encode_request
from shared_protocol.tasks import Scenario, Task

pytestmark = pytest.mark.anyio

TASKS = (Task.T2I, Task.INPAINT, Task.OUTPAINT, Task.VQA)
TASK_IDS = [task.name.lower() for task in TASKS]


def values(body):
    unpacker = msgpack.Unpacker()
    unpacker.feed(body)
    return list(unpacker)


@pytest.mark.parametrize("task", TASKS, ids=TASK_IDS)
async def test_every_task_is_answered_with_one_message(task):
    request = a_request(task, seed=3)
    async with serving() as (client, _):
        reply = await client.post(
            f"/v1/{task.name.lower()}", content=message(request), headers=MSGPACK
        )
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "application/msgpack"
    response = decode_response(reply.content, request, BUNDLE).value
    if task is Task.VQA:
        assert response.text.ids.tolist() == [9, 8, 7]
        return
    known, targets = request.known(BUNDLE.grid)
    assert np.array_equal(response.image.codes[~targets], known[~targets])
    made = (np.arange(targets.size).reshape(targets.shape) + 3) % 64
    assert np.array_equal(response.image.codes[targets], made[targets])


@pytest.mark.parametrize("task", TASKS, ids=TASK_IDS)
async def test_a_streamed_reply_is_progress_then_timing_then_the_same_message(task):
    body = a_message(task)
    async with serving() as (client, _):
        path = f"/v1/{task.name.lower()}"
        single = await client.post(path, content=body, headers=MSGPACK)
        wish = {"Prefer": "timing, steps=100"}
        streamed = await client.post(path, content=body, headers={**STREAM, **wish})
        plain = await client.post(path, content=body, headers=STREAM)
    *few, _ = values(plain.content)
    assert 1 <= len(few) <= 4
    assert streamed.headers["content-type"] == "application/msgpack-seq"
    assert streamed.content.endswith(single.content)
    *steps, timing, _ = values(streamed.content)
    assert steps[0][0] == 0
    assert all(0 <= step <= total for step, total in steps)
    assert set(timing["timing"]) == {"decode", "queue", "model", "encode"}


async def test_a_single_reply_tells_its_timing_and_its_name_in_the_log():
    async with serving() as (client, _):
        wish = {"Prefer": "timing"}
        reply = await client.post("/v1/t2i", content=a_message(), headers={**MSGPACK, **wish})
        plain = await client.post("/v1/t2i", content=a_message(), headers=MSGPACK)
    assert "server-timing" not in plain.headers
    stages = [part.split(";dur=")[0].strip() for part in reply.headers["server-timing"].split(",")]
    assert sorted(stages) == ["decode", "encode", "model", "queue"]
    assert len(reply.headers["x-request-id"]) == 8


async def test_a_message_sent_to_the_path_of_another_task_is_refused():
    async with serving() as (client, _):
        reply = await client.post("/v1/vqa", content=a_message(Task.T2I), headers=MSGPACK)
    assert (reply.status_code, reply.json()["code"]) == (422, "invalid_input")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"\x00", 400),
        (b"hello world, this is no message", 400),
        (a_message()[:-1], 400),
    ],
)
async def test_bytes_that_are_no_message_are_refused(body, status):
    async with serving() as (client, _):
        reply = await client.post("/v1/t2i", content=body, headers=MSGPACK)
    assert reply.status_code == status
    assert reply.json()["code"] in CODES


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "", "application/octet-stream"])
async def test_another_content_type_is_refused(kind):
    async with serving() as (client, _):
        reply = await client.post("/v1/t2i", content=a_message(), headers={"Content-Type": kind})
    assert (reply.status_code, reply.json()["code"]) == (415, "media_type")


async def test_a_compressed_body_is_refused():
    headers = {**MSGPACK, "Content-Encoding": "gzip"}
    async with serving() as (client, _):
        reply = await client.post("/v1/t2i", content=a_message(), headers=headers)
    assert (reply.status_code, reply.json()["code"]) == (415, "media_type")


async def test_a_body_declared_too_large_is_refused_before_it_is_read():
    sent = []

    async def body():
        sent.append(1)
        yield b"x" * 100

    headers = {**MSGPACK, "Content-Length": "1000000"}
    async with serving(fake_settings(max_body=1000)) as (client, _):
        reply = await client.post("/v1/t2i", content=body(), headers=headers)
        metrics = (await client.get("/metrics")).text
    assert (reply.status_code, reply.json()["code"]) == (413, "body_too_large")
    assert 'unimic_body_bytes_total{direction="up"} 0.0' in metrics


async def test_a_body_that_grows_too_large_is_not_read_to_its_end():
    sent = []

    async def body():
        for _ in range(100_000):
            sent.append(1)
            yield b"x" * 1000

    async with serving(fake_settings(max_body=5000)) as (client, _):
        reply = await client.post("/v1/t2i", content=body(), headers=MSGPACK)
    assert (reply.status_code, reply.json()["code"]) == (413, "body_too_large")
    assert len(sent) < 2000


async def test_a_body_that_never_ends_times_out():
    async def body():
        yield b"x"
        await asyncio.sleep(LONG_S)

    async with serving(fake_settings(body_timeout=0.05)) as (client, _):
        reply = await client.post("/v1/t2i", content=body(), headers=MSGPACK)
    assert (reply.status_code, reply.json()["code"]) == (504, "deadline")


async def test_a_request_over_its_time_limit_is_told_so():
    engine = GatedEngine()
    with opened(engine.gate):
        async with serving(fake_settings(request_timeout=0.1), engine) as (client, _):
            reply = await client.post("/v1/t2i", content=a_message(), headers=MSGPACK)
            engine.gate.set()
    assert (reply.status_code, reply.json()["code"]) == (504, "deadline")


async def test_a_time_limit_after_the_start_ends_the_stream_with_an_error():
    engine = GatedEngine()
    with opened(engine.gate):
        async with serving(fake_settings(request_timeout=0.6), engine) as (client, _):
            reply = await client.post("/v1/t2i", content=a_message(), headers=STREAM)
            engine.gate.set()
    assert reply.status_code == 200
    assert values(reply.content)[-1]["code"] == "deadline"


async def test_a_request_that_waited_too_long_never_runs():
    engine = GatedEngine()
    with opened(engine.gate):
        async with serving(fake_settings(request_timeout=0.6), engine) as (client, _):
            running = asyncio.create_task(
                client.post("/v1/t2i", content=a_message(seed=1), headers=MSGPACK)
            )
            await asyncio.to_thread(engine.started.wait, LONG_S)
            late = await client.post("/v1/t2i", content=a_message(seed=2), headers=MSGPACK)
            assert late.status_code == 504
            await running
            engine.gate.set()
    assert [request.seed for request in engine.requests] == [1]


async def test_a_failure_after_the_start_is_the_last_value_of_the_stream():
    async with serving(runner=FailingEngine(PromptError("no"))) as (client, _):
        reply = await client.post("/v1/t2i", content=a_message(), headers=STREAM)
        single = await client.post("/v1/t2i", content=a_message(), headers=MSGPACK)
    assert reply.status_code == 200
    assert values(reply.content)[-1] == {"code": "bad_prompt", "message": "no"}
    assert (single.status_code, single.json()["code"]) == (422, "bad_prompt")


async def test_a_fault_is_an_internal_error_with_a_number_that_is_in_the_log(caplog):
    async with serving(runner=FailingEngine(ValueError("secret detail"))) as (client, _):
        reply = await client.post("/v1/t2i", content=a_message(), headers=MSGPACK)
    assert (reply.status_code, reply.json()["code"]) == (500, "internal")
    assert "secret detail" not in reply.text
    assert "Traceback" not in reply.text
    assert f"incident {reply.headers['x-request-id']}" in caplog.text
    assert reply.headers["x-request-id"] in reply.json()["message"]


async def test_a_full_queue_answers_503_with_a_time_to_retry():
    engine = GatedEngine()
    settings = fake_settings(max_queue=1)
    with opened(engine.gate):
        async with serving(settings, engine) as (client, service):
            tasks = [asyncio.create_task(_post(client, 0))]
            await asyncio.to_thread(engine.started.wait, LONG_S)
            tasks.append(asyncio.create_task(_post(client, 1)))
            while service.queue_depth < 1:
                await asyncio.sleep(0.001)
            refused = await _post(client, 2)
            engine.gate.set()
            accepted = await asyncio.gather(*tasks)
    assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
    assert int(refused.headers["retry-after"]) >= 1
    assert [reply.status_code for reply in accepted] == [200, 200]


async def _post(client, seed):
    return await client.post("/v1/t2i", content=a_message(seed=seed), headers=MSGPACK)


async def test_too_many_at_once_are_refused():
    engine = GatedEngine()
    settings = fake_settings(max_queue=1, max_inflight=1)
    with opened(engine.gate):
        async with serving(settings, engine) as (client, _):
            first = asyncio.create_task(_post(client, 0))
            await asyncio.to_thread(engine.started.wait, LONG_S)
            refused = await _post(client, 1)
            engine.gate.set()
            assert (await first).status_code == 200
    assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")


async def test_two_hundred_clients_at_once_all_get_their_own_answer():
    engine = FakeEngine()
    settings = fake_settings(max_queue=300, max_inflight=300)
    async with serving(settings, engine, max_batch=8) as (client, _):
        replies = await asyncio.gather(*(_post(client, seed) for seed in range(200)))
    for seed, reply in enumerate(replies):
        assert reply.status_code == 200
        made = decode_response(reply.content, a_request(seed=seed), BUNDLE).value
        assert made.image.codes[0, 0] == seed % 64
    assert sum(engine.batches) == 200
    assert max(engine.batches) <= 8


async def test_an_idempotency_key_that_no_header_should_hold_is_refused():
    async with serving() as (client, _):
        for key in ("", "a b", "x" * 201):
            headers = {**MSGPACK, "Idempotency-Key": key}
            reply = await client.post("/v1/t2i", content=a_message(), headers=headers)
            assert (reply.status_code, reply.json()["code"]) == (422, "invalid_input")


async def test_a_wish_that_only_the_reply_could_not_meet_is_refused_before_the_work():
    engine = FakeEngine()
    richer = replace(BUNDLE, entropy=SimpleNamespace(available=lambda: (Scenario.ADAPTED,)))
    body = encode_request(a_request(reply=Scenario.ADAPTED), richer).data
    async with serving(runner=engine) as (client, _):
        reply = await client.post("/v1/t2i", content=body, headers=MSGPACK)
    assert (reply.status_code, reply.json()["code"]) == (400, "bad_message")
    assert engine.requests == []


async def test_info_tells_bundle_limits_and_tasks():
    async with serving() as (client, _):
        info = (await client.get("/v1/info")).json()
    assert info["bundle"] == "fake"
    assert info["fingerprint"] == BUNDLE.fingerprint.hex()
    assert info["grid"] == [4, 4]
    assert info["tasks"] == TASK_IDS
    assert info["limits"]["text_tokens"] == 8
    assert info["entropy"]["ok"] is True


async def test_metrics_count_requests_bytes_batches_and_time():
    async with serving() as (client, _):
        body = a_message(Task.VQA)
        reply = await client.post("/v1/vqa", content=body, headers=MSGPACK)
        await client.post("/v1/vqa", content=b"junk", headers=MSGPACK)
        metrics = (await client.get("/metrics")).text
    assert 'unimic_requests_total{status="200",task="vqa"} 1.0' in metrics
    assert 'unimic_requests_total{status="400",task="vqa"} 1.0' in metrics
    assert f'unimic_body_bytes_total{{direction="up"}} {len(body) + 4}.0' in metrics
    assert reply.status_code == 200
    assert 'unimic_part_bytes_total{direction="up",part="image"}' in metrics
    assert 'unimic_stage_seconds_count{stage="model",task="vqa"} 1.0' in metrics
    assert "unimic_batch_size_count 1.0" in metrics
    assert "unimic_queue_depth 0.0" in metrics


async def test_the_log_has_one_line_per_request_and_nothing_of_its_content(caplog):
    caplog.set_level("INFO", logger="cloud_server")
    async with serving() as (client, _):
        body = a_message(Task.VQA)
        reply = await client.post("/v1/vqa", content=body, headers=MSGPACK)
    (line,) = [record.getMessage() for record in caplog.records]
    assert f"id={reply.headers['x-request-id']} task=vqa status=200" in line
    assert f"bytes={len(body)}/{len(reply.content)} tokens=19/3" in line
