"""`/v1/chat/completions`: questions about pictures, and what chat applications send beside them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from edge_fakes import ANSWER
from gateway_fakes import LiveGateway, asked, data_url, events_of, live_gateway, mask, png, scene

PATH = "chat/completions"
PICTURE = png(scene())
SAID = {"role": "assistant", "content": ANSWER}


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> Iterator[LiveGateway]:
    with live_gateway(monkeypatch) as gateway:
        yield gateway


def test_a_question_about_a_picture_is_answered(live: LiveGateway) -> None:
    body = live.post(PATH, {"model": "unimic-fake", "messages": [asked("what?", PICTURE)]}).json()
    choice = body["choices"][0]
    assert choice["message"] == {"role": "assistant", "content": ANSWER, "refusal": None}
    assert choice["finish_reason"] == "stop"
    assert body["usage"]["prompt_tokens"] == 5 + 16
    assert body["usage"]["prompt_tokens_details"]["image_tokens"] == 16
    assert body["usage"]["completion_tokens"] == len(ANSWER)
    assert body["unimic"]["image_tokens_sent"] == 16
    assert body["unimic"]["warnings"] == []


def test_a_second_question_about_it_sends_words_only(live: LiveGateway) -> None:
    first = [asked("what?", PICTURE)]
    live.post(PATH, {"messages": first})
    body = live.post(PATH, {"messages": [*first, SAID, asked("where?")]}).json()
    assert body["unimic"]["image_tokens_sent"] == 0
    assert "remembers no words" in body["unimic"]["warnings"][0]


def test_a_chat_is_known_by_its_words_where_the_picture_is_left_out(live: LiveGateway) -> None:
    live.post(PATH, {"messages": [asked("what is it?", PICTURE)]})
    later = [{"role": "user", "content": "what  is it?"}, SAID, asked("where?")]
    body = live.post(PATH, {"messages": later}).json()
    assert body["choices"][0]["message"]["content"] == ANSWER
    assert body["unimic"]["image_tokens_sent"] == 0
    later[1] = {"role": "assistant", "content": "something else"}
    body = live.post(PATH, {"messages": later}).json()
    assert "only look at pictures" in body["choices"][0]["message"]["content"]


def test_the_picture_shown_last_is_asked_about(live: LiveGateway) -> None:
    other = png(scene().rotate(90))
    messages = [asked("what?", PICTURE), SAID, asked("and this?", other), SAID, asked("where?")]
    live.post(PATH, {"messages": messages})
    image = live.cloud.asked[0].image
    assert image is not None
    assert image.codes[0, 0] != 0


def test_two_chats_do_not_disturb_each_other(live: LiveGateway) -> None:
    other = png(scene().rotate(90))
    for picture in (PICTURE, other, PICTURE, other):
        body = live.post(PATH, {"messages": [asked("what?", picture)]}).json()
    assert body["unimic"]["image_tokens_sent"] == 0


def test_words_alone_get_an_honest_answer_and_nothing_travels(live: LiveGateway) -> None:
    title = "Create a concise title for this chat: <chat_history>USER: what?</chat_history>"
    body = live.post(PATH, {"messages": [{"role": "user", "content": title}]}).json()
    assert "Send a picture" in body["choices"][0]["message"]["content"]
    assert body["unimic"]["wire_up"] == 0
    assert live.cloud.hellos == []


def test_what_chats_send_unasked_is_told(live: LiveGateway) -> None:
    extra: dict[str, Any] = {"temperature": 0.2, "top_p": 1, "user": "u", "metadata": {"a": "b"}}
    extra |= {"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "auto"}
    extra |= {"parallel_tool_calls": True, "stream_options": {"include_usage": True}, "store": True}
    messages = [{"role": "system", "content": "Be brief."}, asked("what?", PICTURE)]
    reply = live.post(PATH, {"messages": messages, **extra})
    told = " ".join(reply.json()["unimic"]["warnings"])
    silent = [name for name in extra if name not in told and name != "tool_choice"]
    assert silent == []
    assert "system prompts" in told


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("response_format", {"type": "json_object"}), ("modalities", ["text", "audio"]),
        ("tool_choice", "required"), ("n", 9), ("messages", []), ("messages", "hello"),
        ("max_tokens", 0), ("unimic", {"fit": "zoom"}),
    ],
)  # fmt: skip
def test_answers_of_another_kind_are_refused_by_name(
    live: LiveGateway, field: str, value: Any
) -> None:
    reply = live.post(PATH, {"messages": [asked("what?", PICTURE)], field: value})
    assert reply.status_code == 400
    assert reply.json()["error"]["param"].startswith(field)


def test_content_of_another_kind_is_refused_by_its_place(live: LiveGateway) -> None:
    for part, place in (
        ({"type": "input_audio", "input_audio": {}}, "messages[0].content[0].type"),
        ({"type": "image_url", "image_url": {"url": "https://h/a.png"}},
         "messages[0].content[0].image_url.url"),
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,!!"}},
         "messages[0].content[0].image_url.url"),
    ):  # fmt: skip
        reply = live.post(PATH, {"messages": [{"role": "user", "content": [part]}]})
        assert reply.status_code == 400, part
        assert reply.json()["error"]["param"] == place


@pytest.mark.parametrize(
    "message",
    [5, {}, {"role": "boss"}, {"role": "user", "content": 5}, {"role": "user", "content": [5]},
     {"role": "user", "content": "x", "images": 5}, {"role": "assistant", "content": "x"},
     {"role": "user", "content": [{"type": "text", "text": 5}]},
     {"role": "user", "content": [{"type": "image_url"}]},
     {"role": "user", "content": [{"type": "image_url", "image_url": {"url": None}}]}],
)  # fmt: skip
def test_messages_of_no_use_are_refused(live: LiveGateway, message: Any) -> None:
    reply = live.post(PATH, {"messages": [message]})
    assert reply.status_code == 400, reply.text
    assert reply.json()["error"]["param"].startswith("messages")


def test_two_pictures_in_one_question_are_refused(live: LiveGateway) -> None:
    message = asked("which is larger?", PICTURE)
    message["content"].append({"type": "image_url", "image_url": data_url(mask())})
    reply = live.post(PATH, {"messages": [message]})
    assert reply.status_code == 400
    assert "one at a time" in reply.json()["error"]["message"]


def test_a_picture_that_was_made_here_is_known_by_its_address(live: LiveGateway) -> None:
    made = live.post("images/generations", {"prompt": "x", "response_format": "url"}).json()
    address = made["data"][0]["url"]
    part = {"type": "image_url", "image_url": {"url": address}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "what?"}, part]}]
    body = live.post(PATH, {"messages": messages}).json()
    assert body["unimic"]["image_tokens_sent"] == 0
    shown = {"role": "assistant", "content": f"![x]({address})"}
    body = live.post(PATH, {"messages": [asked("make it"), shown, asked("what?")]}).json()
    assert body["choices"][0]["message"]["content"] == ANSWER


def test_a_stream_ends_in_usage_and_done(live: LiveGateway) -> None:
    body = {"messages": [asked("what?", PICTURE)], "stream": True}
    events = events_of(live.post(PATH, body).text)
    assert events[-1] == "[DONE]"
    text = "".join(each["choices"][0]["delta"].get("content", "") for each in events[:-1])
    assert text == ANSWER
    assert events[-2]["choices"][0]["finish_reason"] == "stop"
    assert events[-2]["unimic"]["bytes_up"] > 0
    body["stream_options"] = {"include_usage": True}
    events = events_of(live.post(PATH, body).text)
    assert events[-2]["choices"] == []
    assert events[-2]["usage"]["completion_tokens"] == len(ANSWER)
    assert "unimic" in events[-2]


def test_several_answers_and_a_longest_one(live: LiveGateway) -> None:
    body = {"messages": [asked("what?", PICTURE)], "n": 2, "seed": -1, "max_tokens": 16}
    found = live.post(PATH, body).json()
    assert [choice["index"] for choice in found["choices"]] == [0, 1]
    assert found["choices"][0]["finish_reason"] == "length"
    assert [request.options.max_new_tokens for request in live.cloud.asked] == [16, 16]
