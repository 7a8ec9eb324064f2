"""The doctor against real servers: all is well over every way, and one thing at a time is not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from front_proxy import FrontProxy
from server_process import ServerProcess

from edge_client.cli import main
from edge_client.transport import websocket_link
from edge_client.transport.base import NoSessionsError
from edge_client.transport.websocket_link import WebSocketLink

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    path = tmp_path_factory.mktemp("d") / "a.sock"
    flags = ["--unix", str(path), "--root-path", "/unimic", "--api-key", "secret"]
    with ServerProcess(*flags) as process:
        process.socket = f"unix:{path}"
        yield process


def states(
    capsys: pytest.CaptureFixture[str], server: str, *words: str
) -> tuple[int, dict[str, dict[str, str]]]:
    code = main(["doctor", "--json", "--server", server, "--api-key", "secret", *words])
    found = json.loads(capsys.readouterr().out)
    return code, {finding["check"]: finding for finding in found}


def test_all_is_well_over_every_way(
    server: ServerProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    with FrontProxy(server.port, "/unimic") as proxy:
        for address in (server.url, server.socket, proxy.url, server.bare):
            code, found = states(capsys, address)
            assert code == 0, found
            assert found["conversation"]["state"] == "ok"
            if address != server.bare:
                assert found["server"]["told"].startswith("name unimic")
                assert found["both ends: bundle fingerprint"]["state"] == "ok"


def test_a_wrong_key_and_a_wrong_path_are_told(
    server: ServerProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    for address in (server.url, server.bare):
        code, found = states(capsys, address, "--api-key", "wrong")
        assert code == 1
        assert any("key" in each["told"] for each in found.values() if each["state"] == "FAIL")
    code, found = states(capsys, f"{server.url}/v1")
    assert code == 1
    assert f"--server {server.url}" in found["server"]["remedy"]


def test_a_way_without_websockets_is_a_warning(
    server: ServerProcess, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: WebSocketLink, *_: object) -> None:
        raise NoSessionsError("it answered 403", "a proxy lets no WebSocket through")

    monkeypatch.setattr(websocket_link.WebSocketLink, "__init__", refused)
    code, found = states(capsys, server.url)
    assert code == 0
    assert found["conversation"]["state"] == "warn"
    assert "single messages" in found["conversation"]["remedy"]


def test_tls_is_told(
    server: ServerProcess, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, found = states(capsys, server.url.replace("http", "https"))
    assert code == 1
    assert "does not speak TLS" in found["TLS"]["told"]
    assert "http://" in found["TLS"]["remedy"]
