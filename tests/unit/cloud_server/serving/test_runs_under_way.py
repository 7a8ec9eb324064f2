"""Which runs rest, go on or end for others, and what the queue says of the time that it takes."""

import asyncio
import threading
import time
from dataclasses import replace

import pytest
from serving_fakes import fake_model, fake_settings
from test_batcher import LONG_S, Gated, double, leave, running, until

from cloud_server.serving import batcher as batching
from cloud_server.serving.batcher import MOST_RUNS, Batcher, batching_queue
from cloud_server.serving.running import AbandonedError, Run
from shared_protocol.errors import InternalError, OverloadedError

pytestmark = pytest.mark.anyio
STEP_S = 0.03
"""Of a first step, from which the queue learns what a job takes."""
STEPS = 10


class Puppet:
    """A job that makes a step when it is told to."""

    def __init__(self, name):
        self.name = name
        self.may = threading.Semaphore(0)
        self.begun, self.ended = threading.Event(), threading.Event()
        self.made = 0

    def step(self, count=1):
        self.may.release(count)

    def run(self, on_step):
        self.begun.set()
        try:
            while self.made < STEPS:
                assert self.may.acquire(timeout=LONG_S)
                time.sleep(0.0 if self.made else STEP_S)
                self.made += 1
                on_step(self.made, STEPS)
        finally:
            self.ended.set()


def pull(jobs, on_step):
    for job in jobs:
        job.run(on_step)
    return [job.name for job in jobs]


async def begin(queue, name, price, keep_s=0.0):
    """A job of an owner of its own, and its ticket, once it runs and has made a step."""
    job = Puppet(name)
    ticket = queue.submit(job, name, f"owner of {name}", price)
    ticket.keep_s = keep_s
    await until(job.begun.is_set)
    job.step()
    await until(lambda: ticket.progress[0] == 1)
    return job, ticket


async def fill(queue, count):
    """So many runs under way, each cheaper than the one before, all but the last resting."""
    made = []
    for number in range(count):
        if number == 0:
            made.append(await begin(queue, "0", 4.0**10))
            continue
        job = Puppet(str(number))
        ticket = queue.submit(job, number, f"owner of {number}", 4.0 ** (10 - number))
        ticket.keep_s = LONG_S
        made[-1][0].step()
        await until(job.begun.is_set)
        job.step()
        await until(lambda ticket=ticket: ticket.progress[0] == 1)
        made.append((job, ticket))
    return made


def free(*jobs):
    for job in jobs:
        job.step(STEPS)


async def test_a_resting_run_that_nobody_wants_ends_before_others_begin():
    async with running(pull) as queue:
        long, ticket = await begin(queue, "long", 100.0)
        waiting = asyncio.create_task(ticket.result())
        short, wanted = Puppet("short"), Puppet("wanted")
        first = queue.submit(short, "short", "other", 1.0)
        long.step()
        await until(short.begun.is_set)
        await leave(waiting)
        second = queue.submit(wanted, "wanted", "third", 1.0)
        free(short, wanted)
        await until(wanted.begun.is_set)
        assert long.ended.is_set()
        assert isinstance(ticket.done.exception(), OverloadedError)
        assert (await first.result(), await second.result()) == ("short", "wanted")
        assert long.made == 2


async def test_so_many_runs_are_under_way_and_one_more_waits():
    async with running(pull) as queue:
        made = await fill(queue, MOST_RUNS)
        last, _ = made[-1]
        extra = Puppet("extra")
        ticket = queue.submit(extra, "extra", "another", 0.001)
        last.step()
        await until(lambda: last.made == 2)
        free(last)
        assert await made[-1][1].result() == str(MOST_RUNS - 1)
        free(extra)
        assert await ticket.result() == "extra"
        assert not any(job.ended.is_set() for job, _ in made[:-1])
        free(*(job for job, _ in made))
        names = [await each.result() for _, each in made]
        assert names == [str(number) for number in range(MOST_RUNS)]


