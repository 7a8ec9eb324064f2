"""Limits of a key over every way to a server: POSTs, WebSocket and bare frames."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest
from serving_fakes import BUNDLE, LiveServer, a_request, fake_settings

from cloud_server.serving.admission import rate_limits
from edge_client.exchange.best import BestExchange
from edge_client.exchange.coded_exchange import Exchange, SingleMessages, Stopwatch
from edge_client.transport.schemes import open_transport
from shared_protocol.errors import RateLimitError
from shared_protocol.tasks import Task

WAYS = ("POST", "WebSocket", "TCP")
KEY = "key-of-ann"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    keys = tmp_path / "keys"
    keys.write_text(f"ann {KEY} requests=2\n")
    keys.chmod(0o600)
    with LiveServer(fake_settings(port=0, tcp=0, api_keys=keys)) as live:
        yield live


@contextmanager
def exchange_of(server: LiveServer, way: str, timeout: float) -> Iterator[Exchange]:
    if way == "POST":
        with open_transport(server.url, KEY, timeout) as transport:
            yield SingleMessages(BUNDLE, transport)
        return
    address = server.url if way == "WebSocket" else server.bare
    with closing(BestExchange(BUNDLE, address, KEY, timeout)) as exchange:
        yield exchange


@pytest.mark.parametrize("way", WAYS)
def test_a_limit_is_told_over_every_way_as_what_it_is(
    server: LiveServer, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with exchange_of(server, way, 5.0) as exchange:
        for task in (Task.T2I, Task.VQA):
            exchange.hold(a_request(task), Stopwatch())
        with pytest.raises(RateLimitError, match="2 of 2 requests a minute are used") as caught:
            exchange.hold(a_request(), Stopwatch())
    assert 50 < (caught.value.retry_after or 0) <= 60
    assert "'ann'" in caught.value.message
    assert "operator" in caught.value.remedy
    metrics = httpx.get(f"{server.url}/metrics", headers={"Authorization": f"Bearer {KEY}"}).text
    assert 'unimic_rate_limited_total{key="ann",limit="requests"} 1.0' in metrics
    assert any("key=ann" in line and "status=429" in line for line in caplog.messages)
    assert KEY not in metrics + caplog.text


@pytest.mark.parametrize("way", WAYS)
def test_an_edge_waits_until_there_is_room(
    server: LiveServer, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_limits, "WINDOW_S", 1.0)
    with exchange_of(server, way, 20.0) as exchange:
        for seed in (1, 2):
            exchange.hold(a_request(seed=seed), Stopwatch())
        started = time.monotonic()
        held = exchange.hold(a_request(seed=3), Stopwatch())
    assert 0.9 < time.monotonic() - started < 4.0
    assert held.wire.attempts == 2


def test_turns_and_posts_count_together(server: LiveServer) -> None:
    for way in ("POST", "TCP"):
        with exchange_of(server, way, 5.0) as exchange:
            exchange.hold(a_request(), Stopwatch())
    with exchange_of(server, "WebSocket", 5.0) as exchange, pytest.raises(RateLimitError):
        exchange.hold(a_request(), Stopwatch())
