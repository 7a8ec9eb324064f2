"""The cloud's end of a conversation in a few lines, with faults on demand; no sockets, no model."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from toy_bundle import ToyBundle, answer

from edge_client.transport.base import LinkDownError
from shared_protocol.errors import BadMessageError, UnimicError
from shared_protocol.messages import Request, Response
from shared_protocol.session.frames import (
    decode_cancel,
    decode_reset,
    encode_error,
    encode_progress,
    encode_unknown,
)
from shared_protocol.session.framing import framed
from shared_protocol.session.hello import Hello, Status, Welcome, decode_hello, encode_welcome
from shared_protocol.session.kinds import UP_ODDS, Up
from shared_protocol.session.port import Reader
from shared_protocol.session.previews import Preview
from shared_protocol.session.state import KnownPicture, SessionState
from shared_protocol.session.turns import decode_turn, encode_reply

Spoil = Callable[[bytes], bytes]


@dataclass
class ToyCloud:
    """Answers like the toy bundle's `answer`; every link to it is a `ToyLink`.

    Attributes:
        asked: requests whose work was done, each once.
        store: pictures that it has.
        hellos: all hellos.
        spoil_up, spoil_down: change one frame of the turn on its way, then become None.
        cut_before, cut_after: break the link before the turn arrives, or before its reply does;
            then become False.
        errors: raised in place of the next turns' answers.
        reports: progress frames before a reply, each with a preview where the hello wants them.
    """

    bundle: Any = field(default_factory=ToyBundle)
    respond: Callable[[Request], Response] = answer
    asked: list[Request] = field(default_factory=list)
    store: dict[bytes, KnownPicture] = field(default_factory=dict)
    hellos: list[Hello] = field(default_factory=list)
    spoil_up: Spoil | None = None
    spoil_down: Spoil | None = None
    cut_before: bool = False
    cut_after: bool = False
    errors: list[UnimicError] = field(default_factory=list)
    reports: int = 0
    done: dict[tuple[bytes, int], Response] = field(default_factory=dict)
    welcome: Welcome | None = None

    def link(self, seconds: float = 0.0) -> ToyLink:
        """A new link."""
        return ToyLink(self)


class ToyLink:
    """One connection to a `ToyCloud`."""

    def __init__(self, cloud: ToyCloud) -> None:
        self.cloud = cloud
        self.sent = 0
        self.received = 0
        self.closed = False
        self.cancelled = 0
        self.state: SessionState | None = None
        self.frames: list[bytes] = []
        self.hello: Hello | None = None
        self._waiting: deque[bytes | Exception] = deque()

    def send(self, frame: bytes) -> None:
        if self.closed:
            raise LinkDownError("closed")
        self.sent += len(framed(frame))
        self.frames.append(frame)
        if self.state is None:
            self._greet(frame)
        else:
            self._take(frame)

    def receive(self, timeout: float) -> bytes:
        if not self._waiting:
            raise TimeoutError
        found = self._waiting.popleft()
        if isinstance(found, Exception):
            self.closed = True
            raise found
        self.received += len(framed(found))
        return found

    def taken_by(self, frame: bytes) -> int:
        return len(framed(frame))

    def close(self) -> None:
        self.closed = True

    def _greet(self, frame: bytes) -> None:
        cloud = self.cloud
        hello = decode_hello(frame)
        cloud.hellos.append(hello)
        self.hello = hello
        if cloud.welcome is not None:
            self._waiting.append(encode_welcome(cloud.welcome))
            return
        known = tuple(name in cloud.store for name in hello.offers)
        pictures = [cloud.store[name] for name in hello.offers if name in cloud.store]
        self.state = SessionState(hello.session, hello.turn, tuple(pictures))
        self._waiting.append(encode_welcome(Welcome(Status.OPEN, known)))

    def _take(self, frame: bytes) -> None:
        cloud, state = self.cloud, self.state
        assert state is not None
        if cloud.cut_before:
            cloud.cut_before = False
            self._waiting.append(LinkDownError("cut"))
            return
        try:
            reader = Reader(frame)
            kind = reader.symbol(UP_ODDS)
            if kind == Up.RESET:
                self.state = state.restart(decode_reset(reader, state.session))
            elif kind == Up.CANCEL:
                decode_cancel(reader, state.session)
                self.cancelled += 1
            else:
                self._turn(frame, state)
        except BadMessageError:
            self.state = state.restart(state.turn)
            self._waiting.append(encode_unknown(state))

    def _turn(self, frame: bytes, state: SessionState) -> None:
        cloud = self.cloud
        if cloud.spoil_up is not None:
            frame, cloud.spoil_up = cloud.spoil_up(frame), None
        reader = Reader(frame)
        reader.symbol(UP_ODDS)
        turn = decode_turn(reader, len(frame), state, cloud.bundle)
        if cloud.errors:
            self._waiting.append(encode_error(cloud.errors.pop(0)))
            return
        place = state.session, state.turn
        if place not in cloud.done:
            cloud.asked.append(turn.request)
            cloud.done[place] = cloud.respond(turn.request)
        response = cloud.done[place]
        reply = encode_reply(response, turn.request, state, cloud.bundle).data
        self.state = state.after(turn.request, turn.reference, response)
        for picture in self.state.pictures:
            cloud.store[picture.name] = picture
        if cloud.cut_after:
            cloud.cut_after = False
            self._waiting.append(LinkDownError("cut"))
            return
        self._report(turn.request, state, response)
        if cloud.spoil_down is not None:
            reply, cloud.spoil_down = cloud.spoil_down(reply), None
        self._waiting.append(reply)

    def _report(self, request: Request, state: SessionState, response: Response) -> None:
        cloud, hello = self.cloud, self.hello
        wanted = hello is not None and hello.previews and response.image is not None
        preview = Preview.of(request, state, cloud.bundle) if wanted else None
        for step in range(cloud.reports):
            self._waiting.append(encode_progress(step + 1, cloud.reports + 1))
            frame = None
            if preview is not None and response.image is not None:
                frame = preview.encode(response.image.codes)
            if frame is not None:
                self._waiting.append(frame)
