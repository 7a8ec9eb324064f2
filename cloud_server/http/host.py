"""Hosts the application on uvicorn: socket, signals, ready file, exit.

It does not know what is served, nor how a model is loaded.
"""

from __future__ import annotations

import asyncio
import logging
import math
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

from cloud_server.http.app import create_app
from cloud_server.http.patient_protocol import Patience, PatientProtocol, PatientWebSocket
from cloud_server.links.connections import ACCEPTED_AT_ONCE, Connections, ListeningSocket
from cloud_server.links.listener import Listener
from cloud_server.links.unix_socket import UnixSocket
from cloud_server.serving.batcher import batching_queue
from cloud_server.serving.conversation import Conversations
from cloud_server.serving.loaded_model import LoadedModel
from cloud_server.serving.service import Service
from cloud_server.settings import Settings
from shared_protocol.errors import ConfigError
from shared_protocol.files import write_atomically
from shared_protocol.session.framing import MAX_FRAME

logger = logging.getLogger(__name__)

_LAST_REPLIES_S = 5
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Host(uvicorn.Server):
    """A server that refuses waiting work as soon as it is told to stop, and then ends cleanly.

    Attributes:
        listener: of bare frames; None = there is none.
        failure: what kept it from serving.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        service: Service,
        settings: Settings,
        urls: Sequence[str],
        announce: Callable[[str], None],
        conversations: Conversations,
    ) -> None:
        super().__init__(config)
        self.service = service
        self.conversations = conversations
        self.listener: Listener | None = None
        self._urls = list(urls)
        self._settings = settings
        self._announce = announce
        self._watching: asyncio.Task[None] | None = None
        self.failure: BaseException | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and load in the background."""
        await super().startup(sockets)
        try:
            await self._listen_to_frames()
        except ConfigError as error:
            self.failure = error
            self.should_exit = True
            return
        loop = asyncio.get_running_loop()
        # Windows has no such signal, and only the main thread may handle one.
        hangup = getattr(signal, "SIGHUP", None)
        if hangup is not None and threading.current_thread() is threading.main_thread():
            loop.add_signal_handler(hangup, self.service.keyring.reload)
        self._watching = loop.create_task(self._watch())

    async def _listen_to_frames(self) -> None:
        if self.listener is not None:
            settings = self._settings
            self._urls.append(await self.listener.start(settings.host, settings.tcp or 0))

    async def _watch(self) -> None:
        """Say so once the model is there, and write the ready file; stop if it cannot be loaded."""
        try:
            await self.service.ready()
            for url in self._urls:
                self._announce(f"listening on {url}")
            logger.info("ready: %s on %s", self._settings.bundle, self.service.model.device)
            if self._settings.ready_file:
                _write_ready_file(self._settings.ready_file, "\n".join(self._urls))
        except Exception as error:
            self.failure = error
            self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal stops in good order, the second at once."""
        if self.should_exit:
            self.force_exit = True
            self.service.stop_now()
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Refuse what waits, then let what runs finish."""
        if self._watching:
            self._watching.cancel()
        grace = self._settings.shutdown_timeout
        draining = asyncio.create_task(self.service.drain(grace))
        if not self.force_exit:
            await self.conversations.drain(grace)  # uvicorn closes WebSockets at once
        if self.listener is not None:
            await self.listener.close()
        await super().shutdown(sockets)
        draining.cancel()


def serve(
    settings: Settings, load: Callable[[], LoadedModel], announce: Callable[[str], None]
) -> None:
    """Serve until a signal comes.

    Args:
        settings: checked settings.
        load: loads and warms the model.
        announce: told the URLs once the server serves.

    Raises:
        ConfigError: the address cannot be listened on, or the ready file not be written.
        UnimicError: the model cannot be loaded.
    """
    if not settings.asks_for_key and settings.host not in _LOOPBACK and settings.port is not None:
        logger.warning("serving everybody on %s without an API key", settings.host)
    _check_ready_file(settings.ready_file)
    with _listening(settings) as found:
        host = build_host(settings, load, [url for _, url in found], announce)
        _remove(settings.ready_file)
        try:
            host.run(sockets=[listener for listener, _ in found])
        finally:
            _remove(settings.ready_file)
    if host.failure is not None:
        raise host.failure


@contextmanager
def _listening(settings: Settings) -> Iterator[list[tuple[socket.socket, str]]]:
    """The sockets to serve on, each with its address; let go of at the end."""
    found = []
    with ExitStack() as owned:
        if settings.port is not None:
            listener = owned.enter_context(listen(settings.host, settings.port))
            found.append((listener, url_of(listener, settings.host)))
        if settings.unix is not None:
            file = UnixSocket(settings.unix, ACCEPTED_AT_ONCE)
            owned.callback(file.remove)
            found.append((file.listener, file.url))
        yield found


def build_host(
    settings: Settings,
    load: Callable[[], LoadedModel],
    urls: Sequence[str],
    announce: Callable[[str], None],
) -> Host:
    """A server that has not begun; see `serve`."""
    service = Service(settings, load, partial(batching_queue, settings))
    conversations = Conversations(service)
    connections = Connections.of(settings)
    patience = Patience(settings.head_timeout, settings.idle_timeout, settings.request_timeout)
    protocol: Any = partial(PatientProtocol, patience, connections)
    config = uvicorn.Config(
        create_app(settings, service, conversations),
        http=protocol,
        log_config=None,
        access_log=False,
        server_header=False,
        loop="asyncio",
        ws=PatientWebSocket,
        ws_max_size=MAX_FRAME,
        ws_ping_interval=None,  # silence costs nothing; a conversation that stays silent is ended
        ws_per_message_deflate=False,  # it makes frames of a few bytes longer
        date_header=False,
        lifespan="on",
        backlog=ACCEPTED_AT_ONCE,
        timeout_keep_alive=math.ceil(settings.idle_timeout),
        timeout_graceful_shutdown=math.ceil(settings.shutdown_timeout) + _LAST_REPLIES_S,
    )
    host = Host(config, service, settings, urls, announce, conversations)
    if settings.tcp is not None:
        tls = settings.tls_cert, settings.tls_key
        host.listener = Listener(conversations, connections, *tls)
    return host


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on `host` and `port`; port 0 takes a free one.

    Raises:
        ConfigError: the address is taken or is not this machine's.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, address = found[0][0], found[0][4]
        listener = ListeningSocket.of(socket.create_server(address[:2], family=family))
        # Connections inherit it. asyncio sets it only on sockets that name the protocol, and these
        # do not: head and body of a reply would go out 40 ms apart.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {host}:{port}: {error.strerror}",
            "choose another --host or --port; --port 0 takes a free one",
        ) from error


def url_of(listener: socket.socket, host: str) -> str:
    """The URL under which `listener` is reached."""
    port = listener.getsockname()[1]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _check_ready_file(path: Path | None) -> None:
    """See that the file can be written, before a model is loaded for it.

    Raises:
        ConfigError: it cannot.
    """
    if path is None:
        return
    if path.is_dir():
        raise ConfigError(f"cannot write {path}: it is a folder", "name a file with --ready-file")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        fault = f"cannot write {path}: {error.strerror}"
        raise ConfigError(fault, "name another file with --ready-file") from error


def _write_ready_file(path: Path, urls: str) -> None:
    try:
        write_atomically(path, urls + "\n")
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from error


def _remove(path: Path | None) -> None:
    if path is not None:
        with suppress(FileNotFoundError):
            path.unlink()
