"""Clients of a soak, good and bad; each asks until it is told to stop.

They do not know the server but by its address.
"""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from damage import flipped
from tally import Tally

from edge_client.exchange.best import BestExchange
from edge_client.exchange.coded_exchange import SingleMessages, Stopwatch
from edge_client.transport.schemes import open_transport
from shared_protocol.errors import OverloadedError, UnimicError
from shared_protocol.http.contract import MESSAGE_TYPE, task_path
from shared_protocol.message.codec import encode_request
from shared_protocol.messages import Options, Request, Response
from shared_protocol.session.hello import Hello, encode_hello
from shared_protocol.session.paths import SESSION_PATH
from shared_protocol.tasks import Extension, Scenario, Task
from shared_protocol.tokens import ImageTokens, TokenMask

STEPS = 2
LONGEST_ANSWER = 4
MAX_GRID, MAX_STEPS = 32, 20
"""Limits of the server that clients over the limit go beyond."""
SOCKET_S = 20.0


@dataclass
class Field:
    """What all clients share.

    Args:
        bundle: the server's.
        port: on this host.
        stop: set when they are to end.
        tally: what they note.
        requests: good requests by name.
        references: the answers to them.
        patience: seconds that a good client gives one request in all.
        restarts: how often the server was killed so far.

    Attributes:
        bodies: the good requests as messages, coded once: the server's time is what counts.
    """

    bundle: Any
    port: int
    stop: threading.Event
    tally: Tally
    requests: Mapping[str, Request]
    references: Mapping[str, Response]
    patience: float
    restarts: int = 0
    bodies: Mapping[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.bodies = {
            name: encode_request(request, self.bundle).data
            for name, request in self.requests.items()
        }

    def post(self, kind: str, name: str) -> bytes:
        """A good request as bytes of HTTP."""
        body = self.bodies[name]
        return head_of(self.requests[name].task, len(body), self.key(kind)) + body

    def key(self, kind: str) -> str:
        """What a kind of client proves its name with; the server counts each name apart."""
        return key_of(kind)

    @property
    def server(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"


def key_of(kind: str) -> str:
    """The key of a kind of client."""
    return f"key-of-{kind.replace(' ', '-')}"


def good_requests(bundle: Any) -> dict[str, Request]:
    """One or two of each task, small."""
    size, grid = bundle.vocabulary.codebook_size, bundle.grid
    codes = np.random.default_rng(4).integers(0, size, (grid[0], grid[1] // 4)).astype(np.int32)
    picture = ImageTokens(np.repeat(codes, 4, axis=1), size)
    flags = np.zeros(grid, dtype=bool)
    flags[2:7, 3:9] = True
    words, mask = bundle.text_tokenizer.encode, TokenMask(flags)

    def options(seed: int) -> Options:
        return Options(steps=STEPS, seed=seed)

    return {
        "t2i 1": Request(Task.T2I, words("a red fox on a beach"), options=options(1)),
        "t2i 2": Request(Task.T2I, words("a red fox on a beach"), options=options(2)),
        "inpaint": Request(Task.INPAINT, words("a bird"), picture, mask, options=options(3)),
        "outpaint": Request(
            Task.OUTPAINT,
            words("a lake"),
            picture,
            extension=Extension(right=2),
            options=options(4),
        ),
        "vqa": Request(
            Task.VQA,
            words("what is in the picture?"),
            picture,
            options=Options(max_new_tokens=LONGEST_ANSWER),
        ),
    }


# ------------------------------------------------------------------------------------------------
# Good clients
# ------------------------------------------------------------------------------------------------


def good(shared: Field, rng: random.Random, talks: bool) -> None:
    """Asks for good things, and expects the reference answer to each within its patience."""
    kind = "conversation" if talks else "good messages"
    while not shared.stop.is_set():
        with suppress(UnimicError):  # noted where it was raised
            _ask_some(shared, rng, kind, talks)
        time.sleep(rng.uniform(0.0, 0.2))


def _ask_some(shared: Field, rng: random.Random, kind: str, talks: bool) -> None:
    """Several requests over one exchange."""
    if talks:
        exchange = BestExchange(shared.bundle, shared.server, shared.key(kind), shared.patience)
        try:
            for _ in range(rng.randint(1, 6)):
                _ask(shared, rng, kind, exchange)
        finally:
            exchange.close()
        return
    with open_transport(shared.server, shared.key(kind), shared.patience) as transport:
        for _ in range(rng.randint(1, 6)):
            _ask(shared, rng, kind, SingleMessages(shared.bundle, transport))


def _ask(shared: Field, rng: random.Random, kind: str, exchange: Any) -> None:
    if shared.stop.is_set():
        return
    name, tally = rng.choice(list(shared.requests)), shared.tally
    began, restarts = time.monotonic(), shared.restarts
    tally.note(kind, "asked")
    try:
        held = exchange.hold(shared.requests[name], Stopwatch())
    except OverloadedError:
        tally.note(kind, "refused")
        raise
    except UnimicError as error:
        spent = time.monotonic() - began
        tally.note(kind, "lost", f"{name} after {spent:.0f} of {shared.patience:.0f} s: {error}")
        raise
    tally.took(time.monotonic() - began, restarts == shared.restarts)
    tally.note(kind, "answered")
    if held.response != shared.references[name]:
        tally.note(kind, "wrong", f"{name} has another answer than before")


# ------------------------------------------------------------------------------------------------
# Bad clients, on bare sockets
# ------------------------------------------------------------------------------------------------


def slow(shared: Field, rng: random.Random) -> None:
    """Sends a good request and reads the answer piece by piece."""
    while not shared.stop.is_set():
        name = rng.choice(list(shared.requests))
        with _noted(shared, "slow"), _connected(shared) as link:
            data = shared.post("slow", name)
            piece = max(1, len(data) // 30)
            for start in range(0, len(data), piece):
                link.sendall(data[start : start + piece])
                time.sleep(rng.uniform(0.0, 0.1))
            _note_status(shared, "slow", _read_slowly(link, rng))


def dropping(shared: Field, rng: random.Random) -> None:
    """Asks and leaves at any time."""
    while not shared.stop.is_set():
        name = rng.choice(list(shared.requests))
        with _noted(shared, "dropping"), _connected(shared) as link:
            data = shared.post("dropping", name)
            link.sendall(data[: rng.randint(1, len(data))] if rng.random() < 0.3 else data)
            time.sleep(rng.uniform(0.0, 0.6))
            shared.tally.note("dropping", "broken")


def over_limit(shared: Field, rng: random.Random) -> None:
    """Asks for more than the server allows; it must say so."""
    vocabulary = shared.bundle.vocabulary
    noise = np.random.default_rng(5).integers(0, vocabulary.codebook_size, (64, 64))
    huge = ImageTokens(noise.astype(np.int32), vocabulary.codebook_size)
    words = shared.bundle.text_tokenizer.encode("what is this?")
    key, asked = shared.key("over limit"), []
    for request in (
        Request(Task.VQA, words, huge),
        Request(Task.T2I, words, options=Options(steps=MAX_STEPS + 1)),
        Request(Task.VQA, words, ImageTokens(huge.codes[:40, :40], huge.codebook_size)),
    ):
        body = encode_request(request, shared.bundle, Scenario.UNIFORM if request.image else None)
        asked.append(head_of(request.task, len(body.data), key) + body.data)
    while not shared.stop.is_set():
        with _noted(shared, "over limit"), _connected(shared) as link:
            link.sendall(rng.choice(asked))
            status = _note_status(shared, "over limit", _read_slowly(link, None))
            if status == 200:
                shared.tally.note("over limit", "wrong", "a request over the limits was served")
        time.sleep(rng.uniform(0.0, 0.5))


def hostile(shared: Field, rng: random.Random) -> None:
    """Sends what nobody should."""
    good_bodies = list(shared.bodies.values())
    numbers = np.random.default_rng(rng.randrange(1 << 30))

    def noise(link: socket.socket) -> None:
        link.sendall(rng.randbytes(rng.randint(1, 4000)))

    def damaged(link: socket.socket) -> None:
        body = flipped(numbers, rng.choice(good_bodies), 4)
        key = shared.key("hostile") if rng.random() < 0.9 else "no key"
        link.sendall(head_of(rng.choice(list(Task)), len(body), key) + body)
        status = _note_status(shared, "hostile", _read_slowly(link, None))
        if status is not None and status >= 500 and status != 503:
            shared.tally.note("hostile", "wrong", f"damaged bytes were answered with {status}")

    def silence(link: socket.socket) -> None:
        link.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: ")
        time.sleep(rng.uniform(0.5, 3.0))

    def wide(link: socket.socket) -> None:
        link.sendall(b"GET /healthz HTTP/1.1\r\nX: " + b"x" * 100_000)

    def frames(link: socket.socket) -> None:
        _speak_websocket(shared, link, rng)

    while not shared.stop.is_set():
        way = rng.choice((noise, damaged, damaged, silence, wide, frames))
        with _noted(shared, "hostile"), _connected(shared) as link:
            way(link)
            if way is not damaged:
                shared.tally.note("hostile", "broken")
        time.sleep(rng.uniform(0.0, 0.3))


def _speak_websocket(shared: Field, link: socket.socket, rng: random.Random) -> None:
    """An opening, a good hello, and frames of noise."""
    opening = (
        f"GET {SESSION_PATH} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Authorization: Bearer {shared.key('hostile')}\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    link.sendall(opening.encode())
    link.recv(1000)
    hello = encode_hello(Hello(shared.bundle.fingerprint[:4], rng.randbytes(8)))
    for frame in (hello, *(rng.randbytes(rng.randint(1, 100)) for _ in range(5))):
        masked = bytes([0x82, 0x80 | len(frame)]) + bytes(4) + frame
        link.sendall(masked)
        time.sleep(0.01)
    link.settimeout(1.0)
    with suppress(OSError):
        link.recv(1000)


def head_of(task: Task, size: int, key: str) -> bytes:
    return (
        f"POST {task_path(task)} HTTP/1.1\r\nHost: a\r\nContent-Type: {MESSAGE_TYPE}\r\n"
        f"Authorization: Bearer {key}\r\n"
        f"Content-Length: {size}\r\nConnection: close\r\n\r\n"
    ).encode()


def _connected(shared: Field) -> socket.socket:
    return socket.create_connection(("127.0.0.1", shared.port), SOCKET_S)


def _read_slowly(link: socket.socket, rng: random.Random | None) -> bytes:
    """All that comes, in small pieces where a generator is given."""
    data = b""
    while True:
        piece = link.recv(1 << 16 if rng is None else 64)
        if not piece:
            return data
        data += piece
        if rng is not None:
            time.sleep(rng.uniform(0.0, 0.02))


def _note_status(shared: Field, kind: str, reply: bytes) -> int | None:
    """Count an HTTP reply; its status, or None if there was none."""
    start = reply.split(b" ", 2)
    if len(start) < 3 or not start[1].isdigit():
        shared.tally.note(kind, "broken")
        return None
    status = int(start[1])
    shared.tally.note(kind, "answered" if status == 200 else "refused")
    return status


class _noted:  # noqa: N801 - used like a function
    """Counts one request of a bad client, and a connection that broke."""

    def __init__(self, shared: Field, kind: str) -> None:
        self._shared, self._kind = shared, kind

    def __enter__(self) -> None:
        self._shared.tally.note(self._kind, "asked")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        if kind is None or not issubclass(kind, OSError):
            return False
        self._shared.tally.note(self._kind, "broken")
        time.sleep(0.1)
        return True


CLIENTS: Mapping[str, Callable[[Field, random.Random], None]] = {
    "good messages": lambda shared, rng: good(shared, rng, False),
    "conversation": lambda shared, rng: good(shared, rng, True),
    "slow": slow,
    "dropping": dropping,
    "over limit": over_limit,
    "hostile": hostile,
}
