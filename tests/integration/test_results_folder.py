"""A server that is killed: results that were made survive, and clients wait for its return."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import httpx
import pytest
from attackers import picture
from server_process import ServerProcess

from edge_client.transport.http import HttpTransport
from shared_protocol.bundles.find import load_bundle
from shared_protocol.tasks import Task

pytestmark = pytest.mark.slow
TIMEOUT_S = 300.0


def test_a_result_survives_a_kill_and_is_not_made_again(tmp_path: Path) -> None:
    body = picture(load_bundle(), 3, 8)
    flags = ("--device", "cpu", "--results-folder", str(tmp_path / "results"))
    with (
        ServerProcess(*flags) as server,
        HttpTransport(server.url, timeout=TIMEOUT_S) as transport,
    ):
        first = transport.exchange(Task.T2I, body, "once").message
        time.sleep(0.5)
        server.kill()
        server.start()
        again = transport.exchange(Task.T2I, body, "once").message
        assert again == first
        assert server.metric("replays_total") == 1
        assert server.metric("batch_size_count") == 0
        other = transport.exchange(Task.T2I, body, "another").message
        assert other == first
        assert server.metric("batch_size_count") == 1


def test_a_client_waits_for_a_server_that_is_killed_in_mid_request(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    body = picture(load_bundle(), 4, 60)
    replies: list[bytes] = []
    with ServerProcess("--device", "cpu", "--results-folder", str(tmp_path / "results")) as server:
        url = server.url

        def ask() -> None:
            with HttpTransport(url, timeout=TIMEOUT_S) as transport:
                replies.append(transport.exchange(Task.T2I, body, "lost").message)

        asking = threading.Thread(target=ask)
        asking.start()
        give_up = time.monotonic() + 60.0
        while httpx.get(f"{url}/v1/jobs/lost").status_code != 202:
            assert time.monotonic() < give_up
            time.sleep(0.05)
        server.kill()
        server.start()
        asking.join(TIMEOUT_S)
        assert len(replies) == 1
        assert server.metric("batch_size_count") == 1
    assert sum("trying again" in line for line in caplog.messages) == 1
