"""The queue in front of the model, with functions instead of a model."""

import asyncio
import threading
import time
from contextlib import asynccontextmanager

import pytest

from cloud_server.serving.batcher import Batcher
from shared_protocol.errors import InternalError, OverloadedError, PromptError

pytestmark = pytest.mark.anyio

LONG_S = 30.0


def double(jobs, on_step):
    return [2 * job for job in jobs]


class Gated:
    """Stands still until `gate` opens; remembers its batches."""

    def __init__(self):
        self.gate, self.started = threading.Event(), threading.Event()
        self.batches = []

    def __call__(self, jobs, on_step):
        self.batches.append(list(jobs))
        self.started.set()
        assert self.gate.wait(LONG_S)
        on_step(1, 2)
        on_step(2, 2)
        return [2 * job for job in jobs]


@asynccontextmanager
async def running(run, max_batch=1, max_queue=100, **options):
    batcher = Batcher(run, max_batch=max_batch, max_queue=max_queue, **options)
    batcher.start()
    try:
        yield batcher
    finally:
        if isinstance(run, Gated):
            run.gate.set()
        await batcher.close(LONG_S)


async def until(condition):
    async with asyncio.timeout(LONG_S):
        while not condition():
            await asyncio.sleep(0.001)


async def leave(waiting):
    """Stop waiting, and see that it is so."""
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


async def test_a_job_gets_its_own_result():
    async with running(double) as batcher:
        tickets = [batcher.submit(number, "k") for number in range(20)]
        assert [await ticket.result() for ticket in tickets] == [2 * n for n in range(20)]


async def test_jobs_of_one_key_that_wait_share_a_batch_up_to_its_size():
    run = Gated()
    async with running(run, max_batch=3) as batcher:
        tickets = [batcher.submit(0, "k")]
        await until(run.started.is_set)
        tickets += [batcher.submit(number, "k") for number in range(1, 6)]
        run.gate.set()
        assert [await ticket.result() for ticket in tickets] == [0, 2, 4, 6, 8, 10]
    assert run.batches == [[0], [1, 2, 3], [4, 5]]


async def test_jobs_of_different_keys_never_share_a_batch():
    run = Gated()
    async with running(run, max_batch=8) as batcher:
        first = batcher.submit(0, "a")
        await until(run.started.is_set)
        rest = [batcher.submit(n, "ab"[n % 2]) for n in range(1, 5)]
        run.gate.set()
        for ticket in [first, *rest]:
            await ticket.result()
    assert run.batches == [[0], [1, 3], [2, 4]]


async def test_the_head_of_a_batch_waits_a_little_for_others():
    sizes = []
    async with running(double, max_batch=4, window_s=0.05, on_batch=sizes.append) as batcher:
        first = batcher.submit(1, "k")
        await asyncio.sleep(0)
        second = batcher.submit(2, "k")
        assert (await first.result(), await second.result()) == (2, 4)
    assert sizes == [2]


async def test_a_full_queue_refuses_and_says_when_to_retry():
    run = Gated()
    async with running(run, max_queue=2) as batcher:
        tickets = [batcher.submit(0, "k")]
        await until(run.started.is_set)
        tickets += [batcher.submit(n, "k") for n in (1, 2)]
        with pytest.raises(OverloadedError) as caught:
            batcher.submit(3, "k")
        assert caught.value.retry_after >= 1
        run.gate.set()
        assert [await ticket.result() for ticket in tickets] == [0, 2, 4]


async def test_a_waiting_job_is_dropped_when_its_only_waiter_leaves():
    run = Gated()
    async with running(run) as batcher:
        first = batcher.submit(0, "k")
        await until(run.started.is_set)
        leaver = asyncio.create_task(batcher.submit(1, "k").result())
        await asyncio.sleep(0)
        await leave(leaver)
        assert batcher.depth == 0
        run.gate.set()
        await first.result()
    assert run.batches == [[0]]


