"""The device's end of a conversation: turns over a link that may break at any moment.

It knows neither pixels nor words, nor what a link is made of.

The device holds the truth. Before every attempt a turn is coded anew from what both ends know just
then; when a link breaks, the next one begins with what the cloud still has. A turn keeps its number
until it is answered, so that the cloud does its work once.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from edge_client.exchange.coded_exchange import (
    Held,
    NamedBundle,
    Stopwatch,
    Wire,
    Wishes,
    disagreement,
    mismatch_of,
    naming,
    plain,
)
from edge_client.exchange.retrying import Retries
from edge_client.transport.base import Link, LinkDownError, NoSessionsError, Reply
from shared_protocol.errors import (
    BadMessageError,
    DeadlineError,
    LabelsMismatchError,
    OverloadedError,
    ServerTimeoutError,
    UnsupportedVersionError,
)
from shared_protocol.messages import Request
from shared_protocol.session.frames import (
    decode_error,
    decode_progress,
    decode_unknown,
    encode_cancel,
    encode_reset,
)
from shared_protocol.session.hello import (
    FINGERPRINT_BYTES,
    Hello,
    Status,
    Welcome,
    decode_welcome,
    encode_hello,
)
from shared_protocol.session.kinds import DOWN_ODDS, Down
from shared_protocol.session.port import Reader
from shared_protocol.session.previews import Preview
from shared_protocol.session.state import SESSION_ID_BYTES, KnownPicture, SessionState
from shared_protocol.session.turns import Answer, decode_reply, encode_turn
from shared_protocol.tasks import Scenario, Task
from shared_protocol.tokens import ImageTokens, KnownTokens

MAX_OFFERS = 4
"""Pictures that a hello offers; each costs 8 bytes, and an older one is sent again when it is
asked about."""


class Conversation:
    """Turns of one conversation, one at a time; opens a link when it needs one.

    Args:
        bundle: must be the cloud's, too.
        open_link: opens a link, within the seconds that it is given.
        timeout: seconds for one turn in all, waiting and repetitions included.
        key: proves who asks, where the link's opening has no place for it.
        wishes: what to hear meanwhile; its numbers count from the next link on.
        session: 8 bytes that name the conversation; None = new ones.
        turn: number of the turn that comes next.
        offers: whole pictures that the cloud may still have of this conversation.
    """

    def __init__(  # noqa: PLR0913 - what a conversation is made of; two of them resume an old one
        self,
        bundle: NamedBundle,
        open_link: Callable[[float], Link],
        timeout: float = 120.0,
        key: str | None = None,
        wishes: Wishes | None = None,
        session: bytes | None = None,
        turn: int = 0,
        offers: Sequence[ImageTokens] = (),
    ) -> None:
        self._bundle = bundle
        self._open_link = open_link
        self._timeout = timeout
        self._key = key or ""
        self.wishes = wishes or Wishes()
        known = tuple(KnownPicture(KnownTokens.all_of(tokens)) for tokens in offers[-MAX_OFFERS:])
        self._state = SessionState(session or os.urandom(SESSION_ID_BYTES), turn, known)
        self._link: Link | None = None
        self._reached = False
        self._wasted = Wire()
        self._sending = threading.Lock()

    @property
    def state(self) -> SessionState:
        """What both ends know before the next turn."""
        return self._state

    @property
    def linked(self) -> bool:
        """Whether a link is open, as far as this end knows."""
        return self._link is not None

    def hold(self, request: Request, watch: Stopwatch) -> Held:
        """Ask, and wait for the answer, whatever happens to the link.

        Raises:
            UnimicError: what the cloud answered instead, or why it could not be reached.
        """
        turn = _Turn(self, request, watch, time.monotonic() + self._timeout)
        try:
            return turn.hold()
        except (KeyboardInterrupt, ServerTimeoutError):
            self.cancel()
            self.close()
            raise

    def cancel(self) -> None:
        """End the turn that another thread waits for; it raises `WorkCancelledError` there."""
        link = self._link
        if link is not None:
            with suppress(LinkDownError):
                self.send(link, encode_cancel(self._state))

    def close(self) -> None:
        """Let go of the link; a later turn opens another."""
        link, self._link = self._link, None
        if link is not None:
            link.close()

    # What a turn needs ----------------------------------------------------------------------------

    def send(self, link: Link, frame: bytes) -> None:
        """Send a frame whole, though another thread may cancel at the same time."""
        with self._sending:
            link.send(frame)

    def ready_link(self, remaining: float) -> Link:
        """A link on which both ends know the same.

        Raises:
            LinkDownError, NoSessionsError, BundleMismatchError, UnimicError: there is none.
        """
        if self._link is None:
            deadline = time.monotonic() + remaining
            link = self._open_link(remaining)
            try:
                self._greet(link, max(0.001, deadline - time.monotonic()))
            except BaseException:
                self._wasted += Reply(b"", sent=link.sent, received=link.received, attempts=0)
                link.close()
                raise
            self._link = link
            self._reached = True
        return self._link

    def take_wasted(self) -> Wire:
        """Bytes of links that did not open, since this was asked last."""
        wasted, self._wasted = self._wasted, Wire()
        return wasted

    @property
    def reached(self) -> bool:
        """Whether the cloud has ever answered."""
        return self._reached

    def _greet(self, link: Link, remaining: float) -> None:
        offers = self._state.pictures[-MAX_OFFERS:]
        hello = Hello(
            self._bundle.fingerprint[:FINGERPRINT_BYTES],
            self._state.session,
            self._state.turn,
            self.wishes.reports if self.wishes.on_step else 0,
            self.wishes.on_preview is not None,
            self._key,
            tuple(picture.name for picture in offers),
        )
        self.send(link, encode_hello(hello))
        try:
            welcome = decode_welcome(link.receive(remaining), len(offers))
        except TimeoutError:
            raise LinkDownError("the server did not answer a hello", "check --server") from None
        except BadMessageError as error:
            raise NoSessionsError(f"the answer to a hello: {error.message}", "check it") from error
        self._check(welcome)
        known = [p for p, there in zip(offers, welcome.known, strict=True) if there]
        self._state = self._state.restart(self._state.turn, known)

    def _check(self, welcome: Welcome) -> None:
        if welcome.status is Status.VERSION:
            raise NoSessionsError(
                f"the server speaks version {welcome.version} of the session protocol",
                "give both ends the same version of unimic",
            )
        if welcome.status is Status.BUNDLE:
            raise mismatch_of(self._bundle, "another", welcome.fingerprint.hex())
        if welcome.error is not None:
            raise welcome.error

    def forget(self) -> None:
        """Both ends forgot what they knew, because one said so."""
        self._state = self._state.restart(self._state.turn)

    def advance(self, state: SessionState) -> None:
        """A turn was answered."""
        self._state = state


class _Turn:
    """One turn until its answer, over as many links and attempts as it takes."""

    def __init__(
        self, talk: Conversation, request: Request, watch: Stopwatch, deadline: float
    ) -> None:
        self._talk = talk
        self._request = request
        self._watch = watch
        self._deadline = deadline
        self._wire = Wire()
        self._opening = Wire()
        self._progress = 0
        self._retries = Retries(deadline)
        self._unread = 0
        self._uniform = False
        self._warnings: list[str] = []
        self._counted = (0, 0)
        self._on: Link | None = None

    def hold(self) -> Held:
        while True:
            self._wire = replace(self._wire, attempts=self._wire.attempts + 1)
            try:
                return self._attempt()
            except (OverloadedError, DeadlineError) as error:
                self._count()
                self._retries.wait(error, self._talk.reached)
            except LinkDownError as error:
                self._count()
                self._talk.close()
                self._retries.wait(error, self._talk.reached)
            except LabelsMismatchError:
                self._count()
                self._request = naming(self._request)
            except NoSessionsError as error:
                # Whatever let conversations through before will do so again.
                if error.retry_after is None or not self._talk.reached:
                    raise
                self._count()
                self._retries.wait(error, True)
            except BadMessageError as error:
                self._count()
                self._fall_back(error)

    def _attempt(self) -> Held:
        talk, bundle = self._talk, self._talk._bundle
        link = self._opened()
        with self._watch("encode"):
            scenario = Scenario.UNIFORM if self._uniform else None
            request = plain(self._request) if self._uniform else self._request
            state = talk.state
            turn, reference = encode_turn(request, state, bundle, scenario)
        started = time.perf_counter()
        talk.send(link, turn.data)
        wanted = talk.wishes.on_preview is not None
        preview = Preview.of(request, state, bundle) if wanted else None
        data, reader = self._await_reply(link, preview)
        self._watch.add("exchange", (time.perf_counter() - started) * 1000.0)
        with self._watch("decode"):
            try:
                answer: Answer = decode_reply(reader, len(data), request, state, bundle)
            except (BadMessageError, LabelsMismatchError):
                # The cloud has gone on to the next state; this brings it back.
                talk.send(link, encode_reset(state))
                talk.forget()
                raise
        talk.advance(state.after(request, reference, answer.response))
        self._count()
        return Held(
            answer.response,
            turn.anatomy,
            answer.anatomy,
            self._wire,
            self._opening,
            self._progress,
            tuple(self._warnings),
        )

    def _opened(self) -> Link:
        if self._talk.linked:
            link = self._talk.ready_link(self._left())
            self._follow(link, (link.sent, link.received) if self._on is not link else None)
            return link
        with self._watch("connect"):
            link = self._talk.ready_link(self._left())
        self._follow(link, (0, 0))
        before = self._wire
        self._count()
        opened = Wire(self._wire.sent - before.sent, self._wire.received - before.received)
        self._opening = Wire(
            self._opening.sent + opened.sent, self._opening.received + opened.received
        )
        return link

    def _follow(self, link: Link, counted: tuple[int, int] | None) -> None:
        """From now on count the bytes of `link`, those from `counted` on."""
        self._on = link
        if counted is not None:
            self._counted = counted

    def _count(self) -> None:
        """Add what has moved since the last count."""
        wasted = self._talk.take_wasted()
        self._opening += Reply(b"", sent=wasted.sent, received=wasted.received, attempts=0)
        self._wire += Reply(b"", sent=wasted.sent, received=wasted.received, attempts=0)
        if self._on is None:
            return
        sent, received = self._on.sent, self._on.received
        self._wire = replace(
            self._wire,
            sent=self._wire.sent + sent - self._counted[0],
            received=self._wire.received + received - self._counted[1],
        )
        self._counted = sent, received

    def _await_reply(self, link: Link, preview: Preview | None) -> tuple[bytes, Reader]:
        """The frame that answers the turn, its kind read; what comes before it is shown."""
        while True:
            try:
                data = link.receive(self._left())
            except TimeoutError:
                raise self._late() from None
            reader = Reader(data)
            kind = reader.symbol(DOWN_ODDS)
            if kind == Down.REPLY:
                return data, reader
            if kind == Down.ERROR:
                raise decode_error(reader)
            if kind == Down.UNKNOWN:
                decode_unknown(reader, self._talk.state.session)
                self._talk.forget()
                raise _unread(self._request.task)
            self._show(kind, reader, preview)
            self._progress += link.taken_by(data)

    def _show(self, kind: int, reader: Reader, preview: Preview | None) -> None:
        wishes = self._talk.wishes
        if kind == Down.PROGRESS:
            step = decode_progress(reader)
            if wishes.on_step is not None:
                wishes.on_step(*step)
        elif preview is not None:
            preview.decode(reader)
            if wishes.on_preview is not None:
                wishes.on_preview(preview.codes.copy(), preview.shown.copy())

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise self._late()
        return left

    def _late(self) -> ServerTimeoutError:
        return ServerTimeoutError(
            f"the turn was not answered in {self._talk._timeout:g} s",
            "give it longer with --timeout",
        )

    def _fall_back(self, error: BadMessageError) -> None:
        """After a frame that did not decode: in full, then with uniform coding, then give up."""
        self._unread += 1
        if self._unread > 2:
            self._talk.close()
            raise error
        if self._unread == 2:
            self._uniform = True
            self._warnings.append(disagreement("the two ends do not decode each other's"))


def _unread(task: Task) -> BadMessageError:
    """The error that the server could not read a turn, which may be of a task that is new to it."""
    fault = "the server could not read the turn"
    if task is not Task.CLASSIFY:
        return BadMessageError(fault)
    return UnsupportedVersionError(
        fault, f"a server from before the task {task.slug} cannot: update it, or ask another"
    )
