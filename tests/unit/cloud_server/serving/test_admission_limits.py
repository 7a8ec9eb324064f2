"""Admission at its bounds: slots, faults and windows that are remembered, lanes, and prices."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from serving_fakes import BUNDLE, LONG_S, a_request, fake_settings, image, text

from cloud_server.serving.admission import rate_limits
from cloud_server.serving.admission.codec_lanes import LIGHT_PICTURES, CodecLanes
from cloud_server.serving.admission.fairness import CREDIT_S, FairClock, FairSlots
from cloud_server.serving.admission.gate import Gate, Tarpit
from cloud_server.serving.admission.price import Effort, check_price, most_work, price_of
from cloud_server.serving.admission.rate_limits import REQUESTS, TOKENS, RateLimits, Window
from shared_protocol.errors import InvalidInputError, OverloadedError, RateLimitError
from shared_protocol.messages import MAX_MENDS, Claims, Options, Request
from shared_protocol.tasks import Extension, Task
from shared_protocol.tokens import ImageTokens, TokenMask

pytestmark = pytest.mark.anyio


async def test_a_slot_given_to_one_who_leaves_in_that_moment_is_the_next_ones():
    slots = FairSlots(1)
    await slots.take("a")
    leaver, stayer = (asyncio.create_task(slots.take(owner)) for owner in "bc")
    await asyncio.sleep(0)
    slots.give_back()
    leaver.cancel()
    await asyncio.gather(leaver, return_exceptions=True)
    await asyncio.wait_for(stayer, LONG_S)
    more = asyncio.create_task(slots.take("d"))
    await asyncio.sleep(0)
    assert not more.done(), "it is one slot still"
    slots.give_back()
    await asyncio.wait_for(more, LONG_S)


async def test_as_many_slots_are_held_as_there_are():
    slots = FairSlots(2)
    await slots.take("a")
    await slots.take("a")
    third = asyncio.create_task(slots.take("b"))
    await asyncio.sleep(0)
    assert not third.done()
    slots.give_back()
    slots.give_back()
    await asyncio.wait_for(third, LONG_S)
    await asyncio.wait_for(slots.take("c"), LONG_S)


def test_the_clock_of_all_follows_who_has_used_least_and_never_goes_back():
    clock = FairClock()
    clock.charge("a", 5.0)
    clock.charge("b", 3.0)
    clock.follow(["a", "b"])
    assert (clock.used("a"), clock.used("b"), clock.used("new")) == (5.0, 3.0, 3.0 - CREDIT_S)
    clock.follow([])
    clock.follow(["new"])
    assert clock.used("new") == 2.0
    clock.charge("new", 0.5)
    assert clock.used("new") == 2.5


def test_owners_charged_longest_ago_are_forgotten_first():
    clock = FairClock(most=2)
    for owner in ("a", "b", "a", "c"):
        clock.charge(owner, 1.0)
    assert [clock.used(owner) for owner in "abc"] == [2.0, 0.0, 1.0]


def test_faults_of_so_many_owners_are_remembered_and_the_oldest_forgotten_first():
    tarpit = Tarpit(most=1, longest_s=9.0, per_s=1.0, clock=lambda: 0.0)
    for number in range(4097):
        assert tarpit.fault(str(number)) == 0.0
    assert tarpit.fault("1") == 1.0
    assert tarpit.fault("0") == 0.0, "it was forgotten"
    assert len(tarpit._faults) == 4096


def test_faults_are_forgiven_as_fast_as_may_be_made_on_and_on():
    now = [0.0]
    tarpit = Tarpit(most=2, longest_s=9.0, clock=lambda: now[0])
    assert [tarpit.fault("a") for _ in range(4)] == [0.0, 0.0, 1 / 40, 2 / 40]
    now[0] = 1 / 40
    assert tarpit.fault("a") == pytest.approx(2 / 40)
    now[0] = 3 / 40
    assert tarpit.fault("a") == pytest.approx(1 / 40)
    now[0] = 100.0
    assert tarpit.fault("a") == 0.0
    assert Tarpit(0, 0.25).fault("a") == 1 / 40
    assert max(Tarpit(0, 0.25, 1.0).fault("a") for _ in "ab") == 0.25


def test_a_full_gate_says_whose_requests_fill_it():
    gate = Gate(2, 3, lambda owner: 4.0 if owner == "a" else 5.0)
    with gate.passed("a"), gate.passed("a"), gate.passed("b"):
        for owner, fault, seconds in (
            ("a", "2 of yours are being served already", 4.0),
            ("b", "3 are being served already", 5.0),
        ):
            with pytest.raises(OverloadedError) as caught, gate.passed(owner):
                pass
            assert (caught.value.message, caught.value.retry_after) == (fault, seconds)
            assert caught.value.remedy == "retry later"
    assert (gate.inside, dict(gate._inside)) == (0, {})


# ------------------------------------------------------------------------------------------------
# Limits a minute
# ------------------------------------------------------------------------------------------------


def test_windows_of_names_that_are_gone_are_forgotten_and_others_stay():
    now = [1000.0]
    rates = RateLimits(lambda name: {REQUESTS: 1, TOKENS: 0}, clock=lambda: now[0])

    def take(name):
        with rates.taken(name, REQUESTS):
            pass

    for number in range(rate_limits._MANY):
        take(str(number))
    take("one more")
    assert len(rates._windows) == rate_limits._MANY + 1, "all of them are in use"
    with pytest.raises(RateLimitError):
        take("0")
    now[0] += 60.0
    take("fresh")
    assert list(rates._windows) == [("fresh", REQUESTS)]
    take("0")


@pytest.mark.parametrize(("at", "used"), [(0.0, 5), (59.9, 5), (60.0, 2), (60.4, 1), (60.5, 0)])
def test_a_minute_slides_to_the_tenth_of_a_second(at, used):
    window = Window()
    window.add(0.0, 3)
    window.add(0.1, 1)
    window.add(0.5, 1)
    assert window.used(at) == used


def test_uses_within_a_tenth_of_a_second_are_remembered_as_one():
    window = Window()
    first = window.add(0.0, 3)
    assert window.add(0.09, 4) is first
    second = window.add(0.1, 5)
    assert second is not first
    assert (first.amount, first.last, second.amount) == (7, 0.09, 5)
    assert window.rest(1.0) == pytest.approx(59.1)
    assert window.wait(1.0, 12, 0) == 0.0
    assert window.wait(1.0, 12, 1) == pytest.approx(59.09)
    assert window.wait(1.0, 12, 7) == pytest.approx(59.09)
    assert window.wait(1.0, 12, 8) == pytest.approx(59.1)
    assert window.wait(1.0, 12, 13) == 60.0
    window.take_back(first, 2)
    assert window.used(1.0) == 10
    assert window.used(60.095) == 5
    window.take_back(first, 5)
    assert window.used(60.095) == 5, "it is forgotten already"
    assert window.rest(61.0) == 0.0


def test_a_refusal_is_told_to_whoever_counts_them_with_whole_seconds():
    told, now = [], [0.0]
    rates = RateLimits(
        lambda name: {REQUESTS: 0, TOKENS: 10}, lambda *said: told.append(said), lambda: now[0]
    )
    with rates.taken("ann", TOKENS, 10):
        pass
    for later, seconds in ((0.5, 60), (59.5, 1), (59.99, 1)):
        now[0] = later
        with pytest.raises(RateLimitError, match=r"10 of 10 token-steps.*this takes 1") as caught:
            rates.taken("ann", TOKENS, 1).__enter__()
        assert caught.value.retry_after == seconds
        assert f"in {seconds} s" in caught.value.remedy
    assert told == [("ann", TOKENS)] * 3
    now[0] = 60.0
    with rates.taken("ann", TOKENS, 10):
        assert rates.headers("ann")["x-ratelimit-remaining-tokens"] == "0"


# ------------------------------------------------------------------------------------------------
# Lanes and prices
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("grid", "lane"), [((8, 8), "codec"), ((13, 5), "slow-codec"), ((1, 64), "codec")]
)
async def test_four_pictures_of_the_usual_size_are_light_and_one_token_more_is_not(grid, lane):
    import threading

    lanes, checked = CodecLanes(1), []

    def decode(admit):
        admit(Claims(Task.VQA, grid, grid, Options()))
        return threading.current_thread().name

    name = await lanes.decode("one", 16, checked.append, decode)
    assert name.rpartition("_")[0] == lane
    assert len(checked) == (1 if lane == "codec" else 2)
    assert LIGHT_PICTURES == 4
    lanes.close()
    with pytest.raises(RuntimeError):
        await lanes.run("one", len, "")


def whole(steps=10, guidance=0.0, **options):
    return a_request(steps=steps, guidance=guidance, **options)


@pytest.mark.parametrize(
    ("request_", "effort", "price"),
    [
        (whole(), Effort(), 16 * 10),
        (whole(guidance=1.0), Effort(), 2 * 16 * 10),
        (a_request(), Effort(), 2 * 16 * 5),
        (whole(), Effort(settle=4), 16 * 14),
        (whole(), Effort(tries=3), 3 * 16 * 10),
        (whole(), Effort(mend=2), 16 * (10 + 2 * 14)),
        (whole(), Effort(mend=2, settle=4, tries=3), 3 * 16 * (10 + 2 * 14 + 4)),
        (whole(mend=0), Effort(mend=2), 16 * 10),
        (whole(mend=5), Effort(mend=2), 16 * (10 + 5 * 14)),
        (whole(mend=5), Effort(), 16 * 10),
        (a_request(Task.VQA), Effort(mend=9), 16 + 3 + 6),
        (a_request(Task.VQA, max_new_tokens=2), Effort(), 16 + 3 + 2),
        (a_request(Task.CLASSIFY), Effort(), 16),
        (a_request(Task.OUTPAINT, steps=10, guidance=0.0), Effort(), 16 * 10),
        (a_request(Task.INPAINT, steps=10, guidance=0.0), Effort(), 16 * 10),
    ],
)
def test_what_each_kind_of_request_costs(request_, effort, price):
    assert price_of(request_, BUNDLE, effort) == price


def painted(side, cells):
    flags = np.zeros((side, side), dtype=bool)
    flags.ravel()[:cells] = True
    return Request(
        Task.INPAINT, text(7), image(side, side), TokenMask(flags),
        options=Options(steps=10, guidance=0.0),
    )  # fmt: skip


@pytest.mark.parametrize(("cells", "windows"), [(1, 1), (4, 1), (8, 2), (16, 2), (17, 3), (64, 8)])
def test_half_of_each_window_is_known_where_it_can_be(cells, windows):
    """The first cells of an 8x8 picture lie in its two upper tiles of 4x4, row by row."""
    assert price_of(painted(8, cells), BUNDLE, Effort()) == windows * 16 * 10


def test_the_most_work_is_the_finest_picture_or_the_largest():
    effort = Effort(mend=1, settle=2)
    finest = 100 + MAX_MENDS * 104 + 2
    usual = 5 + 1 * 9 + 2
    settings = fake_settings(max_steps=100, max_grid=64)
    assert most_work(settings, BUNDLE, effort) == 2 * 16 * max(finest, 2 * 16**2 * usual)
    small = fake_settings(max_steps=100, max_grid=8)
    assert most_work(small, BUNDLE, effort) == 2 * 16 * finest
    assert most_work(fake_settings(max_steps=3, max_grid=64), BUNDLE, effort) == (
        2 * 16 * max(3 + MAX_MENDS * 7 + 2, 2 * 16**2 * (3 + 7 + 2))
    )
    assert most_work(fake_settings(max_grid=6), BUNDLE, Effort()) >= 2 * 16 * 2 * 4 * 5


def test_a_price_may_be_the_most_and_no_more():
    request = whole()
    check_price(160, 160, request, BUNDLE)
    for most, steps in ((159, 9), (80, 5), (1, 1)):
        with pytest.raises(InvalidInputError, match=r"160 token passes \(4x4 tokens, 10") as caught:
            check_price(160, most, request, BUNDLE)
        assert f"about {steps} steps" in caught.value.remedy


def test_a_wide_picture_costs_its_windows():
    wide = Request(
        Task.OUTPAINT,
        text(7),
        ImageTokens(image(4, 4).codes, BUNDLE.vocabulary.codebook_size),
        extension=Extension(right=4),
        options=Options(steps=10, guidance=0.0),
    )
    assert price_of(wide, BUNDLE, Effort()) == 2 * 160
    assert price_of(replace(wide, extension=Extension(right=8)), BUNDLE, Effort()) == 4 * 160
