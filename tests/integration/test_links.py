"""Every kind of link to a real server: TLS, a program, and what is left without WebSocket."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from server_process import ServerProcess, make_certificate

from edge_client.exchange.best import BestExchange
from edge_client.exchange.coded_exchange import Stopwatch
from edge_client.spawn import program
from shared_protocol.bundles.find import load_bundle
from shared_protocol.errors import ConfigError, TransportError, UnauthorizedError
from shared_protocol.messages import Options, Request
from shared_protocol.tasks import Task

pytestmark = pytest.mark.slow
BUNDLE = load_bundle()


def ask(server: str, key: str | None = None) -> tuple[object, str]:
    """The picture of one turn, and what carried it."""
    exchange = BestExchange(BUNDLE, server, key, 30.0)
    words = BUNDLE.text_tokenizer.encode("a fox on a beach")
    try:
        held = exchange.hold(Request(Task.T2I, words, options=Options(steps=2)), Stopwatch())
    finally:
        exchange.close()
    return held.response, exchange.way


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of this host's own, made by the openssl command."""
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess() as process:
        yield process


def pipe(server: str) -> str:
    command = [*program("cloud-server", "cloud_server.cli"), "pipe", "--server", server]
    return "exec:" + shlex.join(command)


def test_all_links_bring_the_same_picture(server: ServerProcess) -> None:
    found = {
        server.url: "WebSocket",
        server.bare: "TCP",
        pipe(server.url): "pipe",
        pipe(server.bare): "pipe",
    }
    pictures = []
    for address, way in found.items():
        picture, used = ask(address)
        assert used == way
        pictures.append(picture)
    assert all(picture == pictures[0] for picture in pictures)


def test_tls_is_spoken_and_its_certificate_checked(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ["--tls-cert", str(certificate / "cert.pem"), "--tls-key", str(certificate / "key.pem")]
    with ServerProcess(*flags, "--api-key", "secret") as process:
        address = f"tls://127.0.0.1:{process.tcp}"
        with pytest.raises(TransportError, match="SSL_CERT_FILE"):
            ask(address, "secret")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "cert.pem"))
        assert ask(address, "secret")[1] == "TLS"
        for key in (None, "wrong"):
            with pytest.raises(UnauthorizedError):
                ask(address, key)
        with pytest.raises(UnauthorizedError):
            ask(process.url, "wrong")


def test_a_program_that_ends_is_told_with_its_exit_code() -> None:
    with pytest.raises(TransportError, match="exit code 3"):
        ask(f"exec:{shlex.join([sys.executable, '-c', 'raise SystemExit(3)'])}")
    with pytest.raises(TransportError, match="cannot start"):
        ask("exec:/no/such/program")
    with pytest.raises(ConfigError, match="names no command"):
        ask("exec:")


OLD_SERVER = """
import sys
from cloud_server.http import app, host
app.add_sessions = lambda router, conversations: None
from cloud_server import cli
sys.exit(cli.main(sys.argv[1:]))
"""


def test_a_server_without_conversations_gets_single_messages(
    server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "old_server.py"
    script.write_text(OLD_SERVER)
    monkeypatch.setattr("server_process.program", lambda *names: [sys.executable, str(script)])
    with ServerProcess() as old:
        picture, way = ask(old.url)
    assert way == "HTTP"
    assert picture == ask(server.url)[0]
