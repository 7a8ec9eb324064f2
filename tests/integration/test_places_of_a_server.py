"""Where a real server may be: behind a socket file, a prefix, TLS of one's own."""

from __future__ import annotations

import json
import shlex
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from front_proxy import FrontProxy
from server_process import ServerProcess, make_certificate

from edge_client.cli import main
from edge_client.exchange.best import BestExchange
from edge_client.exchange.coded_exchange import Stopwatch
from edge_client.fetching import fetch_from_server
from edge_client.spawn import program
from edge_client.transport.links import open_link
from edge_client.transport.schemes import open_transport
from shared_protocol.bundles.find import load_bundle
from shared_protocol.errors import ConfigError, TransportError, UnauthorizedError
from shared_protocol.messages import Options, Request
from shared_protocol.tasks import Task

pytestmark = pytest.mark.slow
BUNDLE = load_bundle()
KEY = "secret"
PREFIX = "/ai/unimic"


def ask(server: str, post: bool = False) -> tuple[object, str]:
    """The picture of one turn, and what carried it."""
    exchange = BestExchange(BUNDLE, server, KEY, 30.0)
    if post:
        exchange._posts = exchange._single_messages()
    words = BUNDLE.text_tokenizer.encode("a fox on a beach")
    try:
        held = exchange.hold(Request(Task.T2I, words, options=Options(steps=2)), Stopwatch())
    finally:
        exchange.close()
    return held.response, exchange.way


def check_every_way(server: str) -> None:
    """Conversation, POST, info and fetch work with the server at this address."""
    picture, way = ask(server)
    assert way == "WebSocket"
    assert ask(server, post=True) == (picture, "HTTP")
    with open_transport(server, KEY) as transport:
        assert transport.info()["name"] == "unimic"
        fetched = fetch_from_server(transport)
    assert fetched.fingerprint == BUNDLE.fingerprint.hex()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate of this host's own, made by the openssl command."""
    return make_certificate(tmp_path_factory.mktemp("p"))


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ServerProcess]:
    flags = ["--unix", str(folder / "a.sock"), "--root-path", PREFIX, "--api-key", KEY]
    with ServerProcess(*flags) as process:
        yield process


# ---------------------------------------------------------------------------- socket files


def test_every_way_leads_through_a_socket_file(server: ServerProcess, folder: Path) -> None:
    path = folder / "a.sock"
    check_every_way(f"unix:{path}")
    assert stat.S_IMODE(path.stat().st_mode) & 0o007 == 0, "others may not connect"
    with pytest.raises(UnauthorizedError):
        BestExchange(BUNDLE, f"unix:{path}", "wrong", 9.0).hold(
            Request(Task.T2I, BUNDLE.text_tokenizer.encode("a")), Stopwatch()
        )


def test_a_program_carries_a_conversation_to_a_socket_file(
    server: ServerProcess, folder: Path
) -> None:
    command = [*program("cloud-server", "cloud_server.cli"), "pipe", "--server"]
    assert ask(f"exec:{shlex.join([*command, f'unix:{folder}/a.sock'])}")[1] == "pipe"


def test_a_socket_alone_opens_no_port_and_survives_a_kill(tmp_path: Path) -> None:
    path, log = tmp_path / "a b.sock", tmp_path / "log"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))  # what a killed server leaves
    words = [*program("cloud-server", "cloud_server.cli"), "--unix", str(path)]
    ready = tmp_path / "ready"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*words, "--ready-file", str(ready), "--api-key", KEY], stdout=output, stderr=output
        )
        try:
            while not ready.exists():
                assert process.poll() is None, log.read_text()
            assert ready.read_text() == f"unix:{path}\n"
            assert ask(f"unix:{path}")[1] == "WebSocket"
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
    assert not path.exists(), "removed at exit"
    assert "listening on unix:" in log.read_text()
    assert "listening on http" not in log.read_text()


def test_a_socket_without_a_server_says_how_to_start_one(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/none.sock"
    with pytest.raises(TransportError, match=f"start it with cloud-server --unix {tmp_path}"):
        BestExchange(BUNDLE, address, None, 2.0).hold(
            Request(Task.T2I, BUNDLE.text_tokenizer.encode("a")), Stopwatch()
        )
    with (
        open_transport(address, None, 2.0) as transport,
        pytest.raises(TransportError, match=f"cloud-server --unix {tmp_path}/none.sock"),
    ):
        transport.info()


def test_the_command_line_takes_a_socket_file(
    server: ServerProcess, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["info", "--server", f"unix:{folder}/a.sock", "--api-key", KEY, "--json"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["agree"] is True


# ---------------------------------------------------------------------------- prefixes


@pytest.mark.parametrize("strip", [True, False])
def test_every_way_leads_below_a_prefix(server: ServerProcess, strip: bool) -> None:
    with FrontProxy(server.port, PREFIX, strip) as proxy:
        check_every_way(proxy.url)
        assert {path.startswith(f"{PREFIX}/v1/") for path in proxy.seen} == {True}


def test_the_documentation_is_found_below_the_prefix(server: ServerProcess) -> None:
    import httpx

    with FrontProxy(server.port, PREFIX) as proxy:
        headers = {"Authorization": f"Bearer {KEY}"}
        said = httpx.get(f"{proxy.url}/openapi.json", headers=headers)
    assert said.json()["servers"] == [{"url": PREFIX}]


# ---------------------------------------------------------------------------- forward proxies


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "ALL_PROXY"])
def test_every_way_leads_through_a_proxy(
    server: ServerProcess, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with FrontProxy(server.port) as proxy:
        monkeypatch.setenv(variable, proxy.url)
        check_every_way("http://192.0.2.1:8400")
        assert "192.0.2.1:8400" in proxy.seen, "the WebSocket has a tunnel"
        assert "http://192.0.2.1:8400/v1/t2i" in proxy.seen


# ---------------------------------------------------------------------------- certificates


@pytest.mark.parametrize("how", ["SSL_CERT_FILE", "UNIMIC_CA_FILE", "--ca-file", "ca_file"])
def test_a_certificate_of_ones_own_is_trusted_where_it_is_named(
    server: ServerProcess, folder: Path, how: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("SSL_CERT_FILE", "UNIMIC_CA_FILE"):
        monkeypatch.setenv(name, "")  # what the command sets is taken back at the end
    words = ["info", "--api-key", KEY]
    with FrontProxy(server.port, PREFIX, folder=folder) as proxy:
        assert main([*words, "--server", proxy.url]) == 1, "nobody vouches for it"
        if how.isupper():
            monkeypatch.setenv(how, str(folder / "cert.pem"))
        elif how == "--ca-file":
            words += [how, str(folder / "cert.pem")]
        else:
            config = tmp_path / "config.toml"
            config.write_text(f'ca_file = "{folder / "cert.pem"}"')
            monkeypatch.setenv("UNIMIC_CONFIG", str(config))
        assert main([*words, "--server", proxy.url]) == 0
        check_every_way(proxy.url)
        assert {path.startswith(PREFIX) for path in proxy.seen} == {True}


def test_a_broken_ca_file_is_named_with_its_remedy(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("nothing")
    for file, complaint in ((broken, "no certificate"), (tmp_path / "none.pem", "No such file")):
        monkeypatch.setenv("SSL_CERT_FILE", str(file))
        with pytest.raises(ConfigError, match=f"{file}.*{complaint}.*--ca-file"):
            open_transport("https://127.0.0.1:9", None, 2.0)
        with pytest.raises(ConfigError, match=f"{file}.*{complaint}.*--ca-file"):
            open_link("https://127.0.0.1:9", None, 2.0)
