"""`/v1/responses`: questions, pictures as calls of a tool, and what follows an earlier response."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from edge_fakes import ANSWER
from gateway_fakes import LiveGateway, data_url, events_of, live_gateway, mask, png, scene

PATH = "responses"
PICTURE = png(scene())
TOOL = {"type": "image_generation"}


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> Iterator[LiveGateway]:
    with live_gateway(monkeypatch) as gateway:
        yield gateway


def said(text: str, picture: bytes | None = None) -> dict[str, Any]:
    parts = [{"type": "input_text", "text": text}]
    if picture is not None:
        parts.append({"type": "input_image", "image_url": data_url(picture)})
    return {"role": "user", "content": parts}


def test_a_question_is_answered_and_followed(live: LiveGateway) -> None:
    body = live.post(PATH, {"model": "m", "input": [said("what?", PICTURE)]}).json()
    assert body["status"] == "completed"
    assert body["output"][0]["content"][0]["text"] == ANSWER
    assert body["usage"]["input_tokens"] == 21
    later = live.post(PATH, {"input": "where?", "previous_response_id": body["id"]}).json()
    assert later["output"][0]["content"][0]["text"] == ANSWER
    assert later["unimic"]["image_tokens_sent"] == 0


def test_a_response_that_was_not_stored_cannot_be_followed(live: LiveGateway) -> None:
    body = live.post(PATH, {"input": [said("what?", PICTURE)], "store": False}).json()
    reply = live.post(PATH, {"input": "where?", "previous_response_id": body["id"]})
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == "previous_response_id"


def test_the_tool_makes_a_picture_that_can_be_asked_about(live: LiveGateway) -> None:
    asked = {"input": "an owl", "tools": [{**TOOL, "size": "128x128", "output_format": "webp"}]}
    body = live.post(PATH, asked).json()
    call = body["output"][0]
    assert (call["type"], call["status"]) == ("image_generation_call", "completed")
    assert (call["size"], call["output_format"]) == ("128x128", "webp")
    for link in (
        {"previous_response_id": body["id"], "input": "what is it?"},
        {"input": [said("an owl"), call, said("what is it?")]},
        {"input": [said("an owl"), {"type": "item_reference", "id": call["id"]}, said("what?")]},
    ):
        later = live.post(PATH, link).json()
        assert later["output"][0]["content"][0]["text"] == ANSWER
        assert later["unimic"]["image_tokens_sent"] == 0


def test_a_mask_makes_it_an_edit(live: LiveGateway) -> None:
    tool = {**TOOL, "input_image_mask": {"image_url": data_url(mask())}}
    body = live.post(PATH, {"input": [said("a hat", PICTURE)], "tools": [tool]}).json()
    assert body["output"][0]["type"] == "image_generation_call"
    assert live.cloud.asked[0].task.slug == "inpaint"


@pytest.mark.parametrize(
    ("text", "more", "kind"),
    [
        ("what is this?", {}, "vqa"),
        ("make it blue", {}, None),
        ("make it blue", {"action": "generate"}, "t2i"),
    ],
)
def test_what_is_meant_decides(
    live: LiveGateway, text: str, more: dict[str, Any], kind: str | None
) -> None:
    body = live.post(PATH, {"input": [said(text, PICTURE)], "tools": [{**TOOL, **more}]}).json()
    assert [request.task.slug for request in live.cloud.asked] == ([kind] if kind else [])
    if kind is None:
        assert "input_image_mask" in body["output"][0]["content"][0]["text"]


def test_an_edit_without_a_mask_is_refused_with_the_remedy(live: LiveGateway) -> None:
    tool = {**TOOL, "action": "edit"}
    reply = live.post(PATH, {"input": [said("a hat", PICTURE)], "tools": [tool]})
    error = reply.json()["error"]
    assert (reply.status_code, error["code"]) == (400, "invalid_image_file")
    assert error["param"] == "tools[0].input_image_mask"
    reply = live.post(PATH, {"input": "a hat", "tools": [tool]})
    assert reply.json()["error"]["param"] == "input"


def test_events_of_a_picture(live: LiveGateway) -> None:
    live.cloud.reports = 3
    tool = {**TOOL, "partial_images": 1}
    reply = live.post(PATH, {"input": "an owl", "tools": [tool], "stream": True})
    events = events_of(reply.text)
    assert [event["type"].removeprefix("response.") for event in events] == [
        "created", "in_progress", "output_item.added", "image_generation_call.in_progress",
        "image_generation_call.generating", "image_generation_call.partial_image",
        "image_generation_call.completed", "output_item.done", "completed",
    ]  # fmt: skip
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert events[-1]["response"]["output"][0] == events[-2]["item"]
    assert events[5]["item_id"] == events[-2]["item"]["id"]


def test_events_of_an_answer(live: LiveGateway) -> None:
    reply = live.post(PATH, {"input": [said("what?", PICTURE)], "stream": True})
    events = events_of(reply.text)
    assert [event["type"].removeprefix("response.") for event in events] == [
        "created", "in_progress", "output_item.added", "content_part.added", "output_text.delta",
        "output_text.done", "content_part.done", "output_item.done", "completed",
    ]  # fmt: skip
    assert events[-1]["response"]["unimic"]["bytes_up"] > 0


@pytest.mark.parametrize(
    ("field", "value", "param"),
    [
        ("text", {"format": {"type": "json_schema"}}, "text.format"),
        ("background", True, "background"),
        ("tool_choice", "required", "tool_choice"),
        ("input", [], "input"),
        ("input", [{"type": "message", "role": "boss", "content": "x"}], "input[0].role"),
        ("tools", [{**TOOL, "output_format": "gif"}], "tools[0].output_format"),
        ("tools", [{**TOOL, "action": "draw"}], "tools[0].action"),
    ],
)
def test_what_cannot_be_had_is_refused_by_name(
    live: LiveGateway, field: str, value: Any, param: str
) -> None:
    reply = live.post(PATH, {"input": "an owl", field: value})
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == param


def test_words_alone_and_what_has_no_effect(live: LiveGateway) -> None:
    asked = {"input": "hello", "temperature": 1, "instructions": "x", "tools": [{"type": "f"}]}
    body = live.post(PATH, asked).json()
    assert "only look at pictures" in body["output"][0]["content"][0]["text"]
    told = " ".join(body["unimic"]["warnings"])
    assert all(name in told for name in ("temperature", "instructions", "tool 'f'"))
