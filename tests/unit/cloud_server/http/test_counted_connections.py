"""A WebSocket counts as a connection until it ends, and its frames are signs of life."""

import socket
import time

import pytest
from serving_fakes import LONG_S, LiveServer, fake_settings
from websockets.sync.client import connect

from cloud_server.http import host
from cloud_server.links.connections import Connections
from shared_protocol.session.paths import SESSION_PATH


def until(holds):
    give_up = time.monotonic() + LONG_S
    while not holds():
        assert time.monotonic() < give_up, "it has not come to that"
        time.sleep(0.005)


@pytest.fixture
def counted(monkeypatch):
    """The connections of every server that is built, in the order of building."""
    made = []

    class Watched(Connections):
        @classmethod
        def of(cls, settings):
            made.append(super().of(settings))
            return made[-1]

    monkeypatch.setattr(host, "Connections", Watched)
    return made


def test_a_websocket_is_counted_until_it_ends(counted):
    with LiveServer(fake_settings(port=0)) as server:
        (connections,) = counted
        until(lambda: len(connections) == 0)  # the one that asked whether the server is ready
        address = f"ws://127.0.0.1:{server.port}{SESSION_PATH}"
        with connect(address) as other:
            with connect(address):
                until(lambda: len(connections) == 2)
            until(lambda: len(connections) == 1)
            other.socket.shutdown(socket.SHUT_RDWR)
            until(lambda: len(connections) == 0)


def test_what_a_websocket_sends_is_a_sign_of_life(counted):
    with LiveServer(fake_settings(port=0)) as server:
        (connections,) = counted
        until(lambda: len(connections) == 0)
        with connect(f"ws://127.0.0.1:{server.port}{SESSION_PATH}") as link:
            until(lambda: len(connections) == 1)
            (entry,) = connections._open.values()
            heard = entry.waiting_since
            link.ping()
            until(lambda: entry.waiting_since not in (None, heard))
