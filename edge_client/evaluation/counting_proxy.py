"""A TCP proxy in a thread: counts every byte both ways, and breaks connections on demand."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

_CHUNK = 1 << 14


class CountingProxy:
    """Listens on a free loopback port and passes everything on.

    Args:
        targets: ports to pass on to; each new connection takes the next one.
        idle_s: connections that are silent for so long are cut; None = never.

    Attributes:
        sent, received: bytes from and to clients, of all connections.
        connections: how many there were.
        cut_up_after, cut_down_after: cut the connection once so many more bytes have passed that
            way; then become None. What is beyond is lost.
    """

    def __init__(self, targets: int | Sequence[int], idle_s: float | None = None) -> None:
        self.targets = [targets] if isinstance(targets, int) else list(targets)
        self.idle_s = idle_s
        self.sent = 0
        self.received = 0
        self.connections = 0
        self.cut_up_after: int | None = None
        self.cut_down_after: int | None = None
        self._lock = threading.Lock()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._closing = False

    def __enter__(self) -> CountingProxy:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing = True
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """Break all connections."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            _break(*pair)

    @property
    def counted(self) -> tuple[int, int]:
        """(sent, received) once nothing moves any more."""
        seen = (-1, -1)
        while seen != (self.sent, self.received):
            seen = self.sent, self.received
            time.sleep(0.03)
        return seen

    def _accept(self) -> None:
        while not self._closing:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            port = self.targets[self.connections % len(self.targets)]
            self.connections += 1
            try:
                server = socket.create_connection(("127.0.0.1", port), 5)
            except OSError:
                client.close()
                continue
            for each in (client, server):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                each.settimeout(self.idle_s)
            with self._lock:
                self._pairs.append((client, server))
            for ends in ((client, server, self._up), (server, client, self._down)):
                threading.Thread(target=self._carry, args=ends, daemon=True).start()

    def _carry(
        self, source: socket.socket, sink: socket.socket, count: Callable[[bytes], bytes]
    ) -> None:
        with suppress(OSError, TimeoutError):
            while chunk := source.recv(_CHUNK):
                passed = count(chunk)
                sink.sendall(passed)
                if len(passed) < len(chunk):
                    break
        _break(source, sink)

    def _up(self, chunk: bytes) -> bytes:
        with self._lock:
            self.sent += len(chunk)
            if self.cut_up_after is None:
                return chunk
            passed = chunk[: self.cut_up_after]
            self.cut_up_after = None if len(passed) < len(chunk) else self.cut_up_after - len(chunk)
            return passed

    def _down(self, chunk: bytes) -> bytes:
        with self._lock:
            if self.cut_down_after is not None:
                passed = chunk[: self.cut_down_after]
                left = self.cut_down_after - len(chunk)
                self.cut_down_after = None if len(passed) < len(chunk) else left
            else:
                passed = chunk
            self.received += len(passed)
            return passed


def _break(*sockets: socket.socket) -> None:
    for each in sockets:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()