async def test_a_waiting_job_stays_while_another_waiter_is_left():
    run = Gated()
    async with running(run) as batcher:
        first = batcher.submit(0, "k")
        await until(run.started.is_set)
        ticket = batcher.submit(1, "k")
        stayer = asyncio.create_task(ticket.result())
        leaver = asyncio.create_task(ticket.result())
        await asyncio.sleep(0)
        await leave(leaver)
        run.gate.set()
        assert await stayer == 2
        assert await first.result() == 0


async def test_a_running_batch_that_nobody_waits_for_stops_at_its_next_step():
    run = Gated()
    async with running(run) as batcher:
        ticket = batcher.submit(1, "k")
        leaver = asyncio.create_task(ticket.result())
        await until(run.started.is_set)
        await leave(leaver)
        run.gate.set()
        await until(ticket.done.done)
        assert isinstance(ticket.done.exception(), OverloadedError)
        assert await batcher.submit(4, "k").result() == 8


async def test_a_running_job_worth_keeping_goes_on_although_nobody_waits():
    run = Gated()
    async with running(run) as batcher:
        ticket = batcher.submit(1, "k")
        ticket.keep_s = LONG_S
        leaver = asyncio.create_task(ticket.result())
        await until(run.started.is_set)
        await leave(leaver)
        run.gate.set()
        assert await ticket.result() == 2


async def test_one_bad_job_does_not_fail_its_batch():
    def run(jobs, on_step):
        if 3 in jobs:
            raise PromptError("three is bad")
        return jobs

    async with running(run, max_batch=8, window_s=0.02) as batcher:
        tickets = [batcher.submit(number, "k") for number in range(5)]
        found = await asyncio.gather(*(t.result() for t in tickets), return_exceptions=True)
    assert found[:3] + found[4:] == [0, 1, 2, 4]
    assert isinstance(found[3], PromptError)


async def test_results_that_are_too_few_are_a_fault_and_not_mixed_up():
    async with running(lambda jobs, on_step: []) as batcher:
        with pytest.raises(InternalError):
            await batcher.submit(1, "k").result()


async def test_progress_reaches_every_follower_and_ends_with_the_job():
    run = Gated()
    async with running(run) as batcher:
        ticket = batcher.submit(1, "k")

        async def follow():
            async with ticket.waiting():
                return [progress async for progress in ticket.steps()]

        followers = [asyncio.create_task(follow()) for _ in range(3)]
        await until(run.started.is_set)
        run.gate.set()
        seen = await asyncio.gather(*followers)
    assert all(steps in ([(1, 2), (2, 2)], [(2, 2)], [(1, 2)], []) for steps in seen)


async def test_closing_finishes_what_runs_and_refuses_what_waits():
    run = Gated()
    async with running(run) as batcher:
        first = batcher.submit(1, "k")
        runs = asyncio.create_task(first.result())
        await until(run.started.is_set)
        waits = asyncio.create_task(batcher.submit(2, "k").result())
        await asyncio.sleep(0)
        closing = asyncio.create_task(batcher.close(LONG_S))
        with pytest.raises(OverloadedError):
            await waits
        with pytest.raises(OverloadedError):
            batcher.submit(3, "k")
        run.gate.set()
        assert await runs == 2
        await closing
    assert run.batches == [[1]]


async def test_closing_stops_what_runs_after_the_grace_time():
    run = Gated()
    async with running(run) as batcher:
        ticket = batcher.submit(1, "k")
        waiting = asyncio.create_task(ticket.result())
        await until(run.started.is_set)
        await batcher.close(0.0)
        with pytest.raises(OverloadedError):
            await waiting


async def test_queue_and_model_time_are_told():
    def run(jobs, on_step):
        time.sleep(0.02)
        return jobs

    async with running(run) as batcher:
        first, second = batcher.submit(1, "k"), batcher.submit(2, "k")
        await first.result()
        await second.result()
    assert second.queue_s >= first.model_s > 0
