"""Bare frames over TCP: whole frames both ways, who is let in, how it ends; with a fake service."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import asynccontextmanager
from typing import Any

import pytest
from server_process import make_certificate

from cloud_server.links.connections import Connections
from cloud_server.links.listener import Listener, StreamLink
from cloud_server.serving.frame_link import LinkClosedError
from shared_protocol.errors import ConfigError
from shared_protocol.session.framing import framed

pytestmark = pytest.mark.anyio
WAIT_S = 30.0


class Echoing:
    """Serves a link by turning its frames round."""

    def __init__(self):
        self.addresses, self.ended = [], []

    async def serve(self, link, address=""):
        self.addresses.append(address)
        try:
            while True:
                await link.send((await link.receive())[::-1])
        except BaseException as error:
            self.ended.append(type(error))
            if not isinstance(error, LinkClosedError):
                raise


@asynccontextmanager
async def listening(talks, connections=None, host="127.0.0.1", files=(None, None)):
    counted = Connections(10, 10) if connections is None else connections
    listener = Listener(talks, counted, *files)
    url = await listener.start(host, 0)
    try:
        yield listener, url, int(url.rpartition(":")[2]), counted
    finally:
        await listener.close()


@asynccontextmanager
async def connected(port, host="127.0.0.1", **options):
    reader, writer = await asyncio.open_connection(host, port, **options)
    try:
        yield reader, writer
    finally:
        writer.close()


async def until(condition):
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.001)


async def read(reader, size):
    return await asyncio.wait_for(reader.readexactly(size), WAIT_S)


@pytest.mark.parametrize(
    ("host", "url", "address"),
    [("127.0.0.1", "tcp://127.0.0.1:{}", "127.0.0.1"), ("::1", "tcp://[::1]:{}", "::/64")],
)
async def test_frames_are_served_in_whatever_pieces_they_come(host, url, address):
    talks = Echoing()
    async with listening(talks, host=host) as (_, told, port, counted):
        assert told == url.format(port)
        async with connected(port, host) as (reader, writer):
            both = framed(b"first") + framed(b"x" * 200)
            writer.write(both[:3])
            await until(lambda: len(counted) == 1)
            writer.write(both[3:])
            assert await read(reader, len(both)) == framed(b"tsrif") + framed(b"x" * 200)
        await until(lambda: not len(counted))
    assert talks.addresses == [address]
    assert talks.ended == [LinkClosedError]


async def test_whoever_is_not_admitted_is_hung_up_on_and_not_served():
    talks = Echoing()
    full = Connections(0, 0)
    async with listening(talks, full) as (_, _, port, _), connected(port) as (reader, _):
        assert await asyncio.wait_for(reader.read(), WAIT_S) == b""
    assert talks.addresses == []


async def test_closing_ends_the_links_that_there_are_and_takes_no_more():
    talks = Echoing()
    async with listening(talks) as (listener, _, port, counted), connected(port) as (reader, _):
        await until(lambda: talks.addresses)
        await asyncio.wait_for(listener.close(), WAIT_S)
        assert await asyncio.wait_for(reader.read(), WAIT_S) == b""
        assert len(counted) == 0
        assert talks.ended == [asyncio.CancelledError]
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", port)


async def test_one_that_never_began_may_be_closed():
    await Listener(Echoing(), Connections(1, 1), None, None).close()


async def test_a_port_that_is_taken_is_named_with_the_flag_to_change():
    async with listening(Echoing()) as (_, _, port, _):
        other = Listener(Echoing(), Connections(1, 1), None, None)
        with pytest.raises(ConfigError, match=rf"cannot listen on 127\.0\.0\.1:{port}: ") as caught:
            await other.start("127.0.0.1", port)
        assert "--tcp" in caught.value.remedy
        await other.close()


@pytest.mark.parametrize("together", [False, True])
async def test_with_a_certificate_tls_is_spoken(tmp_path, together):
    folder = make_certificate(tmp_path)
    cert, key = folder / "cert.pem", folder / "key.pem"
    if together:
        cert.write_text(cert.read_text() + key.read_text())
        key = None
    trusting = ssl.create_default_context(cafile=str(folder / "cert.pem"))
    async with listening(Echoing(), files=(cert, key)) as (_, url, port, _):
        assert url == f"tls://127.0.0.1:{port}"
        async with connected(port, ssl=trusting) as (reader, writer):
            writer.write(framed(b"abc"))
            assert await read(reader, 4) == framed(b"cba")


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_files_that_are_no_certificate_are_named_with_the_flags(tmp_path, content):
    file = tmp_path / "cert.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError, match=r"cannot use .*cert\.pem as a certificate") as caught:
        Listener(Echoing(), Connections(1, 1), file, None)
    assert "--tls-cert" in caught.value.remedy
    assert "--tls-key" in caught.value.remedy


class Broken:
    """A stream whose ends fail as they are told to."""

    def __init__(self, chunks=(), error: Any = None):
        self.chunks, self.error, self.sent = list(chunks), error, b""

    async def read(self, most):
        assert most == 1 << 14
        if not self.chunks:
            raise self.error
        return self.chunks.pop(0)

    def write(self, data):
        self.sent += data

    async def drain(self):
        if self.error is not None:
            raise self.error


async def test_a_link_that_breaks_is_closed_after_what_came_before():
    broken = Broken([framed(b"one") + framed(b"two")[:2], b"wo"], ConnectionResetError())
    link = StreamLink(broken, broken)
    assert [await link.receive(), await link.receive()] == [b"one", b"two"]
    with pytest.raises(LinkClosedError):
        await link.receive()
    with pytest.raises(LinkClosedError):
        await link.send(b"three")
    ended = StreamLink(Broken([b""]), Broken())
    with pytest.raises(LinkClosedError):
        await ended.receive()
    await ended.send(b"four")
    assert ended._writer.sent == framed(b"four")
