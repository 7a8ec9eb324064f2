"""Reply streams are read whole, trickled and with trailing bytes; nonsense is refused."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_protocol.errors import ChecksumError, DeadlineError, UnimicError
from shared_protocol.http.reply_stream import (
    Event,
    Failure,
    MalformedReplyError,
    Message,
    ReplyReader,
    ServerTiming,
    Step,
    timing_from_header,
    timing_to_header,
    write_event,
)

GOLDEN = Path(__file__).parents[3] / "golden" / "http"
MESSAGE = msgpack.packb(msgpack.ExtType(0x55, b"M" + bytes(range(40))))
EVENTS = [
    Step(1, 2),
    Step(2, 2),
    ServerTiming(decode=1.5, queue=0.0, model=20.0, encode=2.0),
    Message(MESSAGE),
]
TIMING = {"timing": {"decode": 1.5, "queue": 0.0, "model": 20.0, "encode": 2.0}}
STREAM = msgpack.packb([1, 2]) + msgpack.packb([2, 2]) + msgpack.packb(TIMING) + MESSAGE


def test_a_whole_stream_gives_every_event_in_order() -> None:
    reader = ReplyReader()
    assert reader.feed(STREAM) == EVENTS
    assert reader.complete
    assert reader.received == len(STREAM)


def test_a_stream_that_trickles_byte_by_byte_gives_the_same_events() -> None:
    reader = ReplyReader()
    events = [event for byte in STREAM for event in reader.feed(bytes([byte]))]
    assert events == EVENTS


@given(st.lists(st.integers(0, len(STREAM)), max_size=6))
def test_a_stream_cut_anywhere_gives_the_same_events(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    reader = ReplyReader()
    pieces = [STREAM[a:b] for a, b in pairwise(edges)]
    assert [event for piece in pieces for event in reader.feed(piece)] == EVENTS


def test_the_message_keeps_its_bytes_even_with_a_longer_header_than_needed() -> None:
    body = bytes(20)
    long_form = b"\xc9" + (20).to_bytes(4, "big") + b"\x55" + body
    assert ReplyReader().feed(long_form) == [Message(long_form)]


def test_a_stream_that_ends_early_is_not_complete() -> None:
    reader = ReplyReader()
    reader.feed(STREAM[:-1])
    assert not reader.complete


@pytest.mark.parametrize("extra", [b"\x01", b"\xc1", MESSAGE, MESSAGE[:5]])
def test_bytes_after_the_message_are_refused(extra: bytes) -> None:
    reader = ReplyReader()
    with pytest.raises(MalformedReplyError):
        reader.feed(STREAM + extra)
    later = ReplyReader()
    later.feed(STREAM)
    with pytest.raises(MalformedReplyError):
        later.feed(extra)


@pytest.mark.parametrize(
    "junk",
    [
        b"\xc1",
        b"<html>",
        msgpack.packb("text"),
        msgpack.packb([1]),
        msgpack.packb([1, -2]),
        msgpack.packb([True, 2]),
        msgpack.packb({"other": 1}),
        msgpack.packb({b"timing": 1}),
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xdb\x7f\xff\xff\xff" + bytes(2 << 20),
        b"\x91" * 2000,
    ],
)
def test_what_is_no_reply_stream_is_refused(junk: bytes) -> None:
    with pytest.raises(MalformedReplyError):
        ReplyReader().feed(junk)


@given(st.binary(max_size=200))
def test_random_bytes_never_raise_anything_else(junk: bytes) -> None:
    with suppress(MalformedReplyError):
        ReplyReader().feed(junk)


def test_a_reply_over_the_limit_is_refused_while_it_arrives() -> None:
    reader, step = ReplyReader(limit=1000), msgpack.packb([1, 2])
    for _ in range(1000 // len(step)):
        reader.feed(step)
    with pytest.raises(MalformedReplyError, match="longer than 1,000 bytes"):
        reader.feed(step)


@pytest.mark.parametrize("error", [DeadlineError, ChecksumError])
def test_a_late_failure_is_the_servers_typed_error(error: type[UnimicError]) -> None:
    body = {"code": error.code, "message": "too\nlate", "remedy": "ask less"}
    data = msgpack.packb([1, 2]) + msgpack.packb(body) + b"whatever follows"
    step, failure = ReplyReader().feed(data)
    assert step == Step(1, 2)
    assert isinstance(failure, Failure)
    assert type(failure.error) is error
    assert str(failure.error) == "too late (ask less)"


def test_the_writer_gives_what_the_reader_takes() -> None:
    assert b"".join(write_event(event) for event in EVENTS) == STREAM
    failure = Failure(DeadlineError("too late", "ask less", retry_after=2.0))
    (read,) = ReplyReader().feed(write_event(failure))
    assert isinstance(read, Failure)
    assert vars(read.error) == vars(failure.error)


@pytest.mark.parametrize("name", ["success", "failure"])
def test_golden_streams_never_change(name: str) -> None:
    timing = ServerTiming(decode=1.5, queue=0.25, model=20.0, encode=2.0)
    events: dict[str, list[Event]] = {
        "success": [Step(0, 18), Step(18, 18), timing, Message(MESSAGE)],
        "failure": [Step(0, 200), Failure(DeadlineError("too late", "ask less", 2.0))],
    }
    golden = bytes.fromhex((GOLDEN / f"{name}.hex").read_text(encoding="ascii"))
    assert b"".join(write_event(event) for event in events[name]) == golden


def test_timing_in_a_header_comes_back() -> None:
    timing = ServerTiming(decode=1.5, encode=0.0)
    assert timing_from_header(timing_to_header(timing)) == timing


def test_implausible_timings_are_dropped() -> None:
    header = 'decode;dur=1.5;desc="x", queue;dur=-1, model;dur=nan, encode;dur=two, other;dur=1'
    assert timing_from_header(header) == ServerTiming(decode=1.5)
