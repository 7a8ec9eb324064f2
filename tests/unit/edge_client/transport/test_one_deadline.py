"""A time-out is a total: whatever a server does, an exchange ends when its time is up."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from edge_client.transport.base import within
from edge_client.transport.http import HttpTransport
from edge_client.transport.links import open_link
from shared_protocol.errors import UnimicError
from shared_protocol.tasks import Task

TIMEOUT, SLACK = 0.6, 1.5
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.unimic-stream\r\n\r\n"
MODES: dict[str, tuple[bytes, bytes]] = {
    "says nothing": (b"", b""),
    "a byte at a time of its head": (b"", b"H"),
    "endless headers": (b"HTTP/1.1 200 OK\r\n", b"a: b\r\n"),
    "endless continuing": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "a byte at a time of its body": (HEAD + b"Content-Length: 9999\r\n\r\n", b" "),
    "a body without end": (HEAD + b"\r\n", b" "),
    "chunks without end": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "a stream without end": (STREAM, b"\x01"),
}
"""What it sends at once, and then again and again."""


class Dripping:
    """A server that never comes to an end."""

    def __init__(self, first: bytes, drop: bytes, place: str | None = None) -> None:
        if place is None:
            self._listener = socket.create_server(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        else:
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(place)
            self._listener.listen()
        self._first, self._drop, self._over = first, drop, threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                threading.Thread(
                    target=self._serve, args=(self._listener.accept()[0],), daemon=True
                ).start()

    def _serve(self, link: socket.socket) -> None:
        with suppress(OSError), link:
            link.sendall(self._first)
            while not self._over.wait(0.05):
                if self._drop:
                    link.sendall(self._drop)

    def close(self) -> None:
        """End all of it."""
        self._over.set()
        self._listener.close()


@pytest.fixture
def serve() -> Iterator[Callable[..., Dripping]]:
    servers: list[Dripping] = []

    def start(*arguments: bytes, place: str | None = None) -> Dripping:
        servers.append(Dripping(*arguments, place=place))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def took(work: Callable[[], object]) -> float:
    """Seconds until it ends in an error of ours."""
    started = time.monotonic()
    with pytest.raises(UnimicError):
        work()
    return time.monotonic() - started


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("what", ["exchange", "info", "bundle"])
def test_an_exchange_ends_when_its_time_is_up(
    serve: Callable[..., Dripping], what: str, mode: str
) -> None:
    server = serve(*MODES[mode])
    with HttpTransport(f"http://{server.address}", timeout=TIMEOUT) as link:
        work: dict[str, Callable[[], object]] = {
            "exchange": lambda: link.exchange(Task.T2I, b"x", "k", lambda done, total: None),
            "info": link.info,
            "bundle": lambda: link.bundle("a" * 64),
        }
        cancel = 2.0 if what == "exchange" else 0.0  # the work is to be ended there, too
        assert took(work[what]) < TIMEOUT + cancel + SLACK


def test_a_file_that_hardly_moves_is_given_up(serve: Callable[..., Dripping]) -> None:
    class Sink:
        size = 0

        def write(self, chunk: bytes) -> None:
            self.size += len(chunk)

        def restart(self) -> None:
            self.size = 0

    server = serve(HEAD + b"Content-Length: 99999999\r\n\r\n", b"x")
    with HttpTransport(f"http://{server.address}", timeout=TIMEOUT) as link:
        assert took(lambda: link.download("a" * 64, "f", Sink(), 99_999_999)) < TIMEOUT + SLACK


def test_a_socket_file_has_the_same_limit(serve: Callable[..., Dripping], tmp_path: Path) -> None:
    serve(b"", b"H", place=str(tmp_path / "s"))
    with HttpTransport(f"unix:{tmp_path / 's'}", timeout=TIMEOUT) as link:
        assert took(link.info) < TIMEOUT + SLACK


@pytest.mark.parametrize("scheme", ["http", "https", "tls"])
def test_a_link_opens_in_time_or_not_at_all(serve: Callable[..., Dripping], scheme: str) -> None:
    server = serve(b"", b"H")
    limit = TIMEOUT + SLACK + 1.0  # closing a WebSocket takes one more
    assert took(lambda: open_link(f"{scheme}://{server.address}", None, TIMEOUT)) < limit


def test_a_frame_that_drips_in_does_not_renew_its_time(serve: Callable[..., Dripping]) -> None:
    server = serve(b"\xff\x7f", b"x")
    link = open_link(f"tcp://{server.address}", None, TIMEOUT)
    started = time.monotonic()
    with pytest.raises((TimeoutError, UnimicError)):
        link.receive(TIMEOUT)
    assert time.monotonic() - started < TIMEOUT + SLACK
    link.close()


def test_a_name_that_is_looked_up_for_ever_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: over.wait(20))
    try:
        with HttpTransport("http://name.invalid", timeout=TIMEOUT) as link:
            assert took(link.info) < TIMEOUT + SLACK
        assert took(lambda: open_link("tcp://name.invalid:1", None, TIMEOUT)) < TIMEOUT + SLACK
    finally:
        over.set()


def test_what_comes_too_late_is_closed() -> None:
    closed = threading.Event()
    with pytest.raises(TimeoutError):
        within(0.05, lambda: time.sleep(0.3), lambda late: closed.set())
    assert closed.wait(2)
