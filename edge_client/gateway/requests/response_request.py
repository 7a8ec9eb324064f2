"""What `/v1/responses` asks: a question, a picture, or a change of one; and which of these it is.

It does not know who does it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from edge_client.gateway.requests.chat_request import MEMORY, read_longest
from edge_client.gateway.requests.edit_request import read_fit, read_look
from edge_client.gateway.requests.fields import Fields
from edge_client.gateway.requests.messages import (
    Message,
    before_last,
    picture_of,
    question_of,
    read_items,
)
from edge_client.gateway.requests.picture_wish import (
    SEEDS,
    PictureWish,
    read_wish,
    unknown_warnings,
)

TOOL = "image_generation"
_QUESTION = re.compile(
    r"(what|which|who|whose|where|when|why|how|is|are|was|were|does|do|did|can|could|has|have|"
    r"describe|count|name|tell|explain)\b",
    re.IGNORECASE,
)


class Kind(Enum):
    """What a response is to be."""

    ANSWER = "answer"
    PICTURE = "picture"
    EDIT = "edit"
    EITHER = "either"
    """An edit if the picture says where, else an answer that asks for it."""


@dataclass(frozen=True)
class ResponseWish:
    """A response that is to be given.

    Args:
        kind: what it is to be.
        messages: the input.
        text: what is asked.
        picture: what the picture came as, and its field; None = the input has none.
        earlier: what was said before, if anybody has answered.
        tool: how a picture is to be; None = none can be made.
        mask: what the mask came as, and its field.
        look: `around` and `edge` of `unimic`.
        previous: the response that this one follows.
        most: most tokens of an answer; None = not said.
        seed: of an answer.
        fit: how a picture of another shape becomes the model's square.
        stream: whether events come back.
        store: whether it can be followed later.
        echo: fields that an answer repeats.
        warnings: what has no effect.
    """

    kind: Kind
    messages: tuple[Message, ...]
    text: str
    picture: tuple[Any, str] | None
    earlier: tuple[Message, ...]
    tool: PictureWish | None
    mask: tuple[Any, str] | None
    look: tuple[float | None, float | None]
    previous: str | None
    most: int | None
    seed: int
    fit: str
    stream: bool
    store: bool
    echo: dict[str, Any]
    warnings: tuple[str, ...]


def read_response(fields: Fields) -> ResponseWish:
    """See `ResponseWish`.

    Raises:
        RefusedError: a value that cannot be used.
    """
    own = fields.inside("unimic")
    messages = read_items(fields.raw("input"), "input")
    last = question_of(messages, "input")
    earlier = before_last(messages)
    stream, previous = fields.flag("stream"), fields.text("previous_response_id") or None
    told = [MEMORY] if earlier or previous else []
    told += last.told
    if fields.text("instructions").strip() or any(
        each.role in ("system", "developer") and each.text.strip() for each in messages
    ):
        told.append("instructions have no effect: the model takes a picture and a question")
    tools = fields.raw("tools") or []
    if not isinstance(tools, list):
        raise fields.wrong("tools", tools, "a list")
    _refuse_other_answers(fields)
    tool, mask, action = _tool(tools, last.text, stream, own, told)
    must = _must(fields, tool)
    seed = own.whole("seed", 0, SEEDS - 1)
    fields.raw("model")
    wish = ResponseWish(
        kind=_kind(last, messages, (tool is not None, mask is not None), action, must),
        messages=tuple(messages),
        text=last.text,
        picture=picture_of(messages),
        earlier=tuple(earlier),
        tool=tool,
        mask=mask,
        look=read_look(own),
        previous=previous,
        most=read_longest(fields, ("max_output_tokens",)),
        seed=seed or 0,
        fit=read_fit(own),
        stream=stream,
        store=fields.flag("store", True),
        echo={
            "instructions": fields.raw("instructions"),
            "tools": tools,
            "tool_choice": fields.raw("tool_choice") or "auto",
        },
        warnings=(),
    )
    if tool is None:
        _read_all(own)
    return replace(wish, warnings=(*told, *unknown_warnings(fields, own)))


def _read_all(own: Fields) -> None:
    """Count the options of pictures as known, though no picture is made."""
    read_wish(Fields({}), "", own)


def _tool(
    tools: Sequence[Any], text: str, stream: bool, own: Fields, told: list[str]
) -> tuple[PictureWish | None, tuple[Any, str] | None, str]:
    """The tool that makes pictures: how they are to be, the mask, and what is to be done."""
    place = next(
        (n for n, each in enumerate(tools) if isinstance(each, dict) and each.get("type") == TOOL),
        None,
    )
    others = [str(each.get("type")) for each in tools if isinstance(each, dict)]
    told += [f"tool {name[:40]!r} has no effect" for name in others if name != TOOL]
    if place is None:
        return None, None, "auto"
    where = f"tools[{place}]"
    fields = Fields({**tools[place], "stream": stream}, f"{where}.")
    for known in ("type", "model"):
        fields.raw(known)
    action = fields.choice("action", ("auto", "generate", "edit"), "auto")
    mask = fields.raw("input_image_mask")
    params = (("prompt", "input"), ("image", "input"), ("mask", f"{where}.input_image_mask"))
    wish = read_wish(fields, text, own, params)
    told += [*wish.warnings, *unknown_warnings(fields)]
    return wish, None if mask is None else (mask, f"{where}.input_image_mask"), action


def _must(fields: Fields, tool: PictureWish | None) -> bool:
    """Whether a picture has to be made."""
    choice = fields.raw("tool_choice")
    named = choice.get("type") if isinstance(choice, dict) else choice
    if named in (None, "auto", "none"):
        return False
    if tool is None or named not in ("required", TOOL):
        raise fields.refused("tool_choice", f"cannot be had: the only tool is {TOOL}")
    return True


def _kind(
    last: Message,
    messages: Sequence[Message],
    has: tuple[bool, bool],
    action: str,
    must: bool,
) -> Kind:
    """What is to be done; `has` = whether there are a tool and a mask."""
    if not has[0]:
        return Kind.ANSWER
    if action != "auto":
        return Kind.PICTURE if action == "generate" else Kind.EDIT
    if has[1]:
        return Kind.EDIT
    asks = "?" in last.text or _QUESTION.match(last.text.strip()) is not None
    if last.pictures:
        if must:
            return Kind.EDIT
        return Kind.ANSWER if asks else Kind.EITHER
    return Kind.ANSWER if asks and picture_of(messages) and not must else Kind.PICTURE


def _refuse_other_answers(fields: Fields) -> None:
    form = fields.raw("text")
    kind = form.get("format") if isinstance(form, dict) else None
    if isinstance(kind, dict) and kind.get("type", "text") != "text":
        raise fields.refused("text.format", f"{kind.get('type')} cannot be had: use text")
    if fields.flag("background"):
        raise fields.refused("background", "true cannot be had: answers come at once")