async def test_of_runs_that_are_kept_as_a_favour_the_first_ends_for_what_is_wanted():
    async with running(pull) as queue:
        made = await fill(queue, MOST_RUNS)
        for number in (2, 4):
            async with made[number][1].waiting():
                pass
        extra = Puppet("extra")
        ticket = queue.submit(extra, "extra", "another", 0.001)
        made[-1][0].step()
        free(extra)
        assert await ticket.result() == "extra"
        assert [job.ended.is_set() for job, _ in made] == [n == 2 for n in range(MOST_RUNS)]
        assert made[2][1].failed
        free(*(job for job, _ in made))
        for _, each in made[3:] + made[:2]:
            await each.result()


async def test_a_run_that_would_rest_although_it_has_ended_goes_on():
    async with running(double) as queue:
        run = Run([queue.submit(1, "k")], lambda: False)
        run.should_rest = True
        run._go.clear()
        queue._rested(run)
        assert run._go.is_set()
        assert not run.should_rest
        assert queue._resting == []


# ------------------------------------------------------------------------------------------------
# What it says of time: a queue that has not begun, so that nothing moves
# ------------------------------------------------------------------------------------------------


def still(rate=None, **options):
    queue = Batcher(double, **{"max_batch": 1, "max_queue": 100, **options})
    if rate is not None:
        queue._learn(rate)
    return queue


def put(queue, owner, *prices):
    return [queue.submit(1, "k", owner, price) for price in prices]


async def test_before_anything_was_measured_a_job_takes_a_second():
    queue = still()
    assert queue.retry_after() == 1.0
    put(queue, "one", 5.0, 50.0, 500.0)
    assert queue.retry_after("one") == 3.0
    assert queue.retry_after("other") == 1.0


@pytest.mark.parametrize(
    ("prices", "seconds"),
    [((), 1), ((1.0,), 1), ((2.0,), 1), ((2.2,), 2), ((20.0,), 10), ((118.0, 2.0), 60),
     ((118.0, 2.5), 60), ((1e6,), 60)],
)  # fmt: skip
async def test_to_return_is_told_in_whole_seconds_of_the_work_that_waits(prices, seconds):
    queue = still(0.5)
    put(queue, "one", *prices)
    assert queue.retry_after("one") == seconds


async def test_others_take_as_much_of_the_time_as_one_does_oneself():
    queue = still(1.0)
    put(queue, "one", 10.0)
    put(queue, "small", 3.0)
    put(queue, "large", 7.0, 70.0)
    assert queue.retry_after("one") == 10 + 3 + 10
    assert queue.retry_after("small") == 3 + 3 + 3
    assert queue.retry_after("large") == min(60, 77 + 10 + 3)
    assert queue.retry_after("nobody") == 1


async def test_what_is_done_already_and_what_nobody_waits_for_takes_no_time():
    queue = still(1.0)
    half, lost, whole, _ = put(queue, "one", 10.0, 20.0, 30.0, 2.0)
    half.progress, whole.progress = (5, 10), (12, 10)
    lost.keep_s = LONG_S
    async with lost.waiting():
        pass
    assert queue.retry_after("one") == 5 + 2
    assert queue.depth == 4


async def test_what_was_measured_last_counts_for_three_tenths():
    queue = still(1.0)
    put(queue, "one", 10.0)
    queue._learn(2.0)
    assert queue.retry_after("one") == 13
    queue._learn(0.3)
    assert queue.retry_after("one") == 10


async def test_a_promise_is_kept_up_to_its_last_second():
    queue = still(0.5, promise_s=5.0)
    put(queue, "one", 6.0)
    put(queue, "one", 4.0)
    with pytest.raises(OverloadedError, match=r"not be done in 5 s.* take about 5 s") as caught:
        put(queue, "one", 0.5)
    assert caught.value.retry_after == 5
    assert caught.value.remedy
    put(queue, "other", 1000.0)  # with nothing before it, it is begun at once
    unknown = still(promise_s=1.0)
    put(unknown, "one", *[1.0] * 20)
    endless = still(0.5)
    put(endless, "one", *[1e9] * 20)


