"""Retries join, clients that hang up end their work, and what the cloud fails with is passed on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import httpx
import pytest
from gateway_fakes import LiveGateway, asked, live_gateway, png, scene

from shared_protocol.errors import (
    BundleMismatchError,
    InternalError,
    OverloadedError,
    RateLimitError,
    UnauthorizedError,
)
from shared_protocol.session.hello import Status, Welcome

GENERATE = "images/generations"
ASKED = {"prompt": "x", "seed": 1}


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> Iterator[LiveGateway]:
    with live_gateway(monkeypatch, sessions=2, queue=1) as gateway:
        yield gateway


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def in_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_a_retry_of_what_is_done_runs_nothing(live: LiveGateway) -> None:
    first = live.post(GENERATE, ASKED, x_stainless_retry_count="0").json()
    again = live.post(GENERATE, ASKED, x_stainless_retry_count="1").json()
    assert again["data"] == first["data"]
    assert again["created"] == first["created"]
    assert len(live.cloud.asked) == 1
    live.post(GENERATE, ASKED, x_stainless_retry_count="0")
    live.post(GENERATE, {**ASKED, "seed": 2}, x_stainless_retry_count="1")
    assert len(live.cloud.asked) == 3


def test_a_form_is_the_same_whatever_separates_its_parts(live: LiveGateway) -> None:
    image = scene().convert("RGBA")
    image.paste((0, 0, 0, 0), (16, 16, 32, 32))
    files = {"image": ("a.png", png(image), "image/png")}
    for count in ("0", "1"):
        headers = {"x-stainless-retry-count": count}
        reply = live.client.post(
            "/v1/images/edits", data={"prompt": "x"}, files=files, headers=headers
        )
        assert reply.status_code == 200
    assert len(live.cloud.asked) == 1


def test_a_retry_joins_what_is_under_way(live: LiveGateway) -> None:
    live.cloud.gate.clear()
    with pytest.raises(httpx.ReadTimeout):
        live.client.post(f"/v1/{GENERATE}", json=ASKED, timeout=0.3,
                         headers={"x-stainless-retry-count": "0"})  # fmt: skip
    found: list[httpx.Response] = []
    ask = lambda: found.append(live.post(GENERATE, ASKED, x_stainless_retry_count="1"))  # noqa: E731
    thread = in_thread(ask)
    time.sleep(2.0)  # longer than the patience with a client that has hung up
    live.cloud.gate.set()
    thread.join(10)
    assert found[0].status_code == 200
    assert len(live.cloud.asked) == 1
    assert live.cloud.ended == 0


def test_a_retry_after_a_failure_runs_again(live: LiveGateway) -> None:
    live.cloud.errors = [InternalError("broken")]
    assert live.post(GENERATE, ASKED, x_stainless_retry_count="0").status_code == 502
    assert live.post(GENERATE, ASKED, x_stainless_retry_count="1").status_code == 200


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_hangs_up_ends_its_work(live: LiveGateway, stream: bool) -> None:
    live.cloud.gate.clear()
    with pytest.raises(httpx.ReadTimeout):
        live.client.post(f"/v1/{GENERATE}", json={**ASKED, "stream": stream}, timeout=0.3)
    until(lambda: live.cloud.ended == 1)
    until(lambda: live.client.get("/healthz").json()["requests"] == 0)
    live.cloud.gate.set()
    assert live.post(GENERATE, ASKED).status_code == 200


def test_too_many_requests_are_asked_to_wait(live: LiveGateway) -> None:
    live.cloud.gate.clear()
    found: list[int] = []
    threads = [
        in_thread(lambda n=n: found.append(live.post(GENERATE, {**ASKED, "seed": n}).status_code))
        for n in range(3)
    ]
    until(lambda: live.client.get("/healthz").json()["requests"] == 3)
    reply = live.post(GENERATE, ASKED)
    assert (reply.status_code, reply.json()["error"]["code"]) == (429, "gateway_full")
    assert int(reply.headers["retry-after"]) > 0
    live.cloud.gate.set()
    for thread in threads:
        thread.join(10)
    assert found == [200, 200, 200]


def test_other_bundles_are_told_once_and_for_all(live: LiveGateway) -> None:
    live.cloud.welcome = Welcome(Status.BUNDLE, fingerprint=bytes(range(32)))
    reply = live.post(GENERATE, ASKED)
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "bundle_mismatch")
    assert reply.headers["x-should-retry"] == "false"
    assert BundleMismatchError.http_status != reply.status_code


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (UnauthorizedError("no key"), 401, "cloud_unauthorized"),
        (InternalError("broken"), 502, "cloud_failed"),
    ],
)
def test_failures_of_the_cloud_are_passed_on(
    live: LiveGateway, error: Exception, status: int, code: str
) -> None:
    live.cloud.errors = [error]  # type: ignore[list-item]
    reply = live.post(GENERATE, {**ASKED, "stream": True})
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)


def test_a_cloud_that_is_full_for_long_is_told_with_a_time(
    live: LiveGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Longer than a session of these tests has: it does not wait for what would come too late.
    live.cloud.welcome = Welcome(Status.ERROR, error=OverloadedError("loading", "", 90.0))
    monkeypatch.setattr("edge_client.exchange.retrying.MAX_ASKED", 90.0)
    reply = live.post(GENERATE, ASKED)
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "cloud_busy")
    assert reply.headers["retry-after"] == "90"


@pytest.mark.parametrize("streamed", [False, True])
def test_a_limit_of_the_clouds_key_is_openais_rate_limit_error(
    live: LiveGateway, streamed: bool
) -> None:
    live.cloud.errors = [RateLimitError("60 of 60 requests a minute are used", "wait", 130.0)]
    reply = live.post(GENERATE, {**ASKED, "stream": streamed})
    error = reply.json()["error"]
    assert (reply.status_code, error["type"]) == (429, "rate_limit_error")
    assert error["code"] == "rate_limit_exceeded"
    assert error["message"].startswith("60 of 60 requests a minute")
    assert reply.headers["retry-after"] == "130"
    assert "x-should-retry" not in reply.headers


def test_one_picture_asked_about_at_once_is_answered_twice(live: LiveGateway) -> None:
    body = {"messages": [asked("what?", png(scene()))]}
    live.post("chat/completions", body)
    live.cloud.gate.clear()
    found: list[int] = []
    threads = [
        in_thread(lambda: found.append(live.post("chat/completions", body).status_code))
        for _ in range(2)
    ]
    until(lambda: live.client.get("/healthz").json()["sessions"]["busy"] == 2)
    live.cloud.gate.set()
    for thread in threads:
        thread.join(10)
    assert found == [200, 200]
