"""What an opening tells whatever stands before several servers."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator

import pytest
from toy_bundle import ToyBundle

from edge_client.exchange.best import BestExchange
from edge_client.exchange.coded_exchange import Stopwatch
from edge_client.transport.links import open_link
from shared_protocol.errors import UnimicError
from shared_protocol.messages import Request
from shared_protocol.session.paths import ROUTE_HEADER, route_of
from shared_protocol.tasks import Task
from shared_protocol.tokens import TextTokens


class Listener:
    """Takes the head of each opening and hangs up."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.heads: list[str] = []
        threading.Thread(target=self._take, daemon=True).start()

    def _take(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            with client:
                self.heads.append(client.recv(1 << 14).decode("latin-1"))

    def routes(self) -> list[str]:
        return re.findall(rf"^{ROUTE_HEADER}: (.*)\r$", "".join(self.heads), re.M)

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    found = Listener()
    yield found
    found.close()


def talk(listener: Listener, session: bytes) -> None:
    bundle = ToyBundle()
    exchange = BestExchange(bundle, listener.url, None, 1.2, session=session)
    with pytest.raises(UnimicError):
        exchange.hold(Request(Task.T2I, TextTokens((1,), 9)), Stopwatch())
    exchange.close()


def test_every_opening_of_a_conversation_says_the_same_and_others_something_else(
    listener: Listener,
) -> None:
    talk(listener, b"abcdefgh")
    talk(listener, b"abcdefgh")
    mine = listener.routes()
    assert len(mine) == 2
    talk(listener, b"abcdefgi")
    assert set(mine) == {route_of(b"abcdefgh")}
    assert set(listener.routes()) == {route_of(b"abcdefgh"), route_of(b"abcdefgi")}
    sent = "".join(listener.heads)
    assert b"abcdefgh".hex() not in sent, "whoever holds a session may ask about its pictures"
    assert "abcdefgh" not in sent


def test_a_link_without_a_conversation_says_nothing(listener: Listener) -> None:
    with pytest.raises(UnimicError):
        open_link(listener.url, None, 1.0)
    assert listener.heads
    assert listener.routes() == []
