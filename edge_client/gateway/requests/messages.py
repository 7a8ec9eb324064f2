"""Messages of a chat: what is asked last, which picture it is about, and what was said before.

It does not know who answers. The items of `/v1/responses` are read into the same form.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edge_client.gateway.refused import RefusedError
from edge_client.gateway.requests.pictures import OWN_PICTURE

CALL = "ig_"
"""Begins the name of a call of the tool that makes pictures."""
_TEXTS = ("text", "input_text", "output_text", "refusal", "summary_text")
_IMAGES = ("image_url", "input_image", "output_image", "image")
_ROLES = ("system", "developer", "user", "assistant", "tool", "function")


@dataclass(frozen=True)
class Message:
    """One message.

    Args:
        role: who said it.
        text: its words.
        pictures: what it holds of pictures, as it came, each with the name of its field.
        told: what of it has no effect.
    """

    role: str
    text: str
    pictures: tuple[tuple[Any, str], ...] = ()
    told: tuple[str, ...] = ()


def read_messages(values: Any, param: str) -> list[Message]:
    """Messages as `/v1/chat/completions` takes them.

    Raises:
        RefusedError: they are none; so do all of this module.
    """
    if not isinstance(values, list) or not values:
        raise RefusedError(f"{param} must be a list of messages", param)
    return [_message(value, f"{param}[{place}]") for place, value in enumerate(values)]


def read_items(value: Any, param: str) -> list[Message]:
    """The input of `/v1/responses`: a text, or messages and earlier calls of tools."""
    if isinstance(value, str):
        return [Message("user", value)]
    if not isinstance(value, list) or not value:
        raise RefusedError(f"{param} must be a text or a list", param)
    return [_item(item, f"{param}[{place}]") for place, item in enumerate(value)]


def _item(item: Any, where: str) -> Message:
    """A message, or what counts as one: what a tool made is a picture of the assistant's."""
    if not isinstance(item, dict):
        raise RefusedError(f"{where} is no item", where)
    kind = item.get("type", "message")
    if kind == "message":
        return _message(item, where)
    picture = None
    if kind == "image_generation_call":
        picture = item.get("result") or item.get("id")
    elif kind == "item_reference" and str(item.get("id")).startswith(CALL):
        picture = item["id"]
    return Message("assistant", "", ((picture, where),) if picture else ())


def question_of(messages: Sequence[Message], param: str) -> Message:
    """The last message of the user.

    Raises:
        RefusedError: there is none, or it has several pictures.
    """
    last = next((each for each in reversed(messages) if each.role == "user"), None)
    if last is None:
        raise RefusedError(f"{param} has no message of the user", param)
    if len(last.pictures) > 1:
        raise RefusedError(
            f"the last message has {len(last.pictures)} pictures: the model looks at one, so send "
            "one at a time",
            last.pictures[1][1],
        )
    return last


def picture_of(messages: Sequence[Message]) -> tuple[Any, str] | None:
    """The picture that was shown or made last; None where there is none."""
    return next((each.pictures[-1] for each in reversed(messages) if each.pictures), None)


def talk_key(messages: Sequence[Message]) -> str:
    """Equal for chats in which the same was said; what a system prompt says does not count."""
    told = [[each.role, " ".join(each.text.split())] for each in messages if _counts(each)]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def before_last(messages: Sequence[Message]) -> list[Message]:
    """What was said before the last message of the user; nothing if nobody has answered yet."""
    places = [place for place, each in enumerate(messages) if each.role == "user"]
    earlier = list(messages[: places[-1]]) if places else []
    return earlier if any(each.role == "assistant" for each in earlier) else []


def _counts(message: Message) -> bool:
    return message.role in ("user", "assistant") and bool(message.text.strip())


def _message(value: Any, where: str) -> Message:
    if not isinstance(value, dict):
        raise RefusedError(f"{where} is no message", where)
    role = value.get("role")
    if role not in _ROLES:
        raise RefusedError(f"{where}.role must be one of {', '.join(_ROLES)}", f"{where}.role")
    texts: list[str] = []
    pictures: list[tuple[Any, str]] = []
    _read_content(value.get("content"), f"{where}.content", texts, pictures)
    images = value.get("images") or []
    if not isinstance(images, list):
        raise RefusedError(f"{where}.images is no list", f"{where}.images")
    for place, image in enumerate(images):
        pictures.append((image, f"{where}.images[{place}]"))
    told = tuple(f"{where}.detail has no effect" for image, where in pictures if _detail(image))
    return Message(str(role), "\n".join(texts), tuple(pictures), told)


def _detail(image: Any) -> bool:
    """Whether a picture is to be looked at more or less closely than usual."""
    inner = image.get("image_url") if isinstance(image, dict) else None
    asked = [each.get("detail") for each in (image, inner) if isinstance(each, dict)]
    return any(each not in (None, "auto") for each in asked)


def _read_content(
    content: Any, where: str, texts: list[str], pictures: list[tuple[Any, str]]
) -> None:
    """Add the texts and pictures of a message's content."""
    if content is None:
        return
    if isinstance(content, str):
        texts.append(content)
        pictures += [(name, where) for name in OWN_PICTURE.findall(content)]
        return
    if not isinstance(content, list):
        raise RefusedError(f"{where} must be a text or a list of parts", where)
    for place, part in enumerate(content):
        _read_part(part, f"{where}[{place}]", texts, pictures)


def _read_part(part: Any, where: str, texts: list[str], pictures: list[tuple[Any, str]]) -> None:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in _TEXTS:
        text = part.get("text", part.get("refusal", ""))
        if not isinstance(text, str):
            raise RefusedError(f"{where}.text is no text", f"{where}.text")
        texts.append(text)
    elif kind in _IMAGES:
        pictures.append((part, where))
    else:
        raise RefusedError(
            f"{where} is of type {str(kind)[:40]!r}: texts and pictures are understood",
            f"{where}.type",
            "unsupported_content",
        )
