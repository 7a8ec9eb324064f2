"""`cloud-server pipe` in this process: frames of two pipes to a server of every kind, and back."""

from __future__ import annotations

import os
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from server_process import make_certificate
from websockets.exceptions import WebSocketException
from websockets.sync.server import ServerConnection, serve, unix_serve

from cloud_server.links import pipe
from shared_protocol.errors import BadMessageError, ConfigError, LimitError, TransportError
from shared_protocol.session.framing import MAX_FRAME, FrameCutter, framed
from shared_protocol.session.paths import SESSION_PATH

WAIT_S = 30.0
HOST = "127.0.0.1"


class Relay:
    """A `relay` on a thread of its own, and the far ends of its two pipes."""

    def __init__(self, server: str, standard: pytest.MonkeyPatch | None = None) -> None:
        source, up = os.pipe()
        down, sink = os.pipe()
        self.up, self.down = os.fdopen(up, "wb", buffering=0), os.fdopen(down, "rb", buffering=0)
        self._source, self._sink = os.fdopen(source, "rb"), os.fdopen(sink, "wb")
        self._before = set(threading.enumerate())
        self.error: Exception | None = None
        streams: tuple[Any, ...] = (self._source, self._sink)
        if standard is not None:
            standard.setattr(sys, "stdin", SimpleNamespace(buffer=self._source))
            standard.setattr(sys, "stdout", SimpleNamespace(buffer=self._sink))
            streams = ()
        self._thread = threading.Thread(target=self._run, args=(server, *streams))
        self._thread.start()

    def _run(self, *args: Any) -> None:
        try:
            pipe.relay(*args)
        except Exception as error:
            self.error = error

    def frames(self, count: int) -> list[bytes]:
        """The next frames that come down."""
        cutter, found = FrameCutter(), []
        while len(found) < count:
            chunk = self.down.read(1 << 16)
            assert chunk, f"the relay ended after {found}"
            found += cutter.feed(chunk)
        return found

    def ended(self) -> Exception | None:
        """Wait until it has ended; what it raised."""
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive()
        return self.error

    @property
    def helpers(self) -> list[threading.Thread]:
        """The threads that it has begun and that still run."""
        new = set(threading.enumerate()) - self._before - {self._thread}
        return [each for each in new if "quietly" in each.name]

    def close(self) -> None:
        try:
            self.up.close()
            self.ended()
            for each in self.helpers:
                each.join(WAIT_S)
        finally:
            for stream in (self.down, self._source, self._sink):
                stream.close()


@contextmanager
def relaying(server: str, standard: pytest.MonkeyPatch | None = None) -> Iterator[Relay]:
    relay = Relay(server, standard)
    try:
        yield relay
    finally:
        relay.close()


