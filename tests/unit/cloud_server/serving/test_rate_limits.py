"""Limits a minute of named keys: the sliding window, what counts, and how a refusal is told."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving_fakes import (
    MSGPACK,
    FakeEngine,
    GatedEngine,
    a_message,
    fake_settings,
    opened,
    serving,
)

from cloud_server.serving.admission.rate_limits import REQUESTS, TOKENS, RateLimits, Window
from cloud_server.settings import Settings
from shared_protocol.errors import ConfigError, InvalidInputError, OverloadedError, RateLimitError
from shared_protocol.tasks import Task

PRICE = 4 * 4 * 2 * 5
"""Of a picture of the fake bundle: its tokens, twice for guidance, in five steps."""


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def limits(clock: Clock, requests: int = 0, tokens: int = 0) -> RateLimits:
    return RateLimits(lambda name: {REQUESTS: requests, TOKENS: tokens}, clock=clock)


def take(rates: RateLimits, limit: str = REQUESTS, amount: int = 1, name: str = "ann") -> None:
    with rates.taken(name, limit, amount):
        pass


@given(st.lists(st.tuples(st.floats(0, 20), st.integers(1, 5)), max_size=60), st.integers(5, 12))
def test_in_no_minute_more_is_let_in_than_the_limit(uses, most):
    clock, let_in = Clock(), []
    rates = limits(clock, tokens=most)
    for pause, amount in uses:
        clock.now += pause
        with suppress(RateLimitError):
            take(rates, TOKENS, amount)
            let_in.append((clock.now, amount))
    for start, _ in let_in:
        assert sum(n for at, n in let_in if start <= at < start + 60) <= most


@given(st.lists(st.tuples(st.floats(0, 20), st.integers(1, 5)), max_size=60), st.integers(5, 12))
def test_whoever_returns_when_it_was_told_to_finds_room_and_not_much_earlier(uses, most):
    clock, rates = Clock(), None
    rates = limits(clock, tokens=most)
    for pause, amount in uses:
        clock.now += pause
        try:
            take(rates, TOKENS, amount)
        except RateLimitError as error:
            asked, started = error.retry_after, clock.now
            clock.now = started + asked - 1.2
            if asked > 1.2:
                with pytest.raises(RateLimitError):
                    take(rates, TOKENS, amount)
            clock.now = started + asked
            take(rates, TOKENS, amount)


def test_a_window_remembers_no_more_than_some_hundred_uses():
    window = Window()
    for number in range(100_000):
        window.add(number / 1000, 1)
    assert len(window._uses) <= 1001
    assert window.used(99.999) == pytest.approx(60_000, abs=100)


def test_each_name_has_a_minute_of_its_own_and_without_a_limit_all_is_let_in():
    rates = limits(Clock(), requests=1)
    take(rates)
    take(rates, name="bob")
    with pytest.raises(RateLimitError, match="'ann'"):
        take(rates)
    for _ in range(1000):
        take(rates, TOKENS, 10**9)


def test_what_is_refused_inside_does_not_count_though_a_minute_has_passed_meanwhile():
    clock = Clock()
    rates = limits(clock, requests=2)
    with pytest.raises(OverloadedError), rates.taken("ann", REQUESTS):
        raise OverloadedError("full")
    with suppress(OverloadedError), rates.taken("ann", REQUESTS):
        clock.now += 61
        raise OverloadedError("stopping")
    assert rates.headers("ann")["x-ratelimit-remaining-requests"] == "2"
    with pytest.raises(ValueError), rates.taken("ann", REQUESTS):
        raise ValueError
    assert rates.headers("ann")["x-ratelimit-remaining-requests"] == "1"


def test_more_than_a_whole_minute_has_is_refused_for_good():
    with pytest.raises(InvalidInputError, match=r"1,001 token-steps.*1,000") as caught:
        take(limits(Clock(), tokens=1000), TOKENS, 1001)
    assert not isinstance(caught.value, OverloadedError)
    assert caught.value.remedy


def test_a_request_is_not_asked_back_before_there_is_a_token_step_for_it():
    clock = Clock()
    rates = limits(clock, requests=1, tokens=10)
    take(rates)
    clock.now += 30
    take(rates, TOKENS, 10)
    with pytest.raises(RateLimitError) as caught:
        take(rates)
    assert caught.value.retry_after == 60


def test_headers_say_limit_rest_and_when_it_is_whole_again():
    clock = Clock()
    rates = limits(clock, requests=3, tokens=100)
    take(rates)
    clock.now += 20.25
    take(rates, TOKENS, 40)
    assert rates.headers("ann") == {
        "x-ratelimit-limit-requests": "3",
        "x-ratelimit-remaining-requests": "2",
        "x-ratelimit-reset-requests": "39.75s",
        "x-ratelimit-limit-tokens": "100",
        "x-ratelimit-remaining-tokens": "60",
        "x-ratelimit-reset-tokens": "60s",
    }
    assert limits(clock, tokens=5).headers("ann")["x-ratelimit-reset-tokens"] == "0s"
    assert limits(clock).headers("ann") == {}


def test_limits_without_keys_are_refused():
    for given_ in ({"requests_per_minute": 1}, {"tokens_per_minute": 1}):
        with pytest.raises(ConfigError, match="limits a minute"):
            Settings(**given_)
        assert Settings(api_key="k", **given_)


@pytest.fixture
def keys(tmp_path):
    path = tmp_path / "keys"
    path.write_text(f"ann key-a requests=2\nbob key-b tokens={PRICE}\ncy key-c requests=0\n")
    path.chmod(0o600)
    return path


def as_(name: str, **more: str) -> dict[str, str]:
    return {**MSGPACK, "Authorization": f"Bearer key-{name[0]}", **more}


@pytest.mark.anyio
async def test_the_third_request_of_a_minute_is_told_when_to_return(keys):
    settings = fake_settings(api_keys=keys, requests_per_minute=1)
    async with serving(settings) as (client, _):
        asked = [
            await client.post("/v1/t2i", content=a_message(), headers=as_("ann")) for _ in "abc"
        ]
        free = [await client.post("/v1/t2i", content=a_message(), headers=as_("cy")) for _ in "abc"]
        info = await client.get("/v1/info", headers=as_("ann"))
        metrics = (await client.get("/metrics", headers=as_("ann"))).text
    assert [reply.status_code for reply in asked] == [200, 200, 429]
    left = [reply.headers["x-ratelimit-remaining-requests"] for reply in asked]
    assert left == ["1", "0", "0"]
    seconds = int(asked[2].headers["retry-after"])
    assert 55 <= seconds <= 60
    body = asked[2].json()
    assert (body["code"], body["retry_after"]) == ("rate_limited", seconds)
    assert "2 of 2 requests a minute" in body["message"]
    assert "'ann'" in body["message"]
    assert "operator" in body["remedy"]
    assert [reply.status_code for reply in free] == [200] * 3
    assert not any("ratelimit" in name for name in free[0].headers)
    assert info.headers["x-ratelimit-limit-requests"] == "2"
    assert 'unimic_rate_limited_total{key="ann",limit="requests"} 1.0' in metrics
    assert 'unimic_key_requests_total{key="ann",status="429"} 1.0' in metrics
    assert f'unimic_key_token_steps_total{{key="ann"}} {2.0 * PRICE}' in metrics
    assert "key-a" not in metrics


@pytest.mark.anyio
async def test_token_steps_count_once_for_work_that_is_known_and_a_refusal_takes_nothing(keys):
    engine = FakeEngine()
    settings = fake_settings(api_keys=keys, requests_per_minute=3)
    async with serving(settings, engine) as (client, _):
        named = as_("bob", **{"Idempotency-Key": "one"})
        first = await client.post("/v1/t2i", content=a_message(), headers=named)
        again = await client.post("/v1/t2i", content=a_message(), headers=named)
        other = await client.post("/v1/t2i", content=a_message(seed=5), headers=as_("bob"))
        large = await client.post("/v1/t2i", content=a_message(steps=6), headers=as_("bob"))
    assert [r.status_code for r in (first, again, other, large)] == [200, 200, 429, 422]
    assert first.headers["x-ratelimit-limit-tokens"] == str(PRICE)
    assert [r.headers["x-ratelimit-remaining-tokens"] for r in (first, again)] == ["0", "0"]
    assert f"this takes {PRICE}" in other.json()["message"]
    # The refused one gave its place back; the one that can never be served has had it.
    assert other.headers["x-ratelimit-remaining-requests"] == "1"
    assert large.headers["x-ratelimit-remaining-requests"] == "0"
    assert len(engine.requests) == 1


@pytest.mark.anyio
async def test_a_full_queue_takes_nothing_of_a_limit(keys):
    engine = GatedEngine()
    settings = fake_settings(
        api_keys=keys, max_queue=1, requests_per_minute=5, tokens_per_minute=10**6
    )
    async with serving(settings, engine) as (client, service):
        ask = partial(client.post, "/v1/t2i", content=a_message(), headers=as_("bob"))
        keys.write_text("bob key-b\n")
        service.keyring.reload()
        with opened(engine.gate):
            taken = [asyncio.create_task(ask())]
            await asyncio.to_thread(engine.started.wait, 10)
            taken.append(asyncio.create_task(ask()))
            while service.queue_depth < 1:
                await asyncio.sleep(0.001)
            refused = await ask()
        await asyncio.gather(*taken)
    assert refused.status_code == 503
    assert refused.headers["x-ratelimit-remaining-requests"] == "3"


@pytest.mark.anyio
async def test_a_changed_file_counts_at_once_and_a_broken_one_changes_nothing(keys):
    async with serving(fake_settings(api_keys=keys)) as (client, service):
        before = await client.post("/v1/vqa", content=a_message(Task.VQA), headers=as_("ann"))
        keys.write_text("ann key-a requests=1\n")
        assert service.keyring.reload()
        after = await client.post("/v1/vqa", content=a_message(Task.VQA), headers=as_("ann"))
        keys.write_text("ann key-a requests=many\n")
        assert not service.keyring.reload()
        still = await client.post("/v1/vqa", content=a_message(Task.VQA), headers=as_("ann"))
    assert [r.status_code for r in (before, after, still)] == [200, 429, 429]


@pytest.mark.anyio
async def test_without_keys_nothing_is_counted_or_told():
    async with serving(fake_settings()) as (client, service):
        replies = [await client.post("/v1/t2i", content=a_message(), headers=MSGPACK) for _ in "ab"]
        assert service.rates._windows == {}
    assert not any("ratelimit" in name for reply in replies for name in reply.headers)
