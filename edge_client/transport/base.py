"""What an edge needs of the way to a cloud: the seam that every kind of link fits into.

It does not know what the bytes mean, nor how progress is shown.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar, runtime_checkable

from shared_protocol.errors import TransportError, UnimicError, printable
from shared_protocol.http.origin import UNKNOWN, Origin
from shared_protocol.http.reply_stream import ServerTiming
from shared_protocol.messages import OnStep
from shared_protocol.tasks import Task

logger = logging.getLogger(__name__)

T = TypeVar("T")
ORIGIN: ContextVar[Origin] = ContextVar("origin", default=UNKNOWN)
"""Where what is sent comes from; links that have a place for it say so to the server."""


@dataclass(frozen=True)
class Reply:
    """What came back.

    Args:
        message: one UniMIC message.
        timing: see `ServerTiming`.
        sent, received: bytes of all attempts, heads and progress included; bodies only where the
            link does not tell.
        attempts: how often the request was made.
    """

    message: bytes
    timing: ServerTiming = field(default_factory=ServerTiming)
    sent: int = 0
    received: int = 0
    attempts: int = 1


@runtime_checkable
class Transport(Protocol):
    """Carries messages to a cloud and its replies back."""

    def exchange(
        self, task: Task, message: bytes, key: str, on_step: OnStep | None = None
    ) -> Reply:
        """Send one message for `task`; equal keys name one piece of work.

        Raises:
            UnimicError: what the service answered instead, or why it could not be reached.
        """

    def info(self) -> dict[str, Any]:
        """What the service says about itself."""


class Sink(Protocol):
    """Takes the bytes of a file as they arrive."""

    @property
    def size(self) -> int:
        """Bytes that are there, also from earlier."""

    def write(self, chunk: bytes) -> None:
        """Add bytes at the end."""

    def restart(self) -> None:
        """Forget everything: the file comes from its beginning."""


class OpenTransport(Transport, Protocol):
    """A transport that is closed at the end of a `with` block, and gives away bundles."""

    def bundle(self, fingerprint: str) -> dict[str, Any]:
        """The listing of the bundle of that fingerprint, if the server has it."""

    def download(self, fingerprint: str, file: str, sink: Sink, size: int) -> None:
        """Fill `sink` up to `size` bytes with a file of that bundle, going on from what it has."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


def within(seconds: float, open_: Callable[[], T], close: Callable[[T], object]) -> T:
    """What `open_` gives, if it gives it in time.

    Looking up a name can take as long as the system likes, and so can a server that lets each step
    of an opening take just less than the time for one. Both go on in a thread of their own, which
    nobody waits for any longer.

    Args:
        seconds: for all of it.
        open_: makes a connection, or looks up a name.
        close: what is done with a result that comes too late.

    Raises:
        TimeoutError: it takes longer.
        BaseException: what `open_` raises.
    """
    done, lock, found = threading.Event(), threading.Lock(), _Found[T]()

    def work() -> None:
        try:
            found.result = [open_()]
        except BaseException as error:
            found.error = error
        with lock:
            late = found.late
            done.set()
        if late and found.result:
            with suppress(Exception):
                close(found.result[0])

    try:
        threading.Thread(target=work, daemon=True).start()
    except RuntimeError:  # the system starts no more threads: without a limit, then
        work()
    try:
        done.wait(max(0.0, seconds))
    finally:
        with lock:
            found.late = not done.is_set()
    if found.late:
        raise TimeoutError(f"it took over {seconds:.3g} s")
    if found.error is not None:
        raise found.error
    return found.result[0]


class _Found(Generic[T]):
    """What came of work in another thread."""

    def __init__(self) -> None:
        self.result: list[T] = []
        self.error: BaseException | None = None
        self.late = False


class LinkDownError(TransportError):
    """The link broke or could not be opened; another one may do better."""


def waits_in_vain(error: BaseException | None) -> bool:
    """Whether an error, by what caused it, will not pass by itself: no such name."""
    while error is not None:
        if isinstance(error, socket.gaierror):
            return True
        error = error.__cause__ or error.__context__
    return False


class Notice:
    """Tells once that a server is waited for, as a warning of the program's log."""

    def __init__(self) -> None:
        self._told = False

    def __call__(self, error: UnimicError, seconds: float) -> None:
        """Say why, and for how long at most; further calls say nothing."""
        if not self._told:
            self._told = True
            logger.warning("%s; trying again for up to %.0f s", printable(error.message), seconds)


class NoSessionsError(TransportError):
    """Whatever answers there holds no conversations; single messages may get through."""


class Link(Protocol):
    """Carries whole frames; `send` may be called while another thread is in `receive`."""

    @property
    def sent(self) -> int:
        """Every byte of the link so far, its opening included; what lies under TLS is not."""

    @property
    def received(self) -> int:
        """The same of what came in."""

    def send(self, frame: bytes) -> None:
        """Send one frame; raises `LinkDownError`."""

    def receive(self, timeout: float) -> bytes:
        """The next frame.

        Raises:
            LinkDownError: the other end is gone.
            TimeoutError: nothing came in `timeout` seconds.
        """

    def taken_by(self, frame: bytes) -> int:
        """Bytes of the link that a frame took on its way in, with what frames it there.

        `received` cannot tell: it runs ahead where several frames arrive together.
        """

    def close(self) -> None:
        """Let go of the link."""
