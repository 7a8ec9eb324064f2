"""Clients that try to stop others being served, each from an address of its own.

As a program: `python tests/fakes/attackers.py NAME PORT SECONDS` attacks a server on this machine.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import count

import numpy as np

from shared_protocol.bundles.find import load_bundle
from shared_protocol.coding.text_codec import TextCoder
from shared_protocol.message import bitstream
from shared_protocol.message.bitstream import Frame
from shared_protocol.message.codec import CodecBundle, encode_request
from shared_protocol.message.parameters import Parameter
from shared_protocol.messages import Options, Request
from shared_protocol.tasks import Direction, Part, Scenario, Task
from shared_protocol.tokens import ImageTokens, TextTokens

ATTACKER = "127.0.0.2"
"""Where attacks come from; other clients of a test are at 127.0.0.1."""
Attack = Callable[[int, float], Awaitable[None]]


def oversized(bundle: CodecBundle, size: int = 8213, side: int = 64) -> bytes:
    """A question about a picture of `side` x `side` tokens that are random bytes."""
    text = encode_request(Request(Task.T2I, _text(bundle, 5)), bundle)
    parts = {Part.TEXT: bitstream.unpack(text.data).parts[Part.TEXT], Part.IMAGE: os.urandom(size)}
    frame = Frame(
        Task.VQA,
        Direction.UPLINK,
        bitstream.unpack(text.data).text_coder or TextCoder.PACKED,
        Scenario.GENERIC,
        bundle.fingerprint[: bitstream.PREFIX_BYTES],
        0,
        {int(Parameter.GRID): (side, side)},
        parts,
    )
    return bitstream.pack(frame)


def question(bundle: CodecBundle, number: int) -> bytes:
    """A question about a picture of its own."""
    random = np.random.default_rng(number)
    codes = random.integers(0, bundle.vocabulary.codebook_size, bundle.grid).astype(np.int32)
    image = ImageTokens(codes, bundle.vocabulary.codebook_size)
    options = Options(max_new_tokens=12)
    return encode_request(
        Request(Task.VQA, _text(bundle, number), image, options=options), bundle
    ).data


def picture(bundle: CodecBundle, seed: int, steps: int = 60) -> bytes:
    """A picture that takes long."""
    options = Options(steps=steps, seed=seed)
    return encode_request(Request(Task.T2I, _text(bundle, 9), options=options), bundle).data


def _text(bundle: CodecBundle, number: int) -> TextTokens:
    ids = [1 + number % 200, 7, 9]
    return TextTokens(np.array(ids, dtype=np.int32), bundle.vocabulary.text_size)


def post(task: Task, body: bytes, *lines: str) -> bytes:
    """A request as bytes."""
    head = (
        f"POST /v1/{task.slug} HTTP/1.1",
        "Host: test",
        "Content-Type: application/msgpack",
        f"Content-Length: {len(body)}",
        *lines,
        "",
        "",
    )
    return "\r\n".join(head).encode() + body


async def send(port: int, data: bytes, wait_s: float = 0.0) -> bytes:
    """Send bytes from the attacker's address; the reply's beginning, if it is waited for."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(ATTACKER, 0))
    try:
        writer.write(data)
        await writer.drain()
        async with asyncio.timeout(wait_s):
            return await reader.read(65536)
    finally:
        writer.transport.abort()


async def _many(clients: int, seconds: float, act: Callable[[int], Awaitable[object]]) -> None:
    numbers, until = count(), time.monotonic() + seconds

    async def one() -> None:
        while time.monotonic() < until:
            with suppress(OSError, TimeoutError):
                await act(next(numbers))
            await asyncio.sleep(0.02)

    await asyncio.gather(*(one() for _ in range(clients)))


async def oversized_grids(port: int, seconds: float) -> None:
    """Six clients that send pictures which cost much and are refused."""
    body = oversized(load_bundle())
    await _many(6, seconds, lambda _: send(port, post(Task.VQA, body), 30.0))


async def hung_up_jobs(port: int, seconds: float) -> None:
    """Pictures of 60 steps, each with a key, whose client hangs up at once."""
    bundle = load_bundle()

    async def act(number: int) -> None:
        key = f"Idempotency-Key: lost-{os.getpid()}-{number}"
        await send(port, post(Task.T2I, picture(bundle, number), key), 0.2)

    await _many(2, seconds, act)


async def backlog(port: int, seconds: float) -> None:
    """Twenty clients that each want one picture of 60 steps after the other."""
    bundle = load_bundle()
    await _many(20, seconds, lambda n: send(port, post(Task.T2I, picture(bundle, n)), seconds))


async def half_sent(port: int, seconds: float) -> None:
    """270 connections with a whole request each and half of another one."""
    data = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HTTP/1.1\r\nX: "
    links = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with suppress(OSError):
            link = await asyncio.open_connection("127.0.0.1", port, local_addr=(ATTACKER, 0))
            link[1].write(data)
            links.append(link)
        if len(links) > 270:
            links.pop(0)[1].transport.abort()
            await asyncio.sleep(0.02)


async def flood(port: int, seconds: float, clients: int = 250) -> None:
    """Many questions at once, again and again."""
    bundle = load_bundle()
    bodies = [post(Task.VQA, question(bundle, number)) for number in range(clients)]
    await _many(clients, seconds, lambda n: send(port, bodies[n % clients], seconds))


ATTACKS: dict[str, Attack] = {
    attack.__name__: attack for attack in (oversized_grids, hung_up_jobs, backlog, half_sent, flood)
}

if __name__ == "__main__":
    asyncio.run(ATTACKS[sys.argv[1]](int(sys.argv[2]), float(sys.argv[3])))
