"""Requests as chat applications were seen to send them, word for word but for the pictures."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest
from edge_fakes import ANSWER
from gateway_fakes import LiveGateway, data_url, events_of, live_gateway, mask, png, scene

PICTURE = png(scene())


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> Iterator[LiveGateway]:
    with live_gateway(monkeypatch) as gateway:
        yield gateway


def test_open_webui_draws(live: LiveGateway) -> None:
    body = {"model": "dall-e-2", "prompt": "an owl", "n": 1, "size": "512x512"}
    found = live.post("images/generations", {**body, "response_format": "b64_json"}).json()
    assert base64.b64decode(found["data"][0]["b64_json"]).startswith(b"\x89PNG")
    found = live.post("images/generations", {**body, "model": "gpt-image-1"}).json()
    assert found["data"][0]["b64_json"]


def test_open_webui_edits(live: LiveGateway) -> None:
    data = {"model": "gpt-image-1", "prompt": "an owl", "n": "1", "size": "1024x1024"}
    hole = scene().convert("RGBA")
    hole.paste((0, 0, 0, 0), (16, 16, 32, 32))
    for name in ("image", "image[]"):
        files = [(name, ("image.png", png(hole), "image/png"))]
        reply = live.form("images/edits", {**data, "response_format": "b64_json"}, files)
        assert reply.status_code == 200, reply.text
        assert reply.json()["size"] == "1024x1024"


def test_open_webui_follows_an_address(live: LiveGateway) -> None:
    body = {"model": "dall-e-3", "prompt": "an owl", "response_format": "url"}
    address = live.post("images/generations", body).json()["data"][0]["url"]
    reply = live.client.get(address, headers={"authorization": "Bearer none"})
    assert reply.headers["content-type"] == "image/png"


def test_librechat_draws_and_edits(live: LiveGateway) -> None:
    body = {"model": "gpt-image-1", "prompt": "an owl", "n": 1, "size": "auto", "quality": "auto"}
    body |= {"background": "auto", "output_format": "png", "moderation": "auto", "user": "1"}
    assert live.post("images/generations", body).json()["data"][0]["b64_json"]
    data = {"model": "gpt-image-1", "prompt": "a hat", "n": "1", "quality": "high", "size": "auto"}
    hole = scene().convert("RGBA")
    hole.paste((0, 0, 0, 0), (16, 16, 32, 32))
    files = [("image[]", ("image_0.png", png(hole), "image/png"))]
    assert live.form("images/edits", data, files).json()["data"][0]["b64_json"]
    dall_e = {"model": "dall-e-3", "prompt": "x", "style": "vivid", "quality": "hd", "n": 1}
    assert live.post("images/generations", {**dall_e, "size": "1024x1024"}).status_code == 200


def test_llm_always_streams_with_usage(live: LiveGateway) -> None:
    part = {"type": "image_url", "image_url": {"url": data_url(PICTURE), "detail": "high"}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "what?"}, part]}]
    body = {"model": "m", "messages": messages, "stream": True}
    events = events_of(
        live.post(
            "chat/completions",
            {**body, "stream_options": {"include_usage": True}},
            accept="application/json",
        ).text
    )
    assert events[-1] == "[DONE]"
    assert events[-2]["usage"]["prompt_tokens"] > 16
    told = events[-2]["unimic"]["warnings"]
    assert any("detail" in each for each in told)


def test_raw_bytes_of_openais_library(live: LiveGateway) -> None:
    files = [
        ("image", ("upload", PICTURE, "application/octet-stream")),
        ("mask", ("upload", mask(), "application/octet-stream")),
    ]
    data = {"prompt": "x", "n": "2", "stream": "false", "partial_images": "0"}
    assert len(live.form("images/edits", data, files).json()["data"]) == 2


def test_ai_sdk_refers_to_what_was_said(live: LiveGateway) -> None:
    picture = {"type": "input_image", "image_url": data_url(PICTURE)}
    asked = {"role": "user", "content": [{"type": "input_text", "text": "what?"}, picture]}
    first = live.post("responses", {"model": "m", "input": [asked]}).json()
    said = {"type": "item_reference", "id": first["output"][0]["id"]}
    more = {"role": "user", "content": [{"type": "input_text", "text": "where?"}]}
    body = live.post("responses", {"model": "m", "input": [asked, said, more]}).json()
    assert body["output"][0]["content"][0]["text"] == ANSWER
    assert body["unimic"]["image_tokens_sent"] == 0
