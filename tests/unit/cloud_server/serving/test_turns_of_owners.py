"""Nobody's work stops others': turns at the model and the codec, the gate, prices and promises."""

import asyncio
import threading
import time
from dataclasses import replace

import pytest
from serving_fakes import BUNDLE, MSGPACK, a_message, a_request, fake_settings, serving
from test_batcher import LONG_S, leave, running, until

from cloud_server.serving.admission.codec_lanes import LIGHT_PICTURES, CodecLanes
from cloud_server.serving.admission.fairness import FairClock, FairSlots
from cloud_server.serving.admission.gate import Gate, Tarpit
from cloud_server.serving.admission.price import Effort, check_price, most_work, price_of
from shared_protocol.errors import InvalidInputError, OverloadedError
from shared_protocol.messages import Claims, Options, Request
from shared_protocol.tasks import Extension, Task
from shared_protocol.tokens import MAX_GRID, ImageTokens

pytestmark = pytest.mark.anyio
STEP_S = 0.005


class Stepped:
    """Jobs are (name, steps); notes whose steps were made in which order."""

    def __init__(self):
        self.order = []

    def __call__(self, jobs, on_step):
        name, steps = jobs[0]
        for step in range(1, steps + 1):
            time.sleep(STEP_S)
            self.order.append(name)
            on_step(step, steps)
        return [name]


async def test_a_short_job_does_not_wait_for_a_long_one_of_another_owner():
    run = Stepped()
    async with running(run) as batcher:
        long = batcher.submit(("long", 100), "a", "one", 100)
        waiting = asyncio.create_task(long.result())
        await until(lambda: len(run.order) > 20)
        await batcher.submit(("short", 3), "b", "other", 3).result()
        assert not long.done.done()
        assert run.order.index("short") < 30
        await waiting
    assert run.order.count("long") == 100


async def test_one_owners_jobs_are_done_one_after_the_other():
    run = Stepped()
    async with running(run) as batcher:
        tickets = [batcher.submit((n, 20), n, "one") for n in range(3)]
        for ticket in tickets:
            await ticket.result()
    assert run.order == sorted(run.order)


async def test_a_backlog_takes_turns_with_another_owners_jobs():
    run = Stepped()
    async with running(run) as batcher:
        many = [batcher.submit((f"many {n}", 40), "a", "one") for n in range(6)]
        await until(lambda: len(run.order) > 5)
        few = [batcher.submit((f"few {n}", 40), "a", "other") for n in range(2)]
        for ticket in few:
            await ticket.result()
        assert sum(ticket.done.done() for ticket in many) <= 3
        for ticket in many:
            await ticket.result()


async def test_kept_work_rests_while_anything_else_is_wanted():
    run = Stepped()
    async with running(run) as batcher:
        lost = batcher.submit(("lost", 60), "a", "one")
        lost.keep_s = LONG_S
        leaver = asyncio.create_task(lost.result())
        await until(lambda: len(run.order) > 3)
        await leave(leaver)
        await batcher.submit(("wanted", 40), "b", "one").result()
        assert run.order.count("lost") < 20
        assert await lost.result() == "lost"


async def test_resting_work_ends_when_the_server_stops():
    run = Stepped()
    async with running(run) as batcher:
        waiting = []
        for name, steps in (("long", 2000), ("shorter", 1000), ("shortest", 500)):
            ticket = batcher.submit((name, steps), name, f"owner of {name}", steps)
            waiting.append(asyncio.create_task(ticket.result()))
            await until(lambda name=name: run.order.count(name) > 10)
        await batcher.close(0.0)
        found = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(error, OverloadedError) for error in found)


async def test_a_job_that_would_be_late_is_refused_with_the_time_that_is_measured():
    run = Stepped()
    async with running(run, promise_s=0.5) as batcher:
        await batcher.submit(("first", 20), "a", "one", 20).result()
        first = batcher.submit(("second", 60), "a", "one", 60)
        with pytest.raises(OverloadedError, match=r"would not be done in 0\.5 s") as caught:
            batcher.submit(("third", 100), "a", "one", 100)
        assert caught.value.retry_after == 1
        assert await batcher.submit(("other", 10), "b", "other", 10).result() == "other"
        await first.result()


async def test_lost_work_of_one_owner_never_fills_all_places():
    run = Stepped()
    async with running(run) as batcher:
        for number in range(12):
            lost = batcher.submit((f"lost {number}", 200), number, "one")
            lost.keep_s = LONG_S
            seen = len(run.order)
            leaver = asyncio.create_task(lost.result())
            await until(lambda seen=seen: len(run.order) > seen)
            await leave(leaver)
        started = time.monotonic()
        assert await batcher.submit(("wanted", 3), "k", "other").result() == "wanted"
        assert time.monotonic() - started < 2.0


def test_an_owner_who_was_away_gets_a_small_credit_and_no_more():
    clock = FairClock(credit_s=1.0)
    for _ in range(50):
        clock.charge("busy", 1.0)
        clock.follow(["busy"])
    assert clock.used("busy") == 50.0
    assert clock.used("new") == 49.0


