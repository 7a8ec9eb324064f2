"""A reply that never ends is read until the time is up, and a file as far as it may be long."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgpack
import pytest

from edge_client.commands.files import MAX_BYTES, _read
from edge_client.transport.http import HttpTransport
from shared_protocol.errors import ServerTimeoutError
from shared_protocol.tasks import Task

STREAM = {"Content-Type": "application/msgpack-seq"}


def test_a_reply_that_goes_on_for_ever_ends_with_the_time_limit() -> None:
    def trickle() -> Iterator[bytes]:
        for step in range(400):
            time.sleep(0.02)
            yield msgpack.packb([step, 400])

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "DELETE":
            return httpx.Response(204)
        return httpx.Response(200, headers=STREAM, content=trickle())

    transport = HttpTransport(
        "http://127.0.0.1:1", timeout=0.3, handler=httpx.MockTransport(answer)
    )
    started = time.monotonic()
    with pytest.raises(ServerTimeoutError):
        transport.exchange(Task.T2I, b"", "k")
    assert time.monotonic() - started < 4.0


def test_a_message_file_is_read_no_further_than_it_may_be_long(tmp_path: Path) -> None:
    endless = tmp_path / "endless.umic"
    with endless.open("wb") as file:
        file.truncate(1 << 31)
    tracemalloc.start()
    assert len(_read(endless)) == MAX_BYTES + 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * MAX_BYTES + 1_000_000
