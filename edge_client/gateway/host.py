"""Hosts the gateway on uvicorn: socket, ready file, signals.

It does not know what is served.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType

import uvicorn

from edge_client.config import Settings
from edge_client.gateway.app import create_app
from edge_client.gateway.service import Gateway
from edge_client.gateway.settings import GatewaySettings
from edge_client.session.session import Session
from shared_protocol.errors import ConfigError
from shared_protocol.files import write_atomically

_BACKLOG = 128
_KEEP_ALIVE_S = 30
_LAST_REPLIES_S = 3


class Host(uvicorn.Server):
    """A server that says where it listens once it does, and ends its work when it is told to."""

    def __init__(self, config: uvicorn.Config, gateway: Gateway, announce: Callable[[str], None]):
        super().__init__(config)
        self._gateway = gateway
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets)
        if self.started:
            ready = self._gateway.settings.ready_file
            if ready is not None:
                _write(ready, self._gateway.url)
            self._announce(self._gateway.url)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal stops in good order, the second at once."""
        if self.should_exit:
            self.force_exit = True
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End what is under way, so that nobody is kept waiting."""
        self._gateway.jobs.close()
        await super().shutdown(sockets)


def serve(settings: GatewaySettings, edge: Settings, announce: Callable[[str], None]) -> None:
    """Serve until a signal comes.

    Args:
        settings: how it listens and what it lets in.
        edge: whom the sessions talk to.
        announce: told the URL once it listens.

    Raises:
        ConfigError: the address cannot be listened on, or a setting cannot be used.
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    gateway = build_gateway(settings, edge)
    with _listening(settings) as listener:
        gateway.url = _url_of(listener, settings.host)
        config = uvicorn.Config(
            create_app(gateway),
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            ws="none",
            lifespan="on",
            backlog=_BACKLOG,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=_LAST_REPLIES_S,
        )
        _remove(settings.ready_file)
        try:
            Host(config, gateway, announce).run(sockets=[listener])
        finally:
            _remove(settings.ready_file)


def build_gateway(settings: GatewaySettings, edge: Settings) -> Gateway:
    """A gateway to the cloud that `edge` names; its first session is made, and talks to nobody."""

    def make(bundle: object = edge.bundle) -> Session:
        return Session(
            edge.server,
            api_key=edge.api_key,
            bundle=bundle,  # type: ignore[arg-type]
            timeout=edge.timeout,
            compute=edge.compute,
        )

    first = make()
    first.bundle.image_tokenizer()
    return Gateway(settings, lambda: make(first.bundle), first.bundle, edge.server)


def _listening(settings: GatewaySettings) -> socket.socket:
    try:
        found = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, address = found[0][0], found[0][4]
        plain = socket.create_server(address[:2], family=family, backlog=_BACKLOG)
        # By this name asyncio knows connections whose small writes must not wait for one another.
        return socket.socket(plain.family, plain.type, socket.IPPROTO_TCP, plain.detach())
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {settings.host}:{settings.port}: {error.strerror}",
            "choose another --host or --port; --port 0 takes a free one",
        ) from error


def _url_of(listener: socket.socket, host: str) -> str:
    port = listener.getsockname()[1]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _write(path: Path, url: str) -> None:
    try:
        write_atomically(path, url + "\n")
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from error


def _remove(path: Path | None) -> None:
    if path is not None:
        with suppress(FileNotFoundError):
            path.unlink()
