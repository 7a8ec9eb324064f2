"""The exchange inside an interaction: request up, response down, whatever goes wrong on the way.

It knows neither pixels nor words, only tokens, messages and a transport.

When the two ends' entropy models disagree, a message does not decode, on either end: it seems too
short, too long, or fails its checksum. Then the same work is asked for once more with uniform
coding, which needs no model: larger, and right.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from edge_client.transport.base import Reply, Transport
from shared_protocol.errors import (
    BadMagicError,
    BadMessageError,
    BundleMismatchError,
    LabelsMismatchError,
    LimitError,
    UnimicError,
    UnsupportedVersionError,
    printable,
)
from shared_protocol.http.reply_stream import ServerTiming
from shared_protocol.message.anatomy import Anatomy, Decoded, Encoded
from shared_protocol.message.codec import CodecBundle, decode_response, encode_request
from shared_protocol.messages import OnStep, Request, Response
from shared_protocol.tasks import Scenario, Task
from shared_protocol.tokens import Codes, Flags


class NamedBundle(CodecBundle, Protocol):
    """A bundle that can say its name."""

    @property
    def name(self) -> str:
        """What the bundle calls itself."""


@dataclass(frozen=True)
class Wire:
    """What an interaction cost on the wire, all attempts and the reply's progress included.

    Args:
        sent, received: every byte of the link, see `transport.base.Reply`.
        attempts: requests made; 1 unless something went wrong on the way.
    """

    sent: int = 0
    received: int = 0
    attempts: int = 0

    def __add__(self, reply: Reply) -> Wire:
        return Wire(
            self.sent + reply.sent,
            self.received + reply.received,
            self.attempts + reply.attempts,
        )

    def joined(self, other: Wire) -> Wire:
        """What two interactions cost together."""
        return self + Reply(b"", ServerTiming(), other.sent, other.received, other.attempts)


@dataclass(frozen=True)
class Held:
    """An exchange that came to its end.

    Args:
        response: what was answered.
        uplink, downlink: what the two messages are made of.
        wire: every byte that the exchange moved, openings of links and progress included.
        opening: those of openings.
        progress: bytes of progress and previews, among those received.
        warnings: what the user should know, in words.
    """

    response: Response
    uplink: Anatomy
    downlink: Anatomy
    wire: Wire
    opening: Wire = field(default_factory=Wire)
    progress: int = 0
    warnings: tuple[str, ...] = ()


OnPreview = Callable[[Codes, Flags], None]
"""Told (H, W) codes of a picture that is being made, and which of them are there already."""


@dataclass(frozen=True)
class Wishes:
    """What a device wants to hear while it waits.

    Args:
        on_step: told (finished, all) while the cloud works.
        reports: most such reports a turn, 0..15.
        on_preview: told intermediate tokens.
    """

    on_step: OnStep | None = None
    reports: int = 0
    on_preview: OnPreview | None = None


class Stopwatch:
    """Adds up milliseconds by stage; `watch("encode")` is a context manager."""

    def __init__(self) -> None:
        self.milliseconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Time a block."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, (time.perf_counter() - start) * 1000.0)

    def add(self, stage: str, milliseconds: float) -> None:
        """Count `milliseconds` towards `stage`."""
        self.milliseconds[stage] = self.milliseconds.get(stage, 0.0) + milliseconds

    def add_exchange(self, milliseconds: float, timing: ServerTiming) -> None:
        """Split an exchange into what the server says it spent, and the network."""
        parts = {
            "server decode": timing.decode,
            "server queue": timing.queue,
            "model": timing.model,
            "server encode": timing.encode,
        }
        for stage, spent in parts.items():
            if spent is not None:
                self.add(stage, spent)
        self.add("network", max(0.0, milliseconds - timing.total))


_KEY_BYTES = 12
"""96 random bits name a piece of work: 16 characters, which no two clients ever share."""


@dataclass
class CodedExchange:
    """Request up, response down, under one idempotency key, with uniform coding to fall back on."""

    bundle: NamedBundle
    transport: Transport
    on_step: OnStep | None
    watch: Stopwatch
    key: str = field(default_factory=lambda: secrets.token_urlsafe(_KEY_BYTES))
    wire: Wire = field(default_factory=Wire)
    warnings: list[str] = field(default_factory=list)

    def hold(self, request: Request) -> tuple[Encoded, Decoded[Response]]:
        """The uplink that was understood, and the response."""
        uplink, reply = self._ask(request)
        try:
            return uplink, self._decode(reply, request)
        except LabelsMismatchError:
            return self.hold(naming(request))  # the same work under the same key
        except BadMessageError as error:
            # Only a picture is made of image tokens: asking again would change nothing else.
            if self.warnings or not request.row.makes_picture or not _may_disagree(error):
                raise
        self.warnings.append(disagreement("this end could not decode the server's"))
        uplink, reply = self._ask(plain(request))
        return uplink, self._decode(reply, request)

    def _ask(self, request: Request) -> tuple[Encoded, Reply]:
        uplink = self._encode(request)
        try:
            return uplink, self._send(request.task, uplink.data)
        except BadMessageError as error:
            self.wire += Reply(b"", sent=len(uplink.data))
            if self.warnings or not _may_disagree(error):
                raise
        self.warnings.append(disagreement("the server could not decode this end's"))
        uplink = self._encode(plain(request), Scenario.UNIFORM)
        return uplink, self._send(request.task, uplink.data)

    def _encode(self, request: Request, scenario: Scenario | None = None) -> Encoded:
        with self.watch("encode"):
            return encode_request(request, self.bundle, scenario)

    def _send(self, task: Task, message: bytes) -> Reply:
        start = time.perf_counter()
        try:
            reply = self.transport.exchange(task, message, self.key, self.on_step)
        except BundleMismatchError as error:
            raise _mismatch(self.bundle, self.transport) from error
        self.watch.add_exchange((time.perf_counter() - start) * 1000.0, reply.timing)
        self.wire += reply
        return reply

    def _decode(self, reply: Reply, request: Request) -> Decoded[Response]:
        with self.watch("decode"):
            try:
                return decode_response(reply.message, request, self.bundle)
            except BundleMismatchError as error:
                raise _mismatch(self.bundle, self.transport) from error


class Exchange(Protocol):
    """A way to a cloud."""

    def hold(self, request: Request, watch: Stopwatch) -> Held:
        """Ask, and wait for the answer.

        Raises:
            UnimicError: what was answered instead, or why nobody could be reached.
        """


class SingleMessages:
    """Every request a message of its own; nothing is kept from one to the next.

    Args:
        bundle: must be the cloud's, too.
        transport: carries messages.
        on_step: told (finished steps, all steps) while the cloud works.
    """

    def __init__(
        self, bundle: NamedBundle, transport: Transport, on_step: OnStep | None = None
    ) -> None:
        self._bundle = bundle
        self._transport = transport
        self._on_step = on_step

    def hold(self, request: Request, watch: Stopwatch) -> Held:
        """See `Exchange.hold`."""
        talk = CodedExchange(self._bundle, self._transport, self._on_step, watch)
        uplink, downlink = talk.hold(request)
        return Held(
            downlink.value,
            uplink.anatomy,
            downlink.anatomy,
            talk.wire,
            warnings=tuple(talk.warnings),
        )


def disagreement(who: str) -> str:
    """The warning that tokens went with uniform coding, since `who` "could not decode …'s"."""
    return (
        f"{who} entropy-coded tokens, so they were sent again with uniform coding: "
        "the result is right, the message larger; 'edge-client info' says which end differs"
    )


def _may_disagree(error: BadMessageError) -> bool:
    """Whether a message that does not decode may be due to the entropy models of the two ends."""
    return not isinstance(error, (BadMagicError, UnsupportedVersionError, LimitError))


def plain(request: Request) -> Request:
    """`request`, asking for a reply that needs no entropy model."""
    if not request.row.makes_picture:
        return request
    return replace(request, options=replace(request.options, reply=Scenario.UNIFORM))


def naming(request: Request) -> Request:
    """`request`, asking for the names of its labels, since the server has others than this end."""
    return replace(request, options=replace(request.options, names=True), held=None)


def _mismatch(bundle: NamedBundle, transport: Transport) -> BundleMismatchError:
    """The same error with both fingerprints in it, which the message itself has no room for."""
    theirs: dict[str, Any] = {}
    with suppress(UnimicError):
        theirs = transport.info()
    return mismatch_of(bundle, str(theirs.get("bundle", "?")), str(theirs.get("fingerprint", "?")))


def mismatch_of(bundle: NamedBundle, name: str, fingerprint: str) -> BundleMismatchError:
    """The error that the server holds another bundle, of that name and fingerprint (hex)."""
    return BundleMismatchError(
        f"this end holds bundle {bundle.name} ({bundle.fingerprint.hex()[:16]}), "
        f"the server {printable(name, 40)} ({printable(fingerprint)[:16]})",
        "get the server's with 'edge-client fetch', or name it with --bundle if it is here",
    )
