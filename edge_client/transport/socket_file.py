"""Connections to a socket file, as HTTP takes them.

It does not know what travels.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpcore

from edge_client.transport.stream_links import connected


class FileStream(httpcore.NetworkStream):
    """A connection to the server behind a file.

    Differs from httpcore's own, which leaves its socket open where connecting fails.
    """

    def __init__(self, path: str, timeout: float | None) -> None:
        with _translated(httpcore.ConnectTimeout, httpcore.ConnectError):
            self._socket = connected(path, timeout)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        with _translated(httpcore.ReadTimeout, httpcore.ReadError):
            self._socket.settimeout(timeout)
            return self._socket.recv(max_bytes)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        with _translated(httpcore.WriteTimeout, httpcore.WriteError):
            self._socket.settimeout(timeout)
            self._socket.sendall(buffer)

    def close(self) -> None:
        self._socket.close()

    def get_extra_info(self, info: str) -> object:
        return self._socket if info == "socket" else None


@contextmanager
def _translated(late: type[Exception], broken: type[Exception]) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise late(str(error)) from error
    except OSError as error:
        raise broken(str(error)) from error
