"""Proxies, redirects and other services between the ends are told as what they are."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from edge_client.exchange.best import BestExchange
from edge_client.exchange.coded_exchange import Stopwatch
from edge_client.transport import proxies
from edge_client.transport.http import HttpTransport
from edge_client.transport.links import open_link
from edge_client.transport.proxies import proxy_for
from shared_protocol.bundles.find import load_bundle
from shared_protocol.errors import ConfigError, NotFoundError, TransportError, UnimicError
from shared_protocol.http.contract import NO_PATH
from shared_protocol.messages import Request
from shared_protocol.tasks import Task

DEAD = "http://127.0.0.1:9"
ELSEWHERE = "http://192.0.2.1:8400"
"""An address that no machine has: whoever answers for it is a proxy."""


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http", "https", "all", "no"):
        monkeypatch.delenv(f"{name}_proxy", raising=False)
        monkeypatch.delenv(f"{name.upper()}_PROXY", raising=False)


@contextmanager
def answering(
    status: int, kind: str = "text/html", body: bytes = b"<p>", **headers: str
) -> Iterator[str]:
    """A server that gives one answer to everything."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_DELETE = do_CONNECT = do_GET  # noqa: N815 - http.server asks for these

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def by_post(server: str) -> None:
    with HttpTransport(server, timeout=2.0, sleep=lambda s: None) as transport:
        transport.exchange(Task.T2I, b"hello", "k")


def by_link(server: str) -> None:
    open_link(server, None, 2.0).close()


def by_turn(server: str) -> None:
    bundle = load_bundle()
    exchange = BestExchange(bundle, server, None, 2.0)
    try:
        exchange.hold(Request(Task.T2I, bundle.text_tokenizer.encode("a fox")), Stopwatch())
    finally:
        exchange.close()


def said(ask: Callable[[str], None], server: str, kind: type[UnimicError] = TransportError) -> str:
    with pytest.raises(kind) as caught:
        ask(server)
    assert caught.value.remedy
    return str(caught.value)


# ---------------------------------------------------------------------------- proxies


@pytest.mark.parametrize("ask", [by_post, by_link, by_turn])
@pytest.mark.parametrize(
    ("variable", "server"),
    [
        ("HTTP_PROXY", ELSEWHERE),
        ("http_proxy", ELSEWHERE),
        ("HTTPS_PROXY", "https://192.0.2.1"),
        ("ALL_PROXY", ELSEWHERE),
        ("ALL_PROXY", "https://192.0.2.1"),
    ],
)
def test_a_dead_proxy_reads_as_a_dead_proxy(
    monkeypatch: pytest.MonkeyPatch, ask: Callable[[str], None], variable: str, server: str
) -> None:
    monkeypatch.setenv(variable, "http://me:hush@127.0.0.1:9")
    told = said(ask, server)
    assert f"cannot reach the proxy http://127.0.0.1:9 that {variable} names" in told
    assert "NO_PROXY" in told
    assert "hush" not in told
    assert "cloud-server" not in told, "it is not the server that is to be started"


@pytest.mark.parametrize("ask", [by_post, by_link])
def test_socks_without_its_packages_is_told(
    monkeypatch: pytest.MonkeyPatch, ask: Callable[[str], None]
) -> None:
    monkeypatch.setattr(proxies, "find_spec", lambda name: None)
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1080")
    told = said(ask, ELSEWHERE, ConfigError)
    assert "the proxy socks5://127.0.0.1:1080 that ALL_PROXY names speaks SOCKS" in told
    assert "pip install socksio python-socks" in told


def test_a_proxy_that_wants_a_password_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(407) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy)
        monkeypatch.setenv("HTTP_PROXY", proxy)
        for server in ("https://192.0.2.1", ELSEWHERE):
            told = said(by_turn, server)
            assert "wants a user and a password" in told
            assert "USER:PASSWORD" in told


@pytest.mark.parametrize("value", ["ftp://p:1", "http://"])
def test_what_is_no_proxy_is_told_by_the_variable(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("HTTP_PROXY", value)
    assert "HTTP_PROXY names" in said(by_post, ELSEWHERE, ConfigError)


def test_a_proxy_without_a_scheme_speaks_http(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "proxy:3128")
    found = proxy_for(ELSEWHERE)
    assert found is not None
    assert found.url == "http://proxy:3128"


def test_neither_this_machine_nor_what_is_excepted_has_a_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ALL_PROXY", DEAD)
    monkeypatch.setenv("NO_PROXY", "example.org")
    for server in ("http://127.0.0.1:1", "unix:/a.sock", "https://example.org/unimic"):
        assert proxy_for(server) is None


# ---------------------------------------------------------------------------- other services


@pytest.mark.parametrize(
    ("status", "meaning"),
    [
        (200, "a web page: another service, or the login of a network"),
        (403, "a proxy or a firewall in between forbids it"),
        (413, "a proxy in between takes no body of 5 bytes (raise its limit"),
        (502, "a proxy in between does not reach the server"),
        (503, "a proxy in between has no server to ask"),
        (504, "a proxy in between got no answer in its own time limit"),
    ],
)
def test_a_page_of_html_is_told_as_what_it_means(status: int, meaning: str) -> None:
    with answering(status) as server:
        told = said(by_post, server)
    assert f"{server}/v1/t2i answered {status} (text/html)" in told
    assert meaning in told


@pytest.mark.parametrize("prefix", ["", "/unimic"])
def test_a_redirect_names_the_server_to_give(prefix: str) -> None:
    with answering(301, Location=f"https://h.org{prefix}/v1/t2i?x=1") as server:
        told = said(by_post, server)
    assert told.endswith(f"(give --server https://h.org{prefix})")


@pytest.mark.parametrize("target", ["https://h.org/login?next=/v1/t2i", "/login"])
def test_a_redirect_to_something_else_is_no_server(target: str) -> None:
    with answering(302, Location=target) as server:
        told = said(by_post, server)
    assert "login" in told
    assert "give --server" not in told


@pytest.mark.parametrize("path", ["/v1", "/docs"])
def test_a_path_that_does_not_belong_there_is_told(path: str) -> None:
    body = f'{{"code": "not_found", "message": "{NO_PATH}"}}'.encode()
    with answering(404, "application/json", body) as server:
        told = said(by_post, server + path, NotFoundError)
    assert told.endswith(f"below {server}{path} (leave out {path}: --server {server})")


def test_a_server_that_is_gone_is_still_told_as_such() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = f"http://127.0.0.1:{taken.getsockname()[1]}"
    assert "start it with cloud-server" in said(by_turn, server)


@pytest.mark.parametrize("server", ["http://127.0.0.1:8400", "https://localhost", "http://[::1]:1"])
def test_no_proxy_stands_before_this_machine(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(variable, "http://elsewhere.invalid:3128")
    assert proxy_for(server) is None
    assert proxy_for("http://other.invalid") is not None
