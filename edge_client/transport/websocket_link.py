"""A link over WebSocket, on the port of the HTTP interface.

It does not know what the frames say.
"""

from __future__ import annotations

import socket
import ssl
from contextlib import ExitStack
from typing import Any

from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidProxy,
    InvalidStatus,
    ProxyError,
    WebSocketException,
)
from websockets.sync.client import ClientConnection, connect

from edge_client.transport.base import ORIGIN, LinkDownError, NoSessionsError, within
from edge_client.transport.certificates import distrusted, trusted
from edge_client.transport.proxies import dead, proxy_for, refused
from edge_client.transport.stream_links import connected
from shared_protocol.errors import (
    OverloadedError,
    TransportError,
    UnauthorizedError,
    printable,
)
from shared_protocol.http.contract import RETRY_AFTER
from shared_protocol.session.framing import MAX_FRAME
from shared_protocol.session.paths import ROUTE_HEADER, SESSION_PATH

_CLOSE_S = 1.0
_SHORT, _SHORT_HEAD, _LONG_HEAD = 125, 2, 4
"""Longest message whose length stands in the first two bytes of a frame from a server, and bytes
before that and before longer ones."""
_BUSY = (429, 502, 503, 504)
_LOST, _LOST_S = 500, 0.5
"""What some proxies answer that have lost their server, and seconds until they may have another."""
_DEAD = (ConnectionRefusedError, socket.gaierror)
"""What connecting ends in where nobody listens; with a proxy before the server, it is the proxy."""


class _CountingSocket:
    """A socket that counts what passes through it."""

    def __init__(self, inner: socket.socket) -> None:
        self._inner = inner
        self.sent = 0
        self.received = 0

    def recv(self, size: int) -> bytes:
        data = self._inner.recv(size)
        self.received += len(data)
        return data

    def sendall(self, data: bytes) -> None:
        self._inner.sendall(data)
        self.sent += len(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class _CountingConnection(ClientConnection):
    """A connection over a counting socket."""

    def __init__(self, sock: Any, *arguments: Any, **options: Any) -> None:
        self.counter = _CountingSocket(sock)
        super().__init__(self.counter, *arguments, **options)  # type: ignore[arg-type]


class WebSocketLink:
    """See `Link`.

    Args:
        server: http or https address of the server, or unix:FILE.
        api_key: sent as a bearer token at the opening.
        timeout: seconds for the opening.
        route: see `route_of`; "" = none is told.

    Raises:
        LinkDownError, NoSessionsError, TransportError: see `open_link`.
        UnauthorizedError: the server wants another key.
    """

    def __init__(self, server: str, api_key: str | None, timeout: float, route: str = "") -> None:
        file = server.removeprefix("unix:") if server.startswith("unix:") else None
        url = "ws" + ("://localhost" if file else server.removeprefix("http")) + SESSION_PATH
        headers = {**ORIGIN.get().headers, **({ROUTE_HEADER: route} if route else {})}
        headers |= {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._server = server
        self._proxy = None if file else proxy_for(server)
        self._open = ExitStack()
        try:
            opened = within(
                timeout,
                lambda: connect(
                    url,
                    sock=connected(file, timeout) if file else None,
                    ssl=trusted() if url.startswith("wss:") else None,
                    additional_headers=headers or None,
                    user_agent_header=None,
                    compression=None,
                    proxy=self._proxy.url if self._proxy else None,
                    open_timeout=timeout,
                    close_timeout=_CLOSE_S,
                    ping_interval=None,
                    max_size=MAX_FRAME,
                    create_connection=_CountingConnection,
                ),
                lambda late: late.close(),
            )
            self._socket = self._open.enter_context(opened)
        except (OSError, WebSocketException, ValueError) as error:
            raise self._not_open(error) from error

    def _not_open(self, error: Exception) -> Exception:
        """What an error at the opening means."""
        server, reason = self._server, _reason(error)
        if isinstance(error, InvalidStatus):
            asked = error.response.headers.get(RETRY_AFTER, "")
            return self._refused(error.response.status_code, asked)
        if isinstance(error, (InvalidProxy, ProxyError)) and self._proxy is not None:
            tunnel = refused(self._proxy, server, reason)  # plain HTTP may need none
            return NoSessionsError(tunnel.message, tunnel.remedy)
        if isinstance(error, InvalidHandshake):
            fault = f"{server} answered the opening of a conversation with something else"
            return NoSessionsError(f"{fault}: {reason}", "check --server")
        if isinstance(error, ssl.SSLCertVerificationError):
            return TransportError(*distrusted(server, reason))
        if self._proxy is not None and isinstance(error, _DEAD):
            return dead(self._proxy, server, reason)
        flag = server.replace("unix:", " --unix ") if server.startswith("unix:") else ""
        remedy = f"start it with cloud-server{flag}, or check --server"
        return LinkDownError(f"cannot reach {server}: {reason}", remedy)

    @property
    def sent(self) -> int:
        """See `Link`."""
        return self._counter.sent

    @property
    def received(self) -> int:
        """See `Link`."""
        return self._counter.received

    @property
    def _counter(self) -> _CountingSocket:
        assert isinstance(self._socket, _CountingConnection), "made by `connect` as it was told"
        return self._socket.counter

    def send(self, frame: bytes) -> None:
        """See `Link.send`."""
        try:
            self._socket.send(frame)
        except (ConnectionClosed, OSError) as error:
            raise self._broken(error) from error

    def receive(self, timeout: float) -> bytes:
        """See `Link.receive`."""
        try:
            data = self._socket.recv(timeout)
        except (ConnectionClosed, OSError) as error:
            if isinstance(error, TimeoutError):
                raise
            raise self._broken(error) from error
        if isinstance(data, str):
            raise NoSessionsError(f"{self._server} sends text where frames travel", "check it")
        return bytes(data)

    def taken_by(self, frame: bytes) -> int:
        """See `Link.taken_by`; the server masks nothing and compresses nothing."""
        return len(frame) + (_SHORT_HEAD if len(frame) <= _SHORT else _LONG_HEAD)

    def close(self) -> None:
        """See `Link.close`."""
        self._open.close()

    def _broken(self, error: Exception) -> LinkDownError:
        return LinkDownError(
            f"the connection to {self._server} broke: {_reason(error)}",
            "try again; the server's log may say why",
        )

    def _refused(self, status: int, asked: str) -> Exception:
        if status == 401:
            return UnauthorizedError(
                "the key is missing or wrong", "set UNIMIC_API_KEY or give --api-key"
            )
        if status in _BUSY:
            seconds = float(asked) if asked.isdecimal() and len(asked) < 6 else 1.0
            return OverloadedError(f"{self._server} answered {status}", "retry later", seconds)
        return NoSessionsError(
            f"{self._server} answered {status} to the opening of a conversation",
            "it may be an older server, or a proxy that lets no WebSocket through",
            retry_after=_LOST_S if status == _LOST else None,
        )


def _reason(error: Exception) -> str:
    return printable(str(error) or type(error).__name__, 200)
