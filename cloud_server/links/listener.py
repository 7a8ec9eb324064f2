"""A TCP listener of its own, with or without TLS, that carries bare frames for thin links.

It does not know what the frames say.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from contextlib import suppress
from pathlib import Path

from cloud_server.links.connections import ACCEPTED_AT_ONCE, Connections, address_of
from cloud_server.serving.conversation import Conversations
from cloud_server.serving.frame_link import LinkClosedError
from shared_protocol.errors import ConfigError
from shared_protocol.session.framing import FrameCutter, framed

_CHUNK = 1 << 14
_CLOSE_S = 2.0
_HANDSHAKE_S = 10.0


class StreamLink:
    """A stream of bytes as a `FrameLink`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._cutter = FrameCutter()
        self._frames: deque[bytes] = deque()

    async def receive(self) -> bytes:
        """See `FrameLink.receive`."""
        while not self._frames:
            try:
                chunk = await self._reader.read(_CHUNK)
            except OSError as error:
                raise LinkClosedError from error
            if not chunk:
                raise LinkClosedError
            self._frames.extend(self._cutter.feed(chunk))
        return self._frames.popleft()

    async def send(self, frame: bytes) -> None:
        """See `FrameLink.send`."""
        try:
            self._writer.write(framed(frame))
            await self._writer.drain()
        except OSError as error:
            raise LinkClosedError from error


class Listener:
    """Serves conversations on a port of their own.

    Args:
        conversations: serves them.
        connections: counts them.
        certificate: PEM file with the certificate chain; None = no TLS.
        key: PEM file with its private key; None = it is in the same file.

    Raises:
        ConfigError: the files are no certificate and key.
    """

    def __init__(
        self,
        conversations: Conversations,
        connections: Connections,
        certificate: Path | None,
        key: Path | None,
    ) -> None:
        self._conversations = conversations
        self._connections = connections
        self._tls = None if certificate is None else _context(certificate, key)
        self._server: asyncio.Server | None = None
        self._links: set[asyncio.Task[None]] = set()

    async def start(self, host: str, port: int) -> str:
        """Listen; returns the address, such as tcp://127.0.0.1:8401.

        Raises:
            ConfigError: the address cannot be listened on.
        """
        try:
            self._server = await asyncio.start_server(
                self._serve,
                host,
                port,
                ssl=self._tls,
                ssl_handshake_timeout=None if self._tls is None else _HANDSHAKE_S,
                backlog=ACCEPTED_AT_ONCE,
            )
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {host}:{port}: {error.strerror}",
                "choose another --tcp port; 0 takes a free one",
            ) from error
        scheme = "tcp" if self._tls is None else "tls"
        taken = self._server.sockets[0].getsockname()[1]
        return f"{scheme}://[{host}]:{taken}" if ":" in host else f"{scheme}://{host}:{taken}"

    async def close(self) -> None:
        """Take no more connections and end those that there are."""
        if self._server is not None:
            self._server.close()
        for link in list(self._links):
            link.cancel()
        if self._links:
            await asyncio.wait(self._links, timeout=_CLOSE_S)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "asyncio calls this in a task of its own"
        self._links.add(task)
        address = address_of(writer.get_extra_info("peername"))
        try:
            if self._connections.admit(writer.transport, address):
                link = StreamLink(reader, writer)
                await self._conversations.serve(link, address=address)
        except asyncio.CancelledError:
            return  # the server is stopping, and nobody awaits this task
        finally:
            self._links.discard(task)
            self._connections.gone(writer.transport)
            writer.close()
            with suppress(OSError, asyncio.CancelledError, TimeoutError):
                await asyncio.wait_for(writer.wait_closed(), _CLOSE_S)


def _context(certificate: Path, key: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"cannot use {certificate} as a certificate: {error}",
            "name PEM files with --tls-cert and --tls-key",
        ) from error
    return context
