"""What `/v1/chat/completions` asks: a question about a picture, or words that no picture is with.

It does not know who answers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from edge_client.gateway.requests.edit_request import read_fit
from edge_client.gateway.requests.fields import Fields
from edge_client.gateway.requests.messages import (
    Message,
    before_last,
    picture_of,
    question_of,
    read_messages,
)
from edge_client.gateway.requests.picture_wish import SEEDS, unknown_warnings
from shared_protocol.messages import MAX_NEW_TOKENS

MOST_ANSWERS = 8
MEMORY = "each question is answered from the picture alone: the model remembers no words"


@dataclass(frozen=True)
class ChatWish:
    """A chat that is to go on.

    Args:
        messages: all of it.
        text: what is asked.
        picture: what the picture came as, and its field; None = no message has one.
        earlier: what was said before, if anybody has answered.
        count: how many answers.
        seed: of the first.
        most: most tokens of an answer; None = not said.
        fit: how a picture of another shape becomes the model's square.
        stream: whether events come back.
        with_usage: whether they end with one on usage.
        warnings: what has no effect.
    """

    messages: tuple[Message, ...]
    text: str
    picture: tuple[Any, str] | None
    earlier: tuple[Message, ...]
    count: int = 1
    seed: int = 0
    most: int | None = None
    fit: str = "crop"
    stream: bool = False
    with_usage: bool = False
    warnings: tuple[str, ...] = ()


def read_chat(fields: Fields) -> ChatWish:
    """See `ChatWish`.

    Raises:
        RefusedError: a value that cannot be used, or that asks for what the model cannot say.
    """
    own = fields.inside("unimic")
    messages = read_messages(fields.raw("messages"), "messages")
    last = question_of(messages, "messages")
    earlier = before_last(messages)
    _refuse_other_answers(fields)
    stream = fields.flag("stream")
    told = [MEMORY] if earlier else []
    told += last.told
    if any(each.role in ("system", "developer") and each.text.strip() for each in messages):
        told.append("system prompts have no effect: the model takes a picture and a question")
    fields.raw("model")
    seed = own.whole("seed", 0, SEEDS - 1)
    beside = fields.whole("seed", -(2**63), 2**63, 0) or 0
    wish = ChatWish(
        tuple(messages),
        last.text,
        picture_of(messages),
        tuple(earlier),
        fields.whole("n", 1, MOST_ANSWERS, 1) or 1,
        beside % SEEDS if seed is None else seed,
        read_longest(fields, ("max_completion_tokens", "max_tokens")),
        read_fit(own),
        stream,
        stream and fields.inside("stream_options").flag("include_usage"),
    )
    return _with(wish, (*told, *unknown_warnings(fields, own)))


def read_longest(fields: Fields, names: tuple[str, ...]) -> int | None:
    """Most tokens of an answer, by the first of some names that is given."""
    found = [fields.whole(name, 1, 2**31) for name in names]
    most = next((each for each in found if each is not None), None)
    return None if most is None else min(most, MAX_NEW_TOKENS)


def _with(wish: ChatWish, told: tuple[str, ...]) -> ChatWish:
    return replace(wish, warnings=told)


def _refuse_other_answers(fields: Fields) -> None:
    """Answers are plain words: refuse requests for anything else."""
    form = fields.raw("response_format")
    if isinstance(form, dict) and form.get("type", "text") != "text":
        raise fields.refused("response_format", f"{form.get('type')} cannot be had: use text")
    modes = fields.raw("modalities") or ["text"]
    if not isinstance(modes, list) or any(mode != "text" for mode in modes):
        raise fields.refused(
            "modalities", "other than text cannot be had here: make pictures at /v1/images"
        )
    choice = fields.raw("tool_choice")
    if isinstance(choice, dict) or choice == "required":
        raise fields.refused("tool_choice", "cannot be had: the model calls no functions")
    if choice not in (None, "auto", "none"):
        raise fields.wrong("tool_choice", choice, "auto or none")
