"""An application's name for a request, and its place in a trace, go on to the cloud."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from gateway_fakes import LiveGateway, live_gateway

from edge_client.transport.base import ORIGIN
from shared_protocol.errors import PromptError
from shared_protocol.http.origin import UNKNOWN, Origin

GENERATE = "images/generations"
PLACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> Iterator[LiveGateway]:
    with live_gateway(monkeypatch, sessions=2, queue=2) as gateway:
        yield gateway


@pytest.fixture
def seen(live: LiveGateway, monkeypatch: pytest.MonkeyPatch) -> list[Origin]:
    """Where each turn came from, as a link of it would say."""
    found: list[Origin] = []
    respond = live.cloud.respond

    def noting(request):  # type: ignore[no-untyped-def]
        found.append(ORIGIN.get())
        return respond(request)

    monkeypatch.setattr(live.cloud, "respond", noting)
    return found


@pytest.mark.parametrize("more", [{}, {"n": 2}, {"stream": True}])
def test_name_and_trace_go_on_to_the_cloud(
    live: LiveGateway, seen: list[Origin], more: dict[str, object]
) -> None:
    headers = {"x-request-id": "app.17", "traceparent": PLACE, "tracestate": "v=1"}
    reply = live.client.post(f"/v1/{GENERATE}", json={"prompt": "x", **more}, headers=headers)
    assert reply.status_code == 200
    assert reply.headers["x-request-id"] == "app.17"
    assert seen
    for origin in seen:
        assert (origin.request_id, origin.tracestate) == ("app.17", "v=1")
        assert origin.trace_id == PLACE[3:35]
        assert origin.traceparent != PLACE, "a span of its own"


def test_without_them_the_cloud_is_told_nothing(live: LiveGateway, seen: list[Origin]) -> None:
    headers = {"x-request-id": "two words", "traceparent": "junk"}
    for given in (headers, {}):
        reply = live.client.post(f"/v1/{GENERATE}", json={"prompt": "x"}, headers=given)
        assert reply.headers["x-request-id"].startswith("req_")
    assert seen == [UNKNOWN, UNKNOWN]


def test_a_failure_is_logged_under_the_applications_name(
    live: LiveGateway, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "edge_client")
    live.cloud.errors = [PromptError("no")]
    headers = {"x-request-id": "app.18"}
    reply = live.client.post(f"/v1/{GENERATE}", json={"prompt": "x"}, headers=headers)
    assert (reply.status_code, reply.headers["x-request-id"]) == (400, "app.18")
    assert any(line.startswith("app.18 refused: 400") for line in caplog.messages)