class Echo:
    """Answers every frame with itself turned round; remembers requests and frames."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.headers: list[Any] = []
        self.frames: list[bytes | str] = []
        self.over = threading.Event()
        self.greeting: str | None = None

    def __call__(self, link: ServerConnection) -> None:
        assert link.request is not None
        self.paths.append(link.request.path)
        self.headers.append(link.request.headers)
        with suppress(WebSocketException):
            if self.greeting is not None:
                link.send(self.greeting)
            for message in link:
                self.frames.append(message)
                if message == b"bye":
                    break
                link.send(message[::-1])
        self.over.set()


@contextmanager
def websocket_server(echo: Echo, **options: Any) -> Iterator[int]:
    """Serves on a free port, or on `path`; yields the port."""
    path = options.pop("path", None)
    options |= {"max_size": None, "compression": "deflate"}
    server = unix_serve(echo, path, **options) if path else serve(echo, HOST, 0, **options)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield 0 if path else server.socket.getsockname()[1]
    finally:
        server.shutdown()
        thread.join(WAIT_S)


@contextmanager
def socket_server(
    serve_one: Callable[[socket.socket], None], tls: ssl.SSLContext | None = None
) -> Iterator[int]:
    """Serves one connection; yields the port."""
    listener = socket.create_server((HOST, 0))

    def run() -> None:
        with suppress(OSError):
            plain, _ = listener.accept()
            with plain if tls is None else tls.wrap_socket(plain, server_side=True) as link:
                serve_one(link)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(WAIT_S)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("tls_of_pipes"))


def server_tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    return context


@pytest.mark.parametrize("tail", ["", "/", "/below", "/below/"])
def test_each_frame_is_one_binary_message_and_each_message_one_frame(tail: str) -> None:
    echo = Echo()
    with websocket_server(echo) as port, relaying(f"http://{HOST}:{port}{tail}") as relay:
        whole = framed(b"first") + framed(b"") + framed(b"x" * 300)
        relay.up.write(whole[:9])
        assert relay.frames(2) == [b"tsrif", b""]
        relay.up.write(whole[9:])
        assert relay.frames(1) == [b"x" * 300]
        relay.up.close()
        assert relay.ended() is None
        assert echo.over.wait(WAIT_S)
        relay.close()
    assert echo.frames == [b"first", b"", b"x" * 300]
    assert echo.paths == [tail.rstrip("/") + SESSION_PATH]
    assert "User-Agent" not in echo.headers[0]
    assert "Sec-WebSocket-Extensions" not in echo.headers[0], "it makes short frames longer"


def test_without_streams_it_carries_standard_input_and_output(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address = websocket_server(Echo())
    with address as port, relaying(f"http://{HOST}:{port}", monkeypatch) as relay:
        relay.up.write(framed(b"abc"))
        assert relay.frames(1) == [b"cba"]


def test_text_is_no_frame_and_is_left_out() -> None:
    echo = Echo()
    echo.greeting = "hello"
    with websocket_server(echo) as port, relaying(f"http://{HOST}:{port}") as relay:
        relay.up.write(framed(b"abc"))
        assert relay.frames(1) == [b"cba"]


def test_the_longest_frame_passes_and_one_byte_more_ends_it_with_its_reason() -> None:
    class Grown(Echo):
        def __call__(self, link: ServerConnection) -> None:
            with suppress(WebSocketException):
                link.send(bytes(MAX_FRAME))
                link.recv()
                link.send(bytes(MAX_FRAME + 1))
                link.recv()

    with websocket_server(Grown()) as port, relaying(f"http://{HOST}:{port}") as relay:
        assert relay.frames(1) == [bytes(MAX_FRAME)]
        relay.up.write(framed(b"more"))
        error = relay.ended()
    assert isinstance(error, TransportError)
    assert f"cannot reach http://{HOST}:{port}: " in error.message


@pytest.mark.parametrize("slashes", ["", "//"])
def test_a_socket_file_is_reached_whatever_proxies_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slashes: str
) -> None:
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, f"http://{HOST}:9")
    echo, path = Echo(), tmp_path / "a.sock"
    with websocket_server(echo, path=str(path)), relaying(f"unix:{slashes}{path}") as relay:
        relay.up.write(framed(b"abc"))
        assert relay.frames(1) == [b"cba"]
    assert echo.paths == [SESSION_PATH]
    assert echo.headers[0]["Host"] == "localhost"


def test_a_server_behind_a_proxy_is_asked_for_there(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []
    with socket_server(lambda link: asked.append(link.recv(1000))) as port:
        for name in ("http_proxy", "https_proxy"):
            monkeypatch.setenv(name, f"http://{HOST}:{port}")
        for name in ("no_proxy", "NO_PROXY", "socks_proxy"):
            monkeypatch.delenv(name, raising=False)
        with relaying("http://cloud.test:8400") as relay:
            assert isinstance(relay.ended(), TransportError)
    assert asked[0].startswith(b"CONNECT cloud.test:8400 HTTP/1.1\r\n")


def test_bytes_go_both_ways_over_a_bare_socket_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    got, made = bytearray(), []
    plain_connection = socket.create_connection

    def connect(*args: Any) -> socket.socket:
        made.append(plain_connection(*args))
        return made[0]

    monkeypatch.setattr(socket, "create_connection", connect)

    def answer(link: socket.socket) -> None:
        while chunk := link.recv(100_000):
            got.extend(chunk)
            link.sendall(chunk.upper())

    with socket_server(answer) as port, relaying(f"tcp://{HOST}:{port}") as relay:
        relay.up.write(b"no frame at all")
        assert relay.down.read(100) == b"NO FRAME AT ALL"
        assert made[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY), "small frames go at once"
        assert made[0].gettimeout() is None, "a silent conversation is no fault"
        relay.up.write(b"x" * 40_000)
        down = b""
        while len(down) < 40_000:
            down += relay.down.read(100_000)
        assert down == b"X" * 40_000
        relay.up.close()
        assert relay.ended() is None
        relay.close()
    assert bytes(got) == b"no frame at all" + b"x" * 40_000
    assert made[0].fileno() == -1


@pytest.mark.parametrize("kind", ["tls", "https"])
def test_a_certificate_is_checked(
    certificate: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def answer(link: socket.socket) -> None:
        link.sendall(link.recv(100)[::-1])
        link.recv(100)

    def served() -> Any:
        tls = server_tls(certificate)
        return socket_server(answer, tls) if kind == "tls" else websocket_server(Echo(), ssl=tls)

    with served() as port, relaying(f"{kind}://{HOST}:{port}") as relay:
        error = relay.ended()
    assert isinstance(error, TransportError)
    assert "certificate" in error.message.lower()
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "cert.pem"))
    with served() as port, relaying(f"{kind}://{HOST}:{port}") as relay:
        relay.up.write(b"\x03abc")
        given = b"cba\x03" if kind == "tls" else b"\x03cba"
        assert relay.down.read(100) == given


def test_a_server_that_leaves_ends_it_and_what_is_sent_after_is_no_fault() -> None:
    with websocket_server(Echo()) as port, relaying(f"http://{HOST}:{port}") as relay:
        relay.up.write(framed(b"bye"))
        assert relay.ended() is None
        assert [each.daemon for each in relay.helpers] == [True], "the program can end without it"
        relay.up.write(framed(b"still here"))
        for each in relay.helpers:
            each.join(WAIT_S)
        assert relay.helpers == []


def test_a_socket_that_is_gone_ends_it_and_what_is_sent_after_is_no_fault() -> None:
    with socket_server(lambda link: None) as port, relaying(f"tcp://{HOST}:{port}") as relay:
        assert relay.ended() is None
        relay.up.write(b"still here")
        for each in relay.helpers:
            each.join(WAIT_S)
        assert relay.helpers == []


@pytest.mark.parametrize(
    "server",
    ["", "ftp://host:1", "host:8400", "http", "udp://host:1", "tcp:", "tcp://host", "tcp://:8401",
     "tls://host", "tcp://host:0", "tcp://host:99999", "tls://host:x", "http://[::1"],
)  # fmt: skip
def test_what_is_no_address_is_named_with_how_to_write_it(server: str) -> None:
    with relaying(server) as relay:
        error = relay.ended()
    assert isinstance(error, ConfigError)
    assert repr(server) in error.message
    assert error.remedy
    if server.startswith(("tcp", "tls")):
        assert "tcp://host:8401" in error.remedy


@pytest.mark.parametrize("server", ["http://{}:{}", "tcp://{}:{}", "unix:/no/such/file-{}{}"])
def test_a_server_that_is_not_there_is_named_with_a_remedy(server: str) -> None:
    with socket.create_server((HOST, 0)) as listener:
        address = server.format(HOST, listener.getsockname()[1])
    with relaying(address) as relay:
        error = relay.ended()
        assert relay.helpers == []
    assert isinstance(error, TransportError)
    assert f"cannot reach {address}: " in error.message
    assert "--server" in str(error.remedy)


@pytest.mark.parametrize(
    ("spoilt", "kind", "complaint"),
    [(b"\xff" * 4, BadMessageError, "too long"), (b"\xff\xff\x7f", LimitError, str(MAX_FRAME))],
)
def test_what_is_no_frame_ends_it_with_its_reason(
    spoilt: bytes, kind: type[Exception], complaint: str
) -> None:
    echo = Echo()
    with websocket_server(echo) as port, relaying(f"http://{HOST}:{port}") as relay:
        relay.up.write(framed(b"one") + spoilt + framed(b"two"))
        error = relay.ended()
        assert isinstance(error, kind)
        assert complaint in str(error)
        assert echo.over.wait(WAIT_S)
    assert echo.frames == [b"one"]
