"""HTTP connections whose every byte is counted: request lines, heads, chunk frames and bodies.

It does not know what the bytes mean. What lies under HTTP (TLS records, TCP/IP heads) is not
counted; what a proxy is told to open a tunnel is.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import cast

import httpcore
import httpx

from edge_client.transport import proxies
from edge_client.transport.base import within
from edge_client.transport.certificates import trusted
from edge_client.transport.proxies import Proxy


class _Stream(httpcore.NetworkStream):
    """A connection whose bytes are added to a counter's."""

    def __init__(self, inner: httpcore.NetworkStream, counter: CountedHttp) -> None:
        self._inner = inner
        self._counter = counter

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data = self._inner.read(max_bytes, self._counter.left(timeout, httpcore.ReadTimeout))
        self._counter.received += len(data)
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, self._counter.left(timeout, httpcore.WriteTimeout))
        self._counter.sent += len(buffer)

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        left = self._counter.left(timeout, httpcore.ConnectTimeout)
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, left), self._counter)

    def get_extra_info(self, info: str) -> object:
        return self._inner.get_extra_info(info)


class _Backend(httpcore.NetworkBackend):
    """Opens such connections: to a proxy, to a socket file, or to wherever it is told."""

    def __init__(self, counter: CountedHttp, proxy: Proxy | None, socket_file: str | None) -> None:
        self._inner = httpcore.SyncBackend()
        self._counter = counter
        self._proxy = proxy
        self._file = socket_file

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        try:
            left = self._counter.left(timeout, httpcore.ConnectTimeout)
            if self._file is not None:
                return _Stream(_file_stream(self._file, left), self._counter)
            stream = self._connected(host, port, left, local_address, socket_options)
        except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
            if self._proxy is None:
                raise
            raise proxies.dead(self._proxy, "the server", str(error) or "no answer") from error
        return _Stream(stream, self._counter)

    def _connected(
        self,
        host: str,
        port: int,
        timeout: float | None,
        local_address: str | None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None,
    ) -> httpcore.NetworkStream:
        """A connection to one of the addresses of a name, all of them in one time limit."""

        def opened() -> httpcore.NetworkStream:
            return self._inner.connect_tcp(host, port, timeout, local_address, socket_options)

        if timeout is None:
            return opened()
        try:
            return within(timeout, opened, lambda stream: stream.close())
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(str(error)) from error


def _file_stream(path: str, timeout: float | None) -> httpcore.NetworkStream:
    from edge_client.transport.socket_file import FileStream  # few servers are behind a file

    return FileStream(path, timeout)


class _Body(httpx.SyncByteStream):
    """The body of a response, as it arrives."""

    def __init__(self, inner: Iterable[bytes]) -> None:
        self._inner = inner

    def __iter__(self) -> Iterator[bytes]:
        with _translated():
            yield from self._inner

    def close(self) -> None:
        close = getattr(self._inner, "close", None)
        if close is not None:
            close()


class CountedHttp(httpx.BaseTransport):
    """What `httpx.Client(transport=...)` takes; `sent` and `received` grow with every byte.

    Args:
        trust_env: use the proxies that the environment names.
        verify: load certificates; without, only plain HTTP can be spoken.
        socket_file: where every connection goes, whatever the address says; None = by address.

    Attributes:
        deadline: by `time.monotonic`, for all steps until it is set anew; None = none.
    """

    def __init__(
        self, trust_env: bool = True, verify: bool = True, socket_file: str | None = None
    ) -> None:
        self.sent = 0
        self.received = 0
        self._trust_env = trust_env
        self._tls = trusted() if verify else None
        self._file = socket_file
        self._pools: dict[Proxy | None, httpcore.ConnectionPool] = {}
        self.deadline: float | None = None

    def left(self, timeout: float | None, late: type[Exception]) -> float | None:
        """Seconds for one step: as many as it may take, and no more than there are for all.

        A limit for each step alone lets a server that sends one byte a second go on for ever.

        Raises:
            late: there are none left.
        """
        if self.deadline is None:
            return timeout
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise late("the time for all of it is up")
        return left if timeout is None else min(timeout, left)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; errors are httpx's, but for those of proxies, which are ours."""
        url = request.url
        asked = httpcore.Request(
            request.method,
            httpcore.URL(
                scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
            ),
            headers=request.headers.raw,
            content=cast(Iterable[bytes], request.stream),
            extensions=request.extensions,
        )
        proxy = proxies.proxy_for(str(url)) if self._trust_env else None
        try:
            with _translated():
                reply = self._pool(proxy).handle_request(asked)
        except httpx.ProxyError as error:
            assert proxy is not None, "proxies raise this, and nothing else does"
            raise proxies.refused(proxy, f"{url.scheme}://{url.host}", str(error)) from error
        body = _Body(cast(Iterable[bytes], reply.stream))
        return httpx.Response(
            reply.status, headers=reply.headers, stream=body, extensions=reply.extensions
        )

    def close(self) -> None:
        """Close all connections."""
        for pool in self._pools.values():
            pool.close()

    def _pool(self, proxy: Proxy | None) -> httpcore.ConnectionPool:
        if proxy not in self._pools:
            self._pools[proxy] = self._new_pool(proxy)
        return self._pools[proxy]

    def _new_pool(self, proxy: Proxy | None) -> httpcore.ConnectionPool:
        backend = _Backend(self, proxy, self._file)
        if proxy is None:
            return httpcore.ConnectionPool(ssl_context=self._tls, network_backend=backend)
        given = httpx.Proxy(proxy.url)
        bare = str(given.url)
        if proxy.socks:
            return httpcore.SOCKSProxy(
                bare, given.raw_auth, ssl_context=self._tls, network_backend=backend
            )
        return httpcore.HTTPProxy(
            bare, given.raw_auth, ssl_context=self._tls, network_backend=backend
        )


@contextmanager
def _translated() -> Iterator[None]:
    """httpcore's errors become httpx's of the same name."""
    try:
        yield
    except Exception as error:
        kind = getattr(httpx, type(error).__name__, None)
        if type(error).__module__.partition(".")[0] != "httpcore" or kind is None:
            raise
        raise kind(str(error)) from error
