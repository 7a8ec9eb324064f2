"""The cloud's end of a conversation: frames in, frames out, one turn at a time.

It does not know what carries the frames; SESSION.md is the specification.

::

    hello ─► known pictures? ─► open ─► turn ─► decode ─► Service.request_job ─► encode ─► reply
                                  ▲        │ cannot be read: both ends forget            │
                                  └────────┴──────────────── next state ◄────────────────┘
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from typing import Any

from cloud_server.serving.admission.gate import Gate
from cloud_server.serving.frame_link import FrameLink, FramesAhead, LinkClosedError
from cloud_server.serving.pictures import PictureStore
from cloud_server.serving.service import Service, ServiceJob, party_of, work_key
from cloud_server.serving.telemetry.metrics import STATUS_CLIENT_GONE, Trace
from cloud_server.serving.ticket import Reports
from shared_protocol.errors import (
    BadMessageError,
    DeadlineError,
    InternalError,
    InvalidInputError,
    OverloadedError,
    UnimicError,
    UnsupportedVersionError,
    WorkCancelledError,
)
from shared_protocol.http.origin import UNKNOWN, Origin
from shared_protocol.messages import Admit, Options, Request
from shared_protocol.session.frames import (
    decode_cancel,
    decode_reset,
    encode_error,
    encode_progress,
    encode_unknown,
)
from shared_protocol.session.hello import (
    FINGERPRINT_BYTES,
    Hello,
    Status,
    Welcome,
    decode_hello,
    encode_welcome,
)
from shared_protocol.session.kinds import UP_ODDS, Up
from shared_protocol.session.port import Reader
from shared_protocol.session.previews import Preview
from shared_protocol.session.state import SessionState
from shared_protocol.session.turns import Turn, decode_turn, encode_reply

logger = logging.getLogger(__name__)
_FULL_RETRY_S = 2.0


class _UnreadError(Exception):
    """A turn could not be read; both ends are to forget what they know, and it comes again."""


class Conversations:
    """All conversations of a host: their number, their pictures, and how they end.

    Args:
        service: does the work.
    """

    def __init__(self, service: Service) -> None:
        settings = service.settings
        self.service = service
        self.pictures = PictureStore(
            settings.picture_bytes, settings.picture_total, settings.picture_ttl
        )
        most = settings.max_sessions
        self._gate = Gate(max(1, most * 3 // 4), most, lambda _: _FULL_RETRY_S)
        self._busy = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def open(self) -> int:
        """Connections."""
        return self._gate.inside

    @property
    def busy(self) -> int:
        """Turns under way."""
        return self._busy

    async def serve(
        self,
        link: FrameLink,
        authorization: str | None = None,
        address: str = "",
        origin: Origin = UNKNOWN,
    ) -> None:
        """Serve one connection until it ends; raises nothing but cancellation.

        Args:
            link: where frames come from and go to.
            authorization: what the link's own opening said about who asks, if it could.
            address: of the other end, so that those without keys take turns.
            origin: what that opening said about where requests come from.
        """
        try:
            with self._gate.passed(address):
                await self._serve(_Conversation(self, link, authorization, address, origin))
        except OverloadedError as error:
            with suppress(LinkClosedError):
                await link.send(encode_welcome(Welcome(Status.ERROR, error=error)))

    async def _serve(self, conversation: _Conversation) -> None:
        try:
            await conversation.run()
        except (LinkClosedError, TimeoutError):
            pass
        except UnimicError as error:
            logger.info("conversation ended: %s", error.code)
        except Exception:
            logger.exception("conversation failed")

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Count a turn while it is worked on."""
        self._busy += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._busy -= 1
            if not self._busy:
                self._idle.set()

    async def drain(self, grace_s: float) -> None:
        """Wait until no turn is under way, at most `grace_s` seconds."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), grace_s)


class _Conversation:
    """One connection."""

    def __init__(
        self,
        conversations: Conversations,
        link: FrameLink,
        authorization: str | None,
        address: str,
        origin: Origin,
    ) -> None:
        self._origin = origin
        self._all = conversations
        self._service = conversations.service
        self._link = link
        self._authorization = authorization
        self._state: SessionState
        self._hello: Hello
        self._owner = ""
        self._key_name = ""
        self._address = address
        self._party = ""
        self._frames = FramesAhead(link)
        self._answered = False

    async def run(self) -> None:
        """Hello, then turns until the other end is gone or silent for too long."""
        try:
            await self._run()
        finally:
            await self._frames.close()

    async def _run(self) -> None:
        settings = self._service.settings
        async with asyncio.timeout(settings.hello_timeout):
            data = await self._frames.take()
        if not await self._greet(data):
            return
        while True:
            async with asyncio.timeout(settings.session_idle):
                data = await self._frames.take()
            async with asyncio.timeout(settings.request_timeout + settings.hello_timeout):
                await self._take(data)  # a reader that takes nothing does not hold it for ever

    async def _greet(self, data: bytes) -> bool:
        """Answer a hello; whether the conversation is open now."""
        try:
            welcome = self._welcome(data)
        except UnsupportedVersionError:
            welcome = Welcome(Status.VERSION)
        except UnimicError as error:
            welcome = Welcome(Status.ERROR, error=error)
        await self._link.send(encode_welcome(welcome))
        return welcome.status is Status.OPEN

    def _welcome(self, data: bytes) -> Welcome:
        hello = decode_hello(data)
        key = self._authorization or (f"Bearer {hello.key}" if hello.key else None)
        owner = self._service.owner(key)
        bundle = self._service.model.bundle
        if hello.fingerprint != bundle.fingerprint[:FINGERPRINT_BYTES]:
            return Welcome(Status.BUNDLE, fingerprint=bundle.fingerprint)
        # Without keys nobody is told apart but by the 64 random bits of a conversation's name.
        self._owner = f"key {owner}" if owner else f"session {hello.session.hex()}"
        self._key_name = owner
        self._party = party_of(owner, self._address)
        self._hello = hello
        found = [self._all.pictures.get(self._owner, name) for name in hello.offers]
        known = [picture for picture in found if picture is not None]
        self._state = SessionState(hello.session, hello.turn, tuple(known))
        return Welcome(known=tuple(picture is not None for picture in found))

    async def _take(self, data: bytes) -> None:
        """Act on one frame between turns."""
        try:
            reader = Reader(data)
            kind = reader.symbol(UP_ODDS)
            if kind == Up.RESET:
                turn = decode_reset(reader, self._state.session)
                self._state = self._state.restart(turn)
            elif kind == Up.CANCEL:  # of a turn whose reply has crossed it
                decode_cancel(reader, self._state.session)
            else:
                await self._turn(data)
        except (BadMessageError, _UnreadError):
            self._state = self._state.restart(self._state.turn)
            await self._link.send(encode_unknown(self._state))

    async def _turn(self, data: bytes) -> None:
        """One turn from its bytes to its reply, with its line in the log.

        Raises:
            _UnreadError: it cannot be read.
            LinkClosedError: the other end is gone.
        """
        service = self._service
        trace = Trace.of(self._origin, service.metrics.exporter is not None)
        trace.note = f"session={self._state.session.hex()[:8]} turn={self._state.turn} "
        trace.owner, trace.party, trace.bytes_up = self._key_name, self._party, len(data)
        try:
            async with self._all.turn():
                with service.admission(self._party, self._key_name):
                    await self._answer(await self._read(data, trace), trace)
        except _UnreadError:
            trace.status = BadMessageError.http_status
            raise
        except UnimicError as error:
            trace.status = error.http_status
            await self._send(encode_error(error), trace)
        except (LinkClosedError, asyncio.CancelledError):
            trace.status = STATUS_CLIENT_GONE
            raise
        except Exception:
            logger.exception("incident %s", trace.id, extra={"request_id": trace.id})
            trace.status = 500
            fault = f"the server failed (incident {trace.id})"
            await self._send(
                encode_error(InternalError(fault, "report it with this number")), trace
            )
        finally:
            trace.finish()
            service.metrics.observe(trace)
            logger.info("%s", trace)

    async def _read(self, data: bytes, trace: Trace) -> Turn:
        """The turn in a frame.

        Raises:
            _UnreadError: it cannot be read; or it asks, before its check, for what is refused, and
                may have been misread, since the ends may differ in what they know.
            InvalidInputError: it asks for what is refused.
        """
        state, bundle = self._state, self._service.model.bundle

        def decode(admit: Admit) -> Turn:
            reader = Reader(data)
            reader.symbol(UP_ODDS)
            return decode_turn(reader, len(data), state, bundle, admit)

        try:
            with trace.stage("decode"):
                turn = await self._service.decode(trace, decode)
        except BadMessageError as error:
            raise _UnreadError from error
        except InvalidInputError as error:
            if state.pictures or state.options != Options():
                raise _UnreadError from error
            raise
        trace.task, trace.parts_up = turn.request.task, asdict(turn.anatomy.sizes)
        return turn

    async def _answer(self, turn: Turn, trace: Trace) -> None:
        settings, request = self._service.settings, turn.request
        key = work_key(self._owner, f"{self._state.session.hex()}:{self._state.turn}")
        preview = self._preview(request)
        watch = None if preview is None else preview.note
        limit = asyncio.timeout(settings.request_timeout)
        try:
            async with limit, self._service.request_job(request, trace, key, watch) as job:
                await self._until_cancelled(job, self._follow(turn, job, preview))
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise DeadlineError(
                f"it took longer than {settings.request_timeout:g} s",
                "send the turn again, or ask for fewer steps",
            ) from error

    def _preview(self, request: Request) -> _Watched | None:
        if not self._hello.previews:
            return None
        preview = Preview.of(request, self._state, self._service.model.bundle)
        return None if preview is None else _Watched(preview)

    async def _follow(self, turn: Turn, job: ServiceJob, preview: _Watched | None) -> None:
        """Report progress as it was asked for, then send the reply and go on to the next state."""
        slow = turn.request.row.makes_picture  # words and labels come at once
        reports = Reports(self._hello.progress if slow else 0)
        async for done, total in job.steps():
            if reports.due(done, total):
                await self._send(encode_progress(done, total), job.trace)
                await self._show(preview, job.trace)
        response = await job.response()
        service, state = self._service, self._state
        bundle = service.model.bundle
        with job.trace.stage("encode"):
            reply = await service.on_codec_thread(
                self._party, encode_reply, response, turn.request, state, bundle
            )
        job.trace.parts_down = asdict(reply.anatomy.sizes)
        self._state = state.after(turn.request, turn.reference, response)
        for picture in self._state.pictures[-2:]:
            self._all.pictures.put(self._owner, picture)
        self._answered = True
        with job.trace.span("send"):
            await self._send(reply.data, job.trace)

    async def _show(self, preview: _Watched | None, trace: Trace) -> None:
        if preview is None or preview.codes is None:
            return
        encode = preview.preview.encode
        frame = await self._service.on_codec_thread(self._party, encode, preview.codes)
        if frame is not None:
            await self._send(frame, trace)

    async def _send(self, frame: bytes, trace: Trace) -> None:
        await self._link.send(frame)
        trace.bytes_down += len(frame)

    async def _until_cancelled(self, job: ServiceJob, work: Coroutine[Any, Any, None]) -> None:
        """Await `work`; end the job when a cancel frame comes, leave it when the other end is gone.

        Raises:
            WorkCancelledError: it was cancelled.
            LinkClosedError: the other end is gone.
            BadMessageError: a frame that may not come now.
        """
        working, self._answered = asyncio.ensure_future(work), False
        coming = self._frames.coming()
        try:
            either: set[asyncio.Future[Any]] = {working, coming}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            # What comes after the reply is the next turn, which is not this one's to take.
            if not working.done() and not self._answered:
                self._check_cancel(await self._frames.take())
                job.cancel()
                raise WorkCancelledError("the turn was cancelled", "ask again")
            await working
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)

    def _check_cancel(self, data: bytes) -> None:
        reader = Reader(data)
        if reader.symbol(UP_ODDS) != Up.CANCEL:
            raise BadMessageError("a turn came before the one before it was answered")
        decode_cancel(reader, self._state.session)


class _Watched:
    """A preview and the codes of the picture as they are now."""

    def __init__(self, preview: Preview) -> None:
        self.preview = preview
        self.codes: Any = None

    def note(self, codes: Any) -> None:
        """Take note of the (H, W) codes of a step; called on the model's thread."""
        self.codes = codes
