"""Links that are streams of bytes: TCP, TLS, and a program's input and output.

It does not know what the frames say.
"""

from __future__ import annotations

import queue
import shlex
import socket
import subprocess
import threading
import time
from collections import deque
from contextlib import suppress
from urllib.parse import urlsplit

from edge_client.transport.base import LinkDownError, within
from shared_protocol.errors import BadMessageError, ConfigError, TransportError, printable
from shared_protocol.session.framing import FrameCutter, framed

_CHUNK = 1 << 14
_MOST_CHUNKS = 256
"""That wait to be cut into frames; a program that floods its output waits, too."""
_STOP_S = 2.0
_ENDING_S = 0.5


class _Frames:
    """Cuts what arrives into frames, and counts."""

    def __init__(self) -> None:
        self.sent = 0
        self.received = 0
        self._cutter = FrameCutter()
        self._waiting: deque[bytes] = deque()

    def take(self, chunk: bytes) -> None:
        self.received += len(chunk)
        try:
            self._waiting.extend(self._cutter.feed(chunk))
        except BadMessageError as error:
            fault = f"the other end speaks something else: {error.message}"
            raise TransportError(fault, "check --server") from error

    def taken_by(self, frame: bytes) -> int:
        """See `Link.taken_by`."""
        return len(framed(frame))

    def next(self) -> bytes | None:
        return self._waiting.popleft() if self._waiting else None


class SocketLink(_Frames):
    """See `Link`: tcp://host:port, or tls://host:port.

    Args:
        server: the address.
        timeout: seconds for the opening.
    """

    def __init__(self, server: str, timeout: float) -> None:
        super().__init__()
        self._server = server
        parts = urlsplit(server)
        if not parts.hostname or not parts.port:
            raise ConfigError(f"{server!r} names no host and port", "write it like tcp://host:8401")
        host, port, tls = parts.hostname, parts.port, parts.scheme == "tls"
        try:
            self._socket = within(
                timeout, lambda: _dialled(host, port, timeout, tls), lambda found: found.close()
            )
        except (OSError, UnicodeError) as error:  # UnicodeError: a name that no DNS takes
            reason = printable(str(error), 200)
            if "CERTIFICATE" in reason:
                from edge_client.transport.certificates import distrusted

                raise TransportError(*distrusted(server, reason)) from error
            fault = f"cannot reach {server}: {reason}"
            raise LinkDownError(fault, "start it with cloud-server --tcp PORT") from error

    def send(self, frame: bytes) -> None:
        """See `Link.send`."""
        data = framed(frame)
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise self._broken(str(error)) from error
        self.sent += len(data)

    def receive(self, timeout: float) -> bytes:
        """See `Link.receive`."""
        deadline = time.monotonic() + timeout
        while (frame := self.next()) is None:
            try:
                self._socket.settimeout(_left(deadline))
                chunk = self._socket.recv(_CHUNK)
            except TimeoutError:
                raise
            except OSError as error:
                raise self._broken(str(error)) from error
            if not chunk:
                raise self._broken("it was closed")
            self.take(chunk)
        return frame

    def close(self) -> None:
        """See `Link.close`."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _broken(self, reason: str) -> LinkDownError:
        fault = f"the connection to {self._server} broke: {printable(reason, 200)}"
        return LinkDownError(fault, "try again; the server's log may say why")


def _left(deadline: float) -> float:
    """Seconds until then; raises `TimeoutError` for none."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _dialled(host: str, port: int, timeout: float, tls: bool) -> socket.socket:
    plain = socket.create_connection((host, port), timeout)
    try:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return _wrapped(plain, host) if tls else plain
    except BaseException:
        plain.close()
        raise


def _wrapped(plain: socket.socket, host: str) -> socket.socket:
    from edge_client.transport.certificates import trusted  # slow to read, and rarely needed

    return trusted().wrap_socket(plain, server_hostname=host)


def connected(path: str, timeout: float | None) -> socket.socket:
    """A connection to the server behind a file; raises `OSError`."""
    plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    plain.settimeout(timeout)
    try:
        plain.connect(path)
    except OSError:
        plain.close()
        raise
    return plain


class CommandLink(_Frames):
    """See `Link`: exec:COMMAND starts a program whose input and output carry the frames.

    The command is split as a shell would, and no shell runs it. What the program writes to its
    standard error is the user's to see.

    Args:
        server: the address, such as "exec:ssh host cloud-server pipe --server tcp://127.0.0.1:8401".
    """

    def __init__(self, server: str) -> None:
        super().__init__()
        self._command = server.removeprefix("exec:")
        try:
            words = shlex.split(self._command)
        except ValueError as error:
            raise ConfigError(f"cannot read the command {self._command!r}: {error}") from error
        if not words:
            raise ConfigError("exec: names no command", "write it like 'exec:ssh host …'")
        try:
            self._process = subprocess.Popen(
                words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
            )
        except OSError as error:
            fault = f"cannot start {words[0]}: {error.strerror}"
            raise TransportError(fault, "check the command behind exec:") from error
        except ValueError as error:
            raise ConfigError(f"cannot read the command: {error}", "check it") from error
        self._chunks: queue.Queue[bytes] = queue.Queue(_MOST_CHUNKS)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None, "a pipe was asked for"
        with suppress(OSError, ValueError):
            while chunk := self._process.stdout.read(_CHUNK):
                self._chunks.put(chunk)
        self._chunks.put(b"")

    def send(self, frame: bytes) -> None:
        """See `Link.send`."""
        assert self._process.stdin is not None, "a pipe was asked for"
        data = framed(frame)
        try:
            self._process.stdin.write(data)
        except (OSError, ValueError) as error:
            raise self._broken() from error
        self.sent += len(data)

    def receive(self, timeout: float) -> bytes:
        """See `Link.receive`."""
        deadline = time.monotonic() + timeout
        while (frame := self.next()) is None:
            try:
                chunk = self._chunks.get(timeout=_left(deadline))
            except queue.Empty:
                raise TimeoutError from None
            if not chunk:
                self._chunks.put(b"")
                raise self._broken()
            self.take(chunk)
        return frame

    def close(self) -> None:
        """See `Link.close`; the program is stopped if it does not end by itself."""
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _broken(self) -> LinkDownError:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_ENDING_S)  # its output closes a moment before it is gone
        code = self._process.poll()
        ended = "closed its output" if code is None else f"ended with exit code {code}"
        return LinkDownError(f"{self._command!r} {ended}", "run it by hand to see why")
