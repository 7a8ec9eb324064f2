"""Addresses in requests: not fetched, unless that is allowed, and never from inside a network."""

from __future__ import annotations

import socket
from typing import Any

import httpx
import pytest
from gateway_fakes import live_gateway, png, scene

from edge_client.gateway.refused import RefusedError
from edge_client.gateway.requests import fetching

PICTURE = png(scene())


def known_as(monkeypatch: pytest.MonkeyPatch, *places: str) -> None:
    """Every name has these addresses."""

    def found(*_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (place, 80)) for place in places]

    monkeypatch.setattr(socket, "getaddrinfo", found)


def served(monkeypatch: pytest.MonkeyPatch, reply: Any) -> list[httpx.Request]:
    """What is asked of the servers, which all answer with `reply`."""
    asked: list[httpx.Request] = []
    usual = httpx.Client

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return reply(request)  # type: ignore[no-any-return]

    monkeypatch.setattr(
        fetching.httpx, "Client", lambda **_: usual(transport=httpx.MockTransport(answer))
    )
    return asked


def test_nothing_is_fetched_unless_it_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    part = {"type": "image_url", "image_url": {"url": "https://h.example/a.png"}}
    body = {"messages": [{"role": "user", "content": [part]}]}
    with live_gateway(monkeypatch) as live:
        error = live.post("chat/completions", body).json()["error"]
    assert error["code"] == "fetch_not_allowed"
    assert "--allow-fetch" in error["message"]


def test_a_question_about_a_fetched_picture_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "public_address", lambda *_: "93.184.216.34")
    part = {"type": "image_url", "image_url": {"url": "https://h.example/a.png"}}
    text = {"type": "text", "text": "what is it?"}
    body = {"messages": [{"role": "user", "content": [text, part]}]}
    with live_gateway(monkeypatch, allow_fetch=True) as live:
        asked = served(monkeypatch, lambda _: httpx.Response(200, content=PICTURE))
        reply = live.post("chat/completions", body)
        assert reply.status_code == 200, reply.text
        assert live.cloud.asked[0].image is not None
    assert [request.headers["host"] for request in asked] == ["h.example"]


def test_a_public_picture_is_fetched_from_the_address_that_was_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known_as(monkeypatch, "93.184.216.34")
    asked = served(monkeypatch, lambda _: httpx.Response(200, content=PICTURE))
    assert fetching.fetch_picture("https://h.example/a.png?x=1") == PICTURE
    assert asked[0].url.host == "93.184.216.34"
    assert asked[0].headers["host"] == "h.example"
    assert asked[0].extensions["sni_hostname"] == "h.example"


@pytest.mark.parametrize(
    "places",
    [("127.0.0.1",), ("10.1.2.3",), ("169.254.169.254",), ("::1",), ("fd00::1",), ("0.0.0.0",),
     ("93.184.216.34", "192.168.0.1"), ("100.64.0.1",), ("::ffff:127.0.0.1",)],
)  # fmt: skip
def test_what_lies_inside_of_a_network_is_not_fetched(
    monkeypatch: pytest.MonkeyPatch, places: tuple[str, ...]
) -> None:
    known_as(monkeypatch, *places)
    asked = served(monkeypatch, lambda _: httpx.Response(200, content=PICTURE))
    with pytest.raises(RefusedError, match="inside of a network"):
        fetching.fetch_picture("http://h.example/a.png")
    assert asked == []


def test_a_redirect_into_a_network_is_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        socket, "getaddrinfo",
        lambda host, *_, **__: [(0, 0, 0, "", ("10.0.0.1" if host == "in" else "8.8.8.8", 80))],
    )  # fmt: skip
    asked = served(monkeypatch, lambda _: httpx.Response(302, headers={"location": "http://in/"}))
    with pytest.raises(RefusedError, match="inside of a network"):
        fetching.fetch_picture("http://h.example/a.png")
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (httpx.Response(404), "answers 404"),
        (httpx.Response(302, headers={"location": "/again"}), "leads on"),
        (httpx.Response(302, headers={"location": "file:///etc/passwd"}), "only http"),
        (httpx.Response(200, content=b"x" * 2000), "over"),
    ],
)
def test_other_answers_are_refused(
    monkeypatch: pytest.MonkeyPatch, reply: httpx.Response, why: str
) -> None:
    known_as(monkeypatch, "8.8.8.8")
    monkeypatch.setattr(fetching, "MAX_FETCHED", 1000)
    served(monkeypatch, lambda _: reply)
    with pytest.raises(RefusedError, match=why):
        fetching.fetch_picture("http://h.example/a.png")
