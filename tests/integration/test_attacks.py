"""A healthy client beside one that tries to stop it: how long it waits, and how the log grows.

`pytest -s tests/integration/test_attacks.py` prints what was measured.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

import httpx
import pytest
from attackers import ATTACKS, post, question, send
from server_process import ROOT, ServerProcess

from shared_protocol.bundles.find import load_bundle
from shared_protocol.tasks import Task

pytestmark = pytest.mark.slow
MOST_TIMES = 3.0
MOST_LOG = 1_000_000
"""Bytes in a minute, or in less."""
QUESTIONS = 15
NUMBERS = count(1_000)
FLAGS = ("--max-grid", "16", "--max-queue", "8", "--device", "cpu")


def ask(client: httpx.Client, url: str) -> float:
    """Seconds that a new question takes, repeated as a client does where the server is full."""
    body, started = question(load_bundle(), next(NUMBERS)), time.monotonic()
    while True:
        reply = client.post(
            f"{url}/v1/vqa", content=body, headers={"Content-Type": "application/msgpack"}
        )
        if reply.status_code != 503:
            assert reply.status_code == 200, reply.text
            return time.monotonic() - started
        time.sleep(float(reply.headers["retry-after"]))


def median(client: httpx.Client, url: str) -> float:
    return statistics.median(ask(client, url) for _ in range(QUESTIONS))


def per_minute(size: int, started: float) -> float:
    """Bytes a minute since `started`; of less than a minute, all of them."""
    return size / max(1.0, (time.monotonic() - started) / 60)


@contextmanager
def attacked(name: str, port: int, seconds: float = 120.0) -> Iterator[None]:
    """While it lasts, an attacker of that name is at work."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests/fakes")])
    words = [sys.executable, str(ROOT / "tests/fakes/attackers.py"), name, str(port), str(seconds)]
    with subprocess.Popen(words, env={**os.environ, "PYTHONPATH": paths}) as attacker:
        try:
            time.sleep(4.0)  # it imports, and gets under way
            assert attacker.poll() is None
            yield
        finally:
            attacker.kill()


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess(*FLAGS) as process:
        yield process


@pytest.mark.parametrize("name", ATTACKS)
def test_a_healthy_client_is_served_beside_an_attacker(server: ServerProcess, name: str) -> None:
    with httpx.Client(timeout=120.0) as client:
        ask(client, server.url)
        before = median(client, server.url)
        with attacked(name, server.port):
            size, started = server.log.stat().st_size, time.monotonic()
            during = median(client, server.url)
            grown = per_minute(server.log.stat().st_size - size, started)
            with httpx.Client(timeout=5.0) as another:
                assert another.get(f"{server.url}/healthz").status_code == 200
    print(
        f"\n{name}: a question took {before:.3f} s before, {during:.3f} s during the attack "
        f"({during / before:.2f} times); the log grew by {grown / 1e3:.0f} kB a minute"
    )
    assert during <= MOST_TIMES * before
    assert grown <= MOST_LOG


def test_with_few_files_half_sent_requests_block_nobody() -> None:
    limited = ["bash", "-c", 'ulimit -n 256; exec "$@"', "limited"]
    with (
        ServerProcess("--device", "cpu", prefix=limited) as server,
        attacked("half_sent", server.port),
    ):
        size, started = server.log.stat().st_size, time.monotonic()
        slowest = 0.0
        for _ in range(40):
            began = time.monotonic()
            assert httpx.get(f"{server.url}/healthz", timeout=5.0).status_code == 200
            slowest = max(slowest, time.monotonic() - began)
            time.sleep(0.2)
        grown = per_minute(server.log.stat().st_size - size, started)
    print(f"\nslowest /healthz {slowest:.3f} s; the log grew by {grown / 1e3:.0f} kB a minute")
    assert slowest < 2.0
    assert grown <= MOST_LOG


def test_who_is_let_in_is_served_in_time_and_others_are_told_when_to_come_back(
    server: ServerProcess,
) -> None:
    bundle = load_bundle()
    bodies = [
        post(Task.VQA, question(bundle, number), "Connection: close") for number in range(250)
    ]

    async def one(port: int, body: bytes) -> tuple[bytes, float]:
        started = time.monotonic()
        answer = await send(port, body, 120.0)
        return answer, time.monotonic() - started

    async def all_of_them(port: int) -> list[tuple[bytes, float]]:
        return await asyncio.gather(*(one(port, body) for body in bodies))

    with httpx.Client(timeout=60.0) as client:
        alone = max(ask(client, server.url) for _ in range(5))
    answers = asyncio.run(all_of_them(server.port))
    served = [seconds for answer, seconds in answers if b" 200 " in answer[:20]]
    refused = [(answer, seconds) for answer, seconds in answers if b" 503 " in answer[:20]]
    print(
        f"\n{len(served)} of 250 served, slowest after {max(served):.2f} s (alone {alone:.2f} s); "
        f"{len(refused)} refused, slowest after {max(s for _, s in refused):.2f} s"
    )
    assert len(served) + len(refused) == 250
    assert len(served) >= 8
    assert max(served) < 30.0
    assert all(b"retry-after: " in answer.lower() for answer, _ in refused)
