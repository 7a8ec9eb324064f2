"""Counts what an HTTP connection really carries: request lines, headers, chunk frames and bodies.

It does not know UniMIC's messages. Counted is what HTTP writes to and reads from its connection,
so TLS records and TCP/IP headers are not in it.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable

import httpcore
import httpx


class _Stream(httpcore.NetworkStream):
    """A connection whose bytes are added to a handler's."""

    def __init__(self, inner: httpcore.NetworkStream, handler: CountingHandler) -> None:
        self._inner = inner
        self._handler = handler

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data = self._inner.read(max_bytes, timeout)
        self._handler.received += len(data)
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, timeout)
        self._handler.sent += len(buffer)

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, timeout), self._handler)

    def get_extra_info(self, info: str) -> object:
        return self._inner.get_extra_info(info)


class _Backend(httpcore.NetworkBackend):
    def __init__(self, handler: CountingHandler) -> None:
        self._inner = httpcore.SyncBackend()
        self._handler = handler

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        stream = self._inner.connect_tcp(host, port, timeout, local_address, socket_options)
        return _Stream(stream, self._handler)


class CountingHandler(httpx.HTTPTransport):
    """Give it to `HttpTransport(handler=...)`; `sent` and `received` grow with every byte."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = 0
        self.received = 0
        self._pool = httpcore.ConnectionPool(
            ssl_context=httpx.create_ssl_context(), network_backend=_Backend(self)
        )
