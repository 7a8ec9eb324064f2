"""Where requests come from, and what a reply stream may say: values at their limits."""

from __future__ import annotations

import msgpack
import pytest

from shared_protocol.http.contract import MAX_REPLY_BYTES, REQUEST_ID, TRACEPARENT, TRACESTATE
from shared_protocol.http.origin import UNKNOWN, Origin, is_place
from shared_protocol.http.reply_stream import (
    MalformedReplyError,
    ReplyReader,
    ServerTiming,
    Step,
    timing_from,
    timing_from_header,
)

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PLACE = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize("place", [PLACE, f"01-{TRACE}-{SPAN}-00", f"01-{TRACE}-{SPAN}-00-more"])
def test_places_of_this_version_and_later_ones_are_known(place: str) -> None:
    assert is_place(place)


@pytest.mark.parametrize(
    "place",
    [
        "", f"{PLACE}-more", f"ff-{TRACE}-{SPAN}-01", f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01", PLACE[:-1], f"{PLACE}0", PLACE.upper(), f"0{PLACE}",
        f"00-{TRACE[:-1]}-{SPAN}-01", f"01-{TRACE}-{SPAN}-01more",
    ],
)  # fmt: skip
def test_other_places_are_not(place: str) -> None:
    assert not is_place(place)
    assert Origin.of({"traceparent": place, "tracestate": "a=1"}) == UNKNOWN


def test_what_headers_say_is_what_an_origin_says() -> None:
    said = {REQUEST_ID: "a-1", TRACEPARENT: PLACE, TRACESTATE: "x" * 512}
    origin = Origin.of({name.upper(): f" {value} " for name, value in said.items()})
    assert origin == Origin("a-1", PLACE, "x" * 512)
    assert origin.headers == said
    assert origin.trace_id == TRACE
    assert UNKNOWN.headers == {}
    assert UNKNOWN.trace_id == ""
    for state in ("x" * 513, "é"):
        assert Origin.of({**said, TRACESTATE: state}).tracestate == ""


def test_a_span_of_its_own_is_in_the_same_trace_or_in_a_new_one() -> None:
    begun = Origin("a", f"01-{TRACE}-{SPAN}-00", "s").begun()
    assert (begun.request_id, begun.tracestate, begun.trace_id) == ("a", "s", TRACE)
    assert begun.traceparent.startswith(f"00-{TRACE}-")
    assert begun.traceparent.endswith("-00")
    assert SPAN not in begun.traceparent
    new = UNKNOWN.begun()
    assert is_place(new.traceparent)
    assert new.traceparent.endswith("-01")
    assert new.trace_id != UNKNOWN.begun().trace_id


@pytest.mark.parametrize(("value", "taken"), [(0, 1), (1e9 - 1, 1), (1e9, 0), (-0.1, 0), ("1", 0)])
def test_a_plausible_time_is_taken(value: object, taken: int) -> None:
    assert len(timing_from({"decode": value}).stages()) == taken


def test_times_add_up_and_zero_is_one() -> None:
    assert ServerTiming().total == 0
    assert ServerTiming(1, 2, 4, 8).total == 15
    assert ServerTiming(queue=0.0).stages() == {"queue": 0.0}
    found = timing_from_header('decode;dur="2", queue;dur=x, model; desc=a; dur = 3 ,encode')
    assert found == ServerTiming(decode=2.0, model=3.0)


@pytest.mark.parametrize("value", [[0, 0], [2**31 - 1, 2**31 - 1]])
def test_steps_are_two_whole_numbers(value: list[int]) -> None:
    assert ReplyReader().feed(msgpack.packb(value)) == [Step(*value)]


@pytest.mark.parametrize("value", [[1], [1, 2, 3], [-1, 2], [0, 2**31], [True, 1], [1.0, 2]])
def test_other_arrays_are_no_steps(value: list[object]) -> None:
    with pytest.raises(MalformedReplyError, match=r"an array that is not \[step, total\]"):
        ReplyReader().feed(msgpack.packb(value))


def test_a_reply_of_just_the_limit_is_read() -> None:
    data = msgpack.packb(msgpack.ExtType(1, bytes(97)))
    assert len(ReplyReader(len(data)).feed(data)) == 1
    with pytest.raises(MalformedReplyError, match=f"is longer than {len(data) - 1} bytes"):
        ReplyReader(len(data) - 1).feed(data)
    assert ReplyReader()._limit == MAX_REPLY_BYTES
    reader = ReplyReader()
    assert reader.feed(data[:50]) == []
    assert (reader.received, reader.complete) == (50, False)
    assert len(reader.feed(data[50:])) == 1
    assert (reader.received, reader.complete) == (len(data), True)