async def test_a_queue_has_room_up_to_its_limit_for_each_owner():
    queue = still(1.0, max_queue=3)
    first, second, third = put(queue, "one", 10.0, 10.0, 10.0)
    put(queue, "other", 1.0)
    with pytest.raises(OverloadedError, match="3 requests are waiting") as caught:
        queue.check_room("one")
    assert caught.value.retry_after == 31
    queue.check_room("other")
    for each in (third, second):
        each.keep_s = LONG_S
        async with each.waiting():
            pass
    queue.check_room("one")
    put(queue, "one", 1.0)
    assert [each.done.cancelled() for each in (first, second, third)] == [False, True, False]
    assert queue.depth == 4


async def test_what_waits_and_what_comes_is_refused_when_it_stops():
    queue = still(1.0)
    (waits,) = put(queue, "one", 10.0)
    queue.refuse()
    assert queue.depth == 0
    for asked in (waits.done.result, lambda: put(queue, "one", 1.0)):
        with pytest.raises(OverloadedError, match="stopping") as caught:
            asked()
        assert 1 <= caught.value.retry_after <= 10


async def test_equal_jobs_join_a_batch_in_order_of_their_ranks_up_to_its_size():
    queue = still(1.0, max_batch=3)
    head, dear, other, lost, cheap, last = (
        queue.submit(n, key, f"owner {n}", price)
        for n, (key, price) in enumerate(
            [("k", 9.0), ("k", 8.0), ("x", 1.0), ("k", 1.0), ("k", 2.0), ("k", 30.0)]
        )
    )
    lost.keep_s = LONG_S
    async with lost.waiting():
        pass
    assert queue._mates(head) == 5
    assert queue._take(head) == [head, cheap, dear]
    assert queue._take(last) == [last, lost]
    assert queue._waiting == [other]
    assert head.began >= head.submitted
    assert head.queue_s == head.began - head.submitted


async def test_kept_work_is_forgotten_after_its_time_and_not_before(monkeypatch):
    queue = still()
    early, late, wanted = put(queue, "one", 1.0, 1.0, 1.0)
    for each, kept in ((early, 5.0), (late, 10.0)):
        each.keep_s = kept
        async with each.waiting():
            pass
        each._left_at = 100.0
    monkeypatch.setattr(batching.time, "monotonic", lambda: 105.0)
    queue._forget_unwanted()
    assert queue.depth == 3
    monkeypatch.setattr(batching.time, "monotonic", lambda: 105.5)
    queue._forget_unwanted()
    assert [each.done.cancelled() for each in (early, late, wanted)] == [True, False, False]


async def test_work_that_was_stopped_may_be_asked_for_again_and_a_fault_stays_one():
    queue = still()
    stopped, failed, done = put(queue, "one", 1.0, 1.0, 1.0)
    done.done.set_result(7)
    batching._settle_error([stopped, done], AbandonedError())
    batching._settle_error([failed], InternalError("broken"))
    with pytest.raises(OverloadedError, match="stopped before its end") as caught:
        await stopped.result()
    assert caught.value.retry_after == 1.0
    with pytest.raises(InternalError, match="broken"):
        await failed.result()
    assert await done.result() == 7


async def test_without_a_window_nothing_waits_and_a_full_batch_never_does():
    sizes = []
    for window, most in ((0.0, 8), (LONG_S, 2)):
        async with running(double, max_batch=most, window_s=window, on_batch=sizes.append) as queue:
            tickets = [queue.submit(n, "k") for n in range(2)]
            for ticket in tickets:
                await asyncio.wait_for(ticket.result(), LONG_S / 3)
    assert sizes == [2, 2]


async def test_a_queue_that_closes_at_once_stops_what_runs_with_a_time_to_return():
    run = Gated()
    async with running(run) as queue:
        ticket = queue.submit(1, "k")
        await until(run.started.is_set)
        await queue.close(0.0)
        with pytest.raises(OverloadedError) as caught:
            await ticket.result()
    assert caught.value.retry_after == 1.0


async def test_a_hosts_queue_is_as_its_settings_and_its_model_say():
    settings = fake_settings(max_queue=7, batch_window=0.25, request_timeout=12.0)
    told = []
    queue = batching_queue(settings, replace(fake_model(), max_batch=5), told.append)
    said = queue._max_batch, queue._max_queue, queue._window_s, queue._promise_s
    assert said == (5, 7, 0.25, 12.0)
    queue._on_batch(3)
    assert told == [3]
