"""Small writes of one reply leave at once: none waits for the other end to confirm another."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest

from cloud_server.http.host import listen
from cloud_server.links.connections import ListeningSocket
from edge_client.gateway.host import _listening
from edge_client.gateway.settings import GatewaySettings


def server_port() -> socket.socket:
    return listen("127.0.0.1", 0)


def gateway_port() -> socket.socket:
    return _listening(GatewaySettings(port=0))


@pytest.mark.parametrize("opened", [server_port, gateway_port])
def test_asyncio_takes_connections_for_those_of_tcp(opened: Callable[[], socket.socket]) -> None:
    listener = opened()
    found: list[int] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner = writer.get_extra_info("socket")
        found.append(inner.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    async def live() -> None:
        server = await asyncio.start_server(answer, sock=listener)
        async with server:
            _, writer = await asyncio.open_connection(*listener.getsockname())
            while not found:
                await asyncio.sleep(0.01)
            writer.close()
            await writer.wait_closed()

    asyncio.run(live())
    assert found[0] != 0


def test_a_socket_file_stays_what_it_is() -> None:
    with ListeningSocket.of(socket.socket(socket.AF_UNIX)) as taken:
        assert taken.proto == 0
