"""Frames of conversations, and the reply stream of HTTP.

As with messages, checks are not believed; what a frame says must still be what it says when it is
written again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from toy_bundle import GOLDEN, answer

from shared_protocol.errors import (
    DeadlineError,
    LabelsMismatchError,
    LimitError,
    OverloadedError,
)
from shared_protocol.http.reply_stream import (
    MalformedReplyError,
    Message,
    ReplyReader,
    ServerTiming,
    Step,
    timing_from_header,
    write_event,
)
from shared_protocol.message.parameters import request_digest
from shared_protocol.session import frames
from shared_protocol.session.framing import FrameCutter, framed
from shared_protocol.session.hello import (
    Hello,
    Status,
    Welcome,
    decode_hello,
    decode_welcome,
    encode_hello,
    encode_welcome,
)
from shared_protocol.session.kinds import DOWN_ODDS, UP_ODDS, Down, Up
from shared_protocol.session.port import Reader
from shared_protocol.session.previews import Preview
from shared_protocol.session.state import SessionState
from shared_protocol.session.turns import decode_reply, decode_turn, encode_reply, encode_turn
from targets.target import MESSAGE, Read, Target, changed, refused
from targets.toys import BUNDLE, SESSION, Turn, conversation

SESSIONS = "shared_protocol.session"
OFFERED = 9


def unchecked(read: Read) -> Read:
    """`read`, with every check of a frame taken for right."""

    def skip(reader: Reader, context: bytes) -> None:
        reader.uniform(1 << 16)

    def reading(data: bytes) -> object:
        with changed(Reader, "check", skip):
            return read(data)

    return reading


def read_hello(data: bytes) -> None:
    """The opening of either end, the first byte says of which."""
    if (data or b"\0")[0] % 2:
        welcome = decode_welcome(data[1:], OFFERED)
        back = decode_welcome(encode_welcome(welcome), OFFERED)
        assert (back.status, back.known) == (welcome.status, welcome.known)
    else:
        hello = decode_hello(data[1:])
        assert decode_hello(encode_hello(hello)) == hello


def _hellos() -> Iterator[bytes]:
    offers = tuple(bytes([n]) * 8 for n in range(3))
    hello = Hello(b"abcd", SESSION, 300, 15, True, "key", offers)
    for each in (hello, Hello(b"abcd", SESSION), Hello(b"abcd", SESSION, key="k" * 100)):
        yield b"\0" + encode_hello(each)
    known = tuple(n % 2 == 0 for n in range(OFFERED))
    yield b"\1" + encode_welcome(Welcome(Status.OPEN, known))
    yield b"\1" + encode_welcome(Welcome(Status.VERSION, version=3))
    yield b"\1" + encode_welcome(Welcome(Status.BUNDLE, fingerprint=bytes(32)))
    error = OverloadedError("full", "later", 2.0)
    yield b"\1" + encode_welcome(Welcome(Status.ERROR, error=error))


def prepare_turns(folder: Path) -> Read:
    """The first byte says in which state of a conversation a turn or small frame comes."""
    states = [turn.state for turn in conversation()]

    def read(data: bytes) -> None:
        state, frame = states[(data or b"\0")[0] % len(states)], data[1:]
        reader = Reader(frame)
        kind = reader.symbol(UP_ODDS)
        if kind == Up.RESET:
            turn = frames.decode_reset(reader, SESSION)
            again = frames.encode_reset(SessionState(SESSION, turn))
            assert frames.decode_reset(_after_kind(again, UP_ODDS), SESSION) == turn
        elif kind == Up.CANCEL:
            frames.decode_cancel(reader, SESSION)
        else:
            _same_turn(reader, frame, state)

    return unchecked(read)


def _same_turn(reader: Reader, frame: bytes, state: SessionState) -> None:
    turn = decode_turn(reader, len(frame), state, BUNDLE)
    up, reference = encode_turn(turn.request, state, BUNDLE, turn.anatomy.scenario)
    back = decode_turn(_after_kind(up.data, UP_ODDS), len(up.data), state, BUNDLE)
    assert request_digest(back.request) == request_digest(turn.request)
    assert back.reference == reference
    response = answer(back.request) if back.request.options.reply is None else None
    if response is not None:
        one = state.after(turn.request, turn.reference, response)
        assert one.turn == state.turn + 1
        encode_reply(response, turn.request, state, BUNDLE)


def _after_kind(frame: bytes, odds: tuple[int, ...]) -> Reader:
    reader = Reader(frame)
    reader.symbol(odds)
    return reader


def _turns() -> Iterator[bytes]:
    for place, turn in enumerate(conversation()):
        yield bytes([place]) + turn.up
    state = SessionState(SESSION, 70_000)
    yield b"\0" + frames.encode_reset(state)
    yield b"\0" + frames.encode_cancel(state)


def prepare_replies(folder: Path) -> Read:
    """The first byte says to which turn of a conversation a frame is read as the answer."""
    turns = conversation()

    def read(data: bytes) -> None:
        turn, frame = turns[(data or b"\0")[0] % len(turns)], data[1:]
        reader = Reader(frame)
        kind = reader.symbol(DOWN_ODDS)
        small: dict[int, Callable[[], object]] = {
            Down.PROGRESS: lambda: frames.decode_progress(reader),
            Down.ERROR: lambda: frames.decode_error(reader),
            Down.UNKNOWN: lambda: frames.decode_unknown(reader, SESSION),
        }
        if kind in small:
            small[kind]()
        elif kind == Down.REPLY:
            found = decode_reply(reader, len(frame), turn.request, turn.state, BUNDLE)
            down = encode_reply(found.response, turn.request, turn.state, BUNDLE).data
            back = _after_kind(down, DOWN_ODDS)
            again = decode_reply(back, len(down), turn.request, turn.state, BUNDLE)
            assert again.response == found.response
        else:
            _read_preview(reader, turn)

    return unchecked(read)


def _read_preview(reader: Reader, turn: Turn) -> None:
    preview = Preview.of(turn.request, turn.state, BUNDLE)
    if preview is not None:
        preview.decode(reader)
        assert preview.shown.any()


def _replies() -> Iterator[bytes]:
    for place, turn in enumerate(conversation()):
        yield bytes([place]) + turn.down
        preview = Preview.of(turn.request, turn.state, BUNDLE)
        response = answer(turn.request)
        if preview is not None and response.image is not None:
            yield bytes([place]) + (preview.encode(response.image.codes) or b"")
    yield b"\0" + frames.encode_unknown(SessionState(SESSION))
    yield b"\0" + frames.encode_progress(3, 8)
    yield b"\0" + frames.encode_error(DeadlineError("it took too long", "wait", 1.5))


def read_cut(data: bytes) -> None:
    """A stream of frames is cut into the same ones however it arrives."""
    whole, pieces = FrameCutter(), FrameCutter()
    found: list[bytes] = []
    error = refused(lambda: found.extend(whole.feed(data)), MESSAGE)
    slow: list[bytes] = []
    other = refused(
        lambda: [slow.extend(pieces.feed(data[at : at + 1])) for at in range(len(data))], MESSAGE
    )
    assert found == slow
    assert type(error) is type(other)
    joined = b"".join(framed(frame) for frame in found)
    assert data.startswith(joined)
    if isinstance(error, LimitError):
        raise error


def _streams() -> Iterator[bytes]:
    yield b"".join(framed(turn.up) for turn in conversation()[:6])
    yield framed(b"") + framed(bytes(300))


def read_reply_stream(data: bytes) -> None:
    """The same events however a reply arrives, until one of both ways refuses it."""
    whole, pieces = ReplyReader(1000), ReplyReader(1000)
    found: list[object] = []
    error = refused(lambda: found.extend(whole.feed(data)), (MalformedReplyError,))
    slow: list[object] = []

    def bytewise() -> None:
        for at in range(len(data)):
            slow.extend(pieces.feed(data[at : at + 1]))
            if pieces.complete:
                return

    other = refused(bytewise, (MalformedReplyError,))
    if error is None and other is None:
        assert len(found) == len(slow)
        assert whole.complete == pieces.complete
    for event in slow:
        if isinstance(event, (Step, ServerTiming, Message)):
            write_event(event)  # type: ignore[arg-type]
    timing_from_header(data.decode("latin-1"))


def _reply_streams() -> Iterator[bytes]:
    for path in sorted((GOLDEN / "http").glob("*.hex")):
        yield bytes.fromhex(path.read_text())
    yield write_event(ServerTiming(1.0, 2.0, 3.0, 4.0))
    yield b"decode;dur=1.5, model;desc=x;dur=20"


TARGETS = (
    Target("hello", lambda folder: read_hello, _hellos, (f"{SESSIONS}.hello",), MESSAGE, 300),
    Target(
        "turns",
        prepare_turns,
        _turns,
        (f"{SESSIONS}.turns", f"{SESSIONS}.fields", f"{SESSIONS}.state"),
        MESSAGE,
        500,
    ),
    Target(
        "replies",
        prepare_replies,
        _replies,
        (f"{SESSIONS}.turns", f"{SESSIONS}.frames", f"{SESSIONS}.previews", f"{SESSIONS}.port"),
        (*MESSAGE, LabelsMismatchError),
        500,
    ),
    Target(
        "frame_cutter", lambda folder: read_cut, _streams, (f"{SESSIONS}.framing",), MESSAGE, 600
    ),
    Target(
        "reply_stream",
        lambda folder: read_reply_stream,
        _reply_streams,
        ("shared_protocol.http.reply_stream",),
        (MalformedReplyError,),
        600,
        words=(b"\x81\xa6timing", b"\xa4code", b"\xa7message", b"\xabretry_after"),
    ),
)
