"""Work whose client is gone: how long it is kept, what goes before it, and how it is ended."""

import asyncio
import time

import pytest
from serving_fakes import (
    LONG_S,
    MSGPACK,
    GatedEngine,
    a_message,
    fake_settings,
    opened,
    serving,
)
from test_batcher import Gated, leave, running, until

from shared_protocol.errors import OverloadedError, WorkCancelledError

pytestmark = pytest.mark.anyio


async def test_kept_work_waits_behind_what_somebody_waits_for():
    run = Gated()
    async with running(run) as batcher:
        first = batcher.submit(0, "k")
        await until(run.started.is_set)
        lost = batcher.submit(1, "k")
        lost.keep_s = LONG_S
        await leave(asyncio.create_task(lost.result()))
        async with lost.waiting():
            pass
        assert lost.lost
        wanted = batcher.submit(2, "k")
        async with wanted.waiting():
            run.gate.set()
            assert await wanted.result() == 4
        assert await lost.result() == 2
        assert run.batches == [[0], [2], [1]]
        assert await first.result() == 0


async def test_work_that_nobody_may_ask_for_again_is_dropped_at_once():
    run = Gated()
    async with running(run) as batcher:
        batcher.submit(0, "k")
        await until(run.started.is_set)
        lost = batcher.submit(1, "k")
        async with lost.waiting():
            pass
        assert lost.done.cancelled()
        assert batcher.depth == 0


async def test_kept_work_is_dropped_when_its_time_is_over():
    run = Gated()
    async with running(run) as batcher:
        batcher.submit(0, "k")
        await until(run.started.is_set)
        lost = batcher.submit(1, "k")
        lost.keep_s = 0.001
        async with lost.waiting():
            pass
        time.sleep(0.01)
        run.gate.set()
        await until(lost.done.done)
        assert lost.done.cancelled()
        assert [1] not in run.batches


async def test_kept_work_makes_room_in_a_full_queue():
    run = Gated()
    async with running(run, max_queue=1) as batcher:
        batcher.submit(0, "k")
        await until(run.started.is_set)
        lost = batcher.submit(1, "k")
        with pytest.raises(OverloadedError):
            batcher.submit(2, "k")
        lost.keep_s = LONG_S
        async with lost.waiting():
            pass
        batcher.submit(2, "k")
        assert lost.done.cancelled()


async def test_cancelled_work_ends_at_its_next_step_and_tells_whoever_waits():
    run = Gated()
    async with running(run) as batcher:
        ticket = batcher.submit(0, "k")
        waiting = asyncio.create_task(ticket.result())
        await until(run.started.is_set)
        ticket.cancel()
        with pytest.raises(WorkCancelledError):
            await waiting
        run.gate.set()
        assert await batcher.submit(5, "k").result() == 10


KEYED = {**MSGPACK, "Idempotency-Key": "once"}


async def test_a_job_is_found_while_it_runs_and_when_it_is_done():
    engine = GatedEngine()
    with opened(engine.gate):
        async with serving(runner=engine) as (client, _):
            assert (await client.get("/v1/jobs/once")).status_code == 404
            asking = asyncio.create_task(
                client.post("/v1/t2i", content=a_message(seed=3), headers=KEYED)
            )
            await until(engine.started.is_set)
            running_now = await client.get("/v1/jobs/once")
            assert running_now.status_code == 202
            assert set(running_now.json()) == {"done", "total"}
            engine.gate.set()
            reply = await asking
            found = await client.get("/v1/jobs/once")
            assert (found.status_code, found.content) == (200, reply.content)
            assert (await client.get("/v1/jobs/twice")).status_code == 404
            assert len(engine.batches) == 1


async def test_a_deleted_job_ends_and_the_next_request_is_served():
    engine = GatedEngine()
    with opened(engine.gate):
        async with serving(runner=engine) as (client, _):
            asking = asyncio.create_task(
                client.post("/v1/t2i", content=a_message(seed=3), headers=KEYED)
            )
            await until(engine.started.is_set)
            assert (await client.delete("/v1/jobs/once")).status_code == 204
            reply = await asking
            assert (reply.status_code, reply.json()["code"]) == (409, "cancelled")
            assert (await client.delete("/v1/jobs/once")).status_code == 404
            engine.gate.set()
            other = await client.post("/v1/t2i", content=a_message(seed=4), headers=MSGPACK)
            assert other.status_code == 200
            assert engine.steps_done < 10


async def test_a_deleted_result_is_forgotten():
    async with serving() as (client, _):
        await client.post("/v1/t2i", content=a_message(seed=3), headers=KEYED)
        assert (await client.delete("/v1/jobs/once")).status_code == 204
        assert (await client.get("/v1/jobs/once")).status_code == 404


async def test_another_keys_job_is_not_found(tmp_path):
    (tmp_path / "keys").write_text("ann key-a\nbob key-b\n")
    settings = fake_settings(api_keys=tmp_path / "keys")
    ann, bob = ({"Authorization": f"Bearer key-{name}"} for name in "ab")
    async with serving(settings) as (client, _):
        await client.post("/v1/t2i", content=a_message(seed=3), headers={**KEYED, **ann})
        assert (await client.get("/v1/jobs/once", headers=bob)).status_code == 404
        assert (await client.delete("/v1/jobs/once", headers=bob)).status_code == 404
        assert (await client.get("/v1/jobs/once", headers=ann)).status_code == 200
        assert (await client.get("/v1/jobs/once")).status_code == 401
