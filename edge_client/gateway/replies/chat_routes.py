"""`/v1/chat/completions`: questions about pictures, as chats ask them.

It does not know how they are answered. A chat is known again by its picture, or, where an
application leaves the picture out of later requests, by what was said.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from edge_client.gateway.problems import Problem
from edge_client.gateway.replies.following import key_of, result_of, retries_of, sse, stream_of
from edge_client.gateway.requests.body import read_body
from edge_client.gateway.requests.chat_request import ChatWish, read_chat
from edge_client.gateway.requests.messages import Message, talk_key
from edge_client.gateway.service import Gateway
from edge_client.gateway.work.asker import Answered, Question
from edge_client.gateway.work.costs import bytes_of, chat_usage
from edge_client.gateway.work.jobs import Telling

_PARAMS = {"prompt": "messages", "image": "messages"}


def chat_routes(gateway: Gateway) -> list[Route]:
    """The paths."""

    async def completions(request: Request) -> Response:
        body = await read_body(request)
        wish = read_chat(body.fields)
        told = gateway.told_of_model(body.fields.raw("model"))
        request.scope["unimic_params"] = _PARAMS

        def ask(telling: Telling) -> Answered:
            picture = picture_bytes(gateway, wish.picture, wish.earlier)
            question = Question(
                wish.text,
                picture,
                wish.count,
                wish.seed,
                wish.most,
                wish.fit,
                (*wish.warnings, *told),
            )
            answered = gateway.asker.ask(question, telling)
            if picture is not None:
                remember(gateway, wish.messages, answered.texts, picture)
            return answered

        retry = (retries_of(request) or 0) > 0
        job = gateway.jobs.begin(key_of(request, body.digest), retry, ask)
        name = f"chatcmpl-{secrets.token_hex(12)}"
        if wish.stream:
            chunks = _Chunks(name, gateway.model, wish)
            return await stream_of(request, job, chunks, _PARAMS)
        answered: Answered = await result_of(request, job)
        return JSONResponse(
            {
                "id": name,
                "object": "chat.completion",
                "created": answered.created,
                "model": gateway.model,
                "choices": [_choice(answered, place) for place in range(len(answered.texts))],
                "usage": chat_usage(answered.costs),
                "system_fingerprint": None,
                "service_tier": None,
                "unimic": unimic_of(answered),
            },
            headers={"cache-control": "no-store"},
        )

    return [Route("/v1/chat/completions", completions, methods=["POST"])]


def picture_bytes(
    gateway: Gateway, picture: tuple[Any, str] | None, earlier: Sequence[Message]
) -> bytes | None:
    """The picture that a question is about.

    Args:
        gateway: knows pictures that were made, and chats.
        picture: how the messages have it, and its field; None = they have none.
        earlier: what was said before.
    """
    if picture is not None:
        return gateway.reader.read(*picture)
    return gateway.known.picture_of_talk(talk_key(earlier)) if earlier else None


def remember(
    gateway: Gateway, messages: Sequence[Message], answers: Sequence[str], picture: bytes
) -> None:
    """Note what a chat was about, under what will be said before its next question."""
    for text in dict.fromkeys(answers):
        key = talk_key([*messages, Message("assistant", text)])
        gateway.known.remember_talk(key, picture)


def unimic_of(answered: Answered) -> dict[str, Any]:
    """The field `unimic` of an answer in words."""
    return bytes_of(answered.costs, answered.seconds, answered.warnings)


def _choice(answered: Answered, place: int) -> dict[str, Any]:
    message = {"role": "assistant", "content": answered.texts[place], "refusal": None}
    return {
        "index": place,
        "message": message,
        "logprobs": None,
        "finish_reason": "length" if answered.cut[place] else "stop",
    }


class _Chunks:
    """An answer as chunks, then `[DONE]`."""

    def __init__(self, name: str, model: str, wish: ChatWish) -> None:
        self._head = {"id": name, "object": "chat.completion.chunk", "model": model}
        self._wish = wish

    def begin(self) -> Iterable[bytes]:
        return ()

    def take(self, event: Any) -> Iterable[bytes]:
        return ()

    def end(self, result: Any) -> Iterable[bytes]:
        answered: Answered = result
        last = len(answered.texts) - 1
        for place, text in enumerate(answered.texts):
            yield self._chunk(answered, place, {"role": "assistant", "content": ""})
            yield self._chunk(answered, place, {"content": text})
            reason = "length" if answered.cut[place] else "stop"
            more = {} if self._wish.with_usage or place != last else self._told(answered)
            yield self._chunk(answered, place, {}, reason, **more)
        if self._wish.with_usage:
            told = {"choices": [], "usage": chat_usage(answered.costs), **self._told(answered)}
            yield sse({**self._head, "created": answered.created, **told})
        yield sse("[DONE]")

    def fail(self, problem: Problem) -> Iterable[bytes]:
        yield sse(problem.body)

    def _told(self, answered: Answered) -> dict[str, Any]:
        return {"unimic": unimic_of(answered)}

    def _chunk(
        self,
        answered: Answered,
        place: int,
        delta: dict[str, Any],
        reason: str | None = None,
        **more: Any,
    ) -> bytes:
        choice = {"index": place, "delta": delta, "logprobs": None, "finish_reason": reason}
        usage = {"usage": None} if self._wish.with_usage else {}
        told = {**self._head, "created": answered.created, "choices": [choice], **usage, **more}
        return sse(told)
