"""`cloud-server pipe`: frames from standard input to a server, and its frames to standard output.

It does not know what the frames say. It is the far end of `edge-client --server exec:COMMAND`: the
command is whatever brings a pipe to this program, such as ssh or a modem's.
"""

from __future__ import annotations

import os
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from typing import IO
from urllib.parse import SplitResult, urlsplit

from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from shared_protocol.errors import ConfigError, TransportError, UnimicError, printable
from shared_protocol.session.framing import MAX_FRAME, FrameCutter, framed
from shared_protocol.session.paths import SESSION_PATH

_CHUNK = 1 << 14
_CONNECT_S = 10.0
_SCHEMES = ("http", "https", "tcp", "tls", "unix")
_LIKE_THIS = "write it like tcp://host:8401"


def relay(server: str, given: IO[bytes] | None = None, taken: IO[bytes] | None = None) -> None:
    """Carry bytes both ways until either end is gone.

    Args:
        server: http, https, tcp or tls address, or unix:FILE.
        given, taken: streams to read and write; None = standard input and output.

    Raises:
        ConfigError: another kind of address.
        TransportError: the server cannot be reached.
        BadMessageError, LimitError: what is given holds no frames.
    """
    scheme = _parts(server).scheme
    if scheme not in _SCHEMES:
        raise ConfigError(f"{server!r} is no server", f"known are {', '.join(_SCHEMES)}")
    source = given or sys.stdin.buffer
    sink = taken or sys.stdout.buffer
    try:
        if scheme in ("http", "https", "unix"):
            _over_websocket(server, source, sink)
        else:
            _over_socket(server, source, sink)
    except (OSError, WebSocketException) as error:
        fault = f"cannot reach {server}: {printable(str(error), 200)}"
        raise TransportError(fault, "start it with cloud-server, or check --server") from error


def _over_websocket(server: str, source: IO[bytes], sink: IO[bytes]) -> None:
    plain = _socket_file(server.removeprefix("unix:")) if server.startswith("unix:") else None
    base = server.rstrip("/") if plain is None else "http://localhost"
    with connect(
        "ws" + base.removeprefix("http") + SESSION_PATH,
        sock=plain,
        proxy=True if plain is None else None,
        user_agent_header=None,
        compression=None,
        open_timeout=_CONNECT_S,
        ping_interval=None,
        max_size=MAX_FRAME,
    ) as link:
        faults: list[UnimicError] = []
        _in_background(lambda: _frames_up(source, link, faults))
        for message in link:
            if isinstance(message, bytes):
                sink.write(framed(message))
                sink.flush()
    if faults:
        raise faults[0]


def _socket_file(path: str) -> socket.socket:
    plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    plain.settimeout(_CONNECT_S)
    try:
        plain.connect(path.removeprefix("//"))
    except OSError:
        plain.close()
        raise
    return plain


def _frames_up(source: IO[bytes], link: ClientConnection, faults: list[UnimicError]) -> None:
    cutter = FrameCutter()
    try:
        for chunk in _chunks(source):
            for frame in cutter.feed(chunk):
                link.send(frame)
    except UnimicError as error:  # where one frame ends is lost, and with it all that follow
        faults.append(error)
    link.close()


def _over_socket(server: str, source: IO[bytes], sink: IO[bytes]) -> None:
    with _connected(server) as link:
        _in_background(lambda: _bytes_up(source, link))
        while chunk := link.recv(_CHUNK):
            sink.write(chunk)
            sink.flush()


def _connected(server: str) -> socket.socket:
    """A socket to a tcp or tls address, which is whoever calls this one's to close."""
    parts = _parts(server)
    if not parts.hostname or not parts.port:
        raise ConfigError(f"{server!r} names no host and port", _LIKE_THIS)
    link = socket.create_connection((parts.hostname, parts.port), _CONNECT_S)
    try:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if parts.scheme == "tls":
            context = ssl.create_default_context()
            link = context.wrap_socket(link, server_hostname=parts.hostname)
        link.settimeout(None)
    except BaseException:
        link.close()
        raise
    return link


def _parts(server: str) -> SplitResult:
    try:
        parts = urlsplit(server)
        _ = parts.port  # read here: it is checked when it is asked for
    except ValueError as error:
        raise ConfigError(f"{server!r} is no address: {error}", _LIKE_THIS) from error
    return parts


def _bytes_up(source: IO[bytes], link: socket.socket) -> None:
    for chunk in _chunks(source):
        link.sendall(chunk)
    link.shutdown(socket.SHUT_RDWR)


def _chunks(source: IO[bytes]) -> Iterator[bytes]:
    """What arrives, as it arrives."""
    while chunk := os.read(source.fileno(), _CHUNK):
        yield chunk


def _in_background(work: Callable[[], None]) -> None:
    """Run `work` beside this thread; when the link breaks there, it ends here as well."""

    def quietly() -> None:
        try:
            work()
        except (OSError, WebSocketException):
            return

    threading.Thread(target=quietly, daemon=True).start()
