"""What an edge says of where a request comes from: nothing, unless somebody traces or named it."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import closing

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving_fakes import BUNDLE, LiveServer, a_request, fake_settings

from edge_client.exchange.best import BestExchange
from edge_client.exchange.coded_exchange import Stopwatch
from edge_client.exchange.tracing import interaction
from edge_client.transport.base import ORIGIN
from edge_client.transport.http import HttpTransport
from shared_protocol.errors import PromptError
from shared_protocol.http.origin import UNKNOWN, Origin, is_place
from shared_protocol.tasks import Task

PLACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE = PLACE[3:35]
ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}


@pytest.mark.parametrize(
    "bad",
    [
        "",
        PLACE[:-1],
        PLACE + "-more",
        PLACE.upper(),
        "ff" + PLACE[2:],
        PLACE.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32),
        PLACE.replace("b7ad6b7169203331", "0" * 16),
        PLACE + "\n",
    ],
)
def test_what_is_no_place_in_a_trace_says_nothing(bad: str) -> None:
    assert not is_place(bad)
    assert Origin.of({"traceparent": bad + "x", "tracestate": "a=b"}) == UNKNOWN


def test_a_later_version_may_say_more() -> None:
    assert is_place("01" + PLACE[2:] + "-more")
    assert Origin.of({"Traceparent": "01" + PLACE[2:]}).trace_id == TRACE


@given(st.dictionaries(st.sampled_from(["x-request-id", "traceparent", "tracestate"]), st.text()))
def test_whatever_headers_say_may_be_sent_on(headers: dict[str, str]) -> None:
    origin = Origin.of(headers)
    assert Origin.of(origin.headers) == origin
    assert all(value.isascii() and value.isprintable() for value in origin.headers.values())


def begun(**environment: str) -> Origin:
    with interaction(environment):
        return ORIGIN.get()


def test_nothing_is_said_where_nobody_traces() -> None:
    assert begun() is UNKNOWN
    assert begun(UNIMIC_TRACE="0", **ENDPOINT) is UNKNOWN
    assert begun(OTEL_SDK_DISABLED="true", **ENDPOINT) is UNKNOWN


def test_each_interaction_has_a_span_of_its_own_in_a_new_trace_or_in_the_callers() -> None:
    for environment in ({"UNIMIC_TRACE": "1"}, ENDPOINT, {"TRACEPARENT": "junk"}):
        first, second = begun(**environment), begun(**environment)
        assert is_place(first.traceparent)
        assert first.traceparent.endswith("-01")
        assert first.trace_id != second.trace_id
    given_ = {"TRACEPARENT": PLACE[:-1] + "0", "TRACESTATE": "vendor=1"}
    first, second = begun(**given_), begun(**given_)
    assert first.trace_id == second.trace_id == TRACE
    assert len({first.traceparent, second.traceparent, given_["TRACEPARENT"]}) == 3
    assert first.tracestate == "vendor=1"
    assert first.traceparent.endswith("-00"), "what is not sampled stays so"
    token = ORIGIN.set(Origin("name-1", PLACE))
    try:
        inner = begun(TRACEPARENT=PLACE.replace("0af7", "1111"), UNIMIC_TRACE="0")
    finally:
        ORIGIN.reset(token)
    assert (inner.request_id, inner.trace_id) == ("name-1", TRACE)
    assert inner.traceparent != PLACE
    assert ORIGIN.get() is UNKNOWN


def test_a_post_says_it_in_its_head_and_nothing_else_changes() -> None:
    heads: list[httpx.Headers] = []

    def handle(request: httpx.Request) -> httpx.Response:
        heads.append(request.headers)
        told = httpx.ByteStream(b'{"code": "bad_prompt", "message": "no"}')
        return httpx.Response(422, headers={"Content-Type": "application/json"}, stream=told)

    transport = HttpTransport("http://127.0.0.1:1", handler=httpx.MockTransport(handle))
    for environment in ({}, {"TRACEPARENT": PLACE}):
        with interaction(environment), pytest.raises(PromptError):
            transport.exchange(Task.T2I, b"x", "k")
    assert set(heads[1]) - set(heads[0]) == {"traceparent"}
    assert heads[1]["traceparent"][3:35] == TRACE


@pytest.fixture
def exchange() -> Iterator[BestExchange]:
    with (
        LiveServer(fake_settings(port=0)) as server,
        closing(BestExchange(BUNDLE, server.url)) as found,
    ):
        yield found


def test_a_conversation_opens_anew_for_another_origin_only(
    exchange: BestExchange, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "cloud_server")

    def opened(origin: Origin) -> bool:
        token = ORIGIN.set(origin)
        try:
            return exchange.hold(a_request(), Stopwatch()).opening.sent > 0
        finally:
            ORIGIN.reset(token)

    named, other = Origin("name-1", PLACE), Origin("name-2", PLACE)
    asked = [UNKNOWN, UNKNOWN, named, named.begun(), other, UNKNOWN]
    assert [opened(origin) for origin in asked] == [True, False, True, False, True, True]
    until = time.monotonic() + 10
    while len(lines := [line for line in caplog.messages if "task=t2i" in line]) < len(asked):
        assert time.monotonic() < until, "a turn is logged just after its reply"
    named_so = [line.partition(" ")[0].removeprefix("id=") for line in lines]
    assert named_so[2:5] == ["name-1", "name-1", "name-2"]
    assert all(len(name) == 8 for name in (*named_so[:2], named_so[5]))
    assert len({line.split("session=")[1][:8] for line in lines}) == 1
