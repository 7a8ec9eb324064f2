"""What links say that a frame took is what they counted, whatever its length."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from edge_client.transport.base import Link
from edge_client.transport.stream_links import SocketLink
from edge_client.transport.websocket_link import WebSocketLink
from shared_protocol.session.framing import framed

FRAMES = [bytes([7]) * size for size in (1, 2, 125, 126, 127, 128, 1000, 16383, 16384, 65000)]


def answer(connection: ServerConnection) -> None:
    for frame in FRAMES:
        connection.recv()
        connection.send(frame)
    with suppress(ConnectionClosed):
        connection.recv()  # or its end, which takes bytes as well, might come with the last frame


@pytest.fixture
def web() -> Iterator[Link]:
    with serve(answer, "127.0.0.1", 0, compression=None) as server:
        threading.Thread(target=server.serve_forever).start()
        port = server.socket.getsockname()[1]
        link = WebSocketLink(f"http://127.0.0.1:{port}", None, 5)
        yield link
        link.close()
        server.shutdown()


@pytest.fixture
def bare() -> Iterator[Link]:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            connection, _ = listener.accept()
            with connection:
                for frame in FRAMES:
                    connection.recv(16)
                    connection.sendall(framed(frame))

        threading.Thread(target=run).start()
        link = SocketLink(f"tcp://127.0.0.1:{listener.getsockname()[1]}", 5)
        yield link
        link.close()


@pytest.mark.parametrize("kind", ["web", "bare"])
def test_a_frame_takes_what_the_link_counts(kind: str, request: pytest.FixtureRequest) -> None:
    link: Link = request.getfixturevalue(kind)
    for frame in FRAMES:
        before = link.received
        link.send(b"next")
        assert link.receive(5) == frame
        assert link.taken_by(frame) == link.received - before