def test_a_clock_remembers_a_bounded_number_of_owners():
    clock = FairClock(most=10)
    for number in range(100):
        clock.charge(str(number), 1.0)
    assert len(clock._used) == 10


async def test_slots_go_round_between_owners():
    slots, order = FairSlots(1), []

    async def work(owner):
        await slots.take(owner)
        order.append(owner)
        await asyncio.sleep(0)
        slots.give_back()

    await asyncio.gather(*(work(owner) for owner in ["a"] * 5 + ["b"] * 2))
    assert order == ["a", "a", "b", "a", "b", "a", "a"]


async def test_a_slot_that_was_waited_for_in_vain_is_not_lost():
    slots = FairSlots(1)
    await slots.take("a")
    waiting = asyncio.create_task(slots.take("b"))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    slots.give_back()
    await asyncio.wait_for(slots.take("c"), LONG_S)


async def test_large_pictures_are_decoded_in_a_lane_of_their_own():
    lanes, held = CodecLanes(1), threading.Event()

    def decode(side):
        def run(admit):
            admit(Claims(Task.VQA, (side, side), (side, side), Options()))
            assert side < 16 or held.wait(LONG_S)
            return threading.current_thread().name

        return run

    large = asyncio.create_task(lanes.decode("one", 16, lambda claims: None, decode(64)))
    await asyncio.sleep(0.02)
    small = await lanes.decode("other", 16, lambda claims: None, decode(4))
    assert small.startswith("codec")
    assert not large.done()
    held.set()
    assert (await large).startswith("slow-codec")
    assert LIGHT_PICTURES * 16 < 64 * 64
    lanes.close()


def test_the_gate_counts_each_owner_and_all():
    gate = Gate(2, 3, lambda owner: 7.0)
    with gate.passed("a"), gate.passed("a"):
        with pytest.raises(OverloadedError) as caught, gate.passed("a"):
            pass
        assert caught.value.retry_after == 7.0
        with gate.passed("b"):
            assert gate.inside == 3
            with pytest.raises(OverloadedError), gate.passed("c"):
                pass
    assert gate.inside == 0


def test_who_is_wrong_again_and_again_is_told_later_and_nobody_else():
    now = 0.0
    tarpit = Tarpit(most=3, per_s=2.0, longest_s=1.0, clock=lambda: now)
    assert [tarpit.fault("a") for _ in range(6)] == [0.0, 0.0, 0.0, 0.5, 1.0, 1.0]
    assert tarpit.fault("b") == 0.0
    now = 10.0
    assert tarpit.fault("a") == 0.0


def picture(side):
    return ImageTokens(image_codes(side), BUNDLE.vocabulary.codebook_size)


def image_codes(side):
    from serving_fakes import image

    return image(side, side).codes


def test_a_price_counts_steps_windows_mends_and_both_passes():
    plain, mended = Effort(), Effort(mend=2, settle=4)
    one = price_of(a_request(steps=10, guidance=0.0), BUNDLE, plain)
    assert one == 16 * 10
    assert price_of(a_request(steps=10, guidance=1.0), BUNDLE, plain) == 2 * one
    assert price_of(a_request(steps=10, guidance=0.0), BUNDLE, mended) > 3 * one
    unmended = price_of(a_request(steps=10, guidance=0.0, mend=0), BUNDLE, mended)
    assert unmended == 16 * 14
    wide = Request(
        Task.OUTPAINT,
        a_request().text,
        picture(8),
        extension=Extension(right=8),
        options=Options(steps=10, guidance=0.0),
    )
    assert price_of(wide, BUNDLE, plain) == 2 * 4 * one
    assert price_of(a_request(Task.VQA), BUNDLE, plain) < one


def test_what_users_may_well_ask_for_is_served_and_more_is_refused_with_a_remedy():
    settings = fake_settings()
    effort = Effort(mend=3, settle=4)
    most = most_work(settings, BUNDLE, effort)
    finest = a_request(steps=100, mend=8, guidance=2.0)
    check_price(price_of(finest, BUNDLE, effort), most, finest, BUNDLE)
    words = a_request().text
    grown = Request(Task.OUTPAINT, words, picture(4), extension=Extension(right=60, down=60))
    check_price(price_of(grown, BUNDLE, effort), most, grown, BUNDLE)
    slow = replace(grown, options=Options(steps=100))
    with pytest.raises(InvalidInputError, match=r"64x64 tokens, 100 steps.*--max-work"):
        check_price(price_of(slow, BUNDLE, effort), most, slow, BUNDLE)
    assert most_work(fake_settings(max_work=5), BUNDLE, effort) == 5
    assert most_work(fake_settings(max_grid=4), BUNDLE, effort) < most
    assert MAX_GRID == 64


async def test_a_request_over_the_price_is_refused_over_http():
    async with serving(fake_settings(max_work=100)) as (client, _):
        reply = await client.post("/v1/t2i", content=a_message(steps=50), headers=MSGPACK)
        info = (await client.get("/v1/info")).json()
    assert (reply.status_code, reply.json()["code"]) == (422, "invalid_input")
    assert "token passes" in reply.json()["message"]
    assert info["limits"]["work"] == 100
