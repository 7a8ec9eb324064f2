"""`/v1/responses`: questions about pictures, and pictures as calls of a tool.

It does not know how they are made, nor how events are written (see `response_events`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from edge_client.gateway.refused import RefusedError
from edge_client.gateway.replies.chat_routes import picture_bytes, remember
from edge_client.gateway.replies.following import key_of, result_of, retries_of, stream_of
from edge_client.gateway.replies.response_events import ResponseEvents, ResponseWriter
from edge_client.gateway.requests.body import read_body
from edge_client.gateway.requests.edit_request import EditWish
from edge_client.gateway.requests.response_request import Kind, ResponseWish, read_response
from edge_client.gateway.service import Gateway
from edge_client.gateway.work.asker import Answered, Question, said
from edge_client.gateway.work.edit_area import alpha_of
from edge_client.gateway.work.jobs import Telling
from edge_client.gateway.work.maker import Made
from edge_client.pictures.mask_files import THRESHOLD
from edge_client.pictures.opening import open_bytes

WHERE = (
    "I can change this picture where you say: send a mask (input_image_mask of the tool "
    "image_generation) that is transparent where it is to change, or make the picture itself "
    "transparent there."
)


def response_routes(gateway: Gateway) -> list[Route]:
    """The paths."""

    async def responses(request: Request) -> Response:
        body = await read_body(request)
        wish = read_response(body.fields)
        told = gateway.told_of_model(body.fields.raw("model"))
        wish = replace(wish, warnings=(*wish.warnings, *told))
        params = {"prompt": "input", "image": "input", "mask": "tools.input_image_mask"}
        request.scope["unimic_params"] = params
        if wish.previous is not None and gateway.known.picture_of_talk(wish.previous) is None:
            raise RefusedError(
                f"previous_response_id {wish.previous[:60]!r} is not kept here (any more)",
                "previous_response_id",
                "previous_response_not_found",
            )
        writer = ResponseWriter(wish, gateway.model)
        answering = _Answering(gateway, wish, writer)
        retry = (retries_of(request) or 0) > 0
        job = gateway.jobs.begin(key_of(request, body.digest), retry, answering)
        if wish.stream:
            return await stream_of(request, job, ResponseEvents(writer), params)
        result = await result_of(request, job)
        whole = writer.whole(result, writer.items(result))
        return JSONResponse(whole, headers={"cache-control": "no-store"})

    return [Route("/v1/responses", responses, methods=["POST"])]


class _Answering:
    """Gives one response: words, or pictures."""

    def __init__(self, gateway: Gateway, wish: ResponseWish, writer: ResponseWriter) -> None:
        self._gateway = gateway
        self._wish = wish
        self._writer = writer

    def __call__(self, telling: Telling) -> Any:
        """Answered or a list of Made."""
        wish, gateway = self._wish, self._gateway
        picture = picture_bytes(gateway, wish.picture, wish.earlier)
        if picture is None and wish.previous is not None:
            picture = gateway.known.picture_of_talk(wish.previous) or None
        kind = wish.kind
        if kind is Kind.EITHER:
            kind = Kind.EDIT if _has_holes(picture) else Kind.EITHER
        if kind is Kind.EITHER:
            result: Any = said(WHERE, wish.warnings)
        elif kind is Kind.ANSWER:
            result = self._ask(picture, telling)
        else:
            result = self._make(kind, picture, telling)
        self._note(result, picture)
        return result

    def _ask(self, picture: bytes | None, telling: Telling) -> Answered:
        wish = self._wish
        question = Question(wish.text, picture, 1, wish.seed, wish.most, wish.fit, wish.warnings)
        return self._gateway.asker.ask(question, telling)

    def _make(self, kind: Kind, picture: bytes | None, telling: Telling) -> list[Made]:
        wish, maker = self._wish, self._gateway.maker
        assert wish.tool is not None, "pictures are asked for with the tool only"
        tool = replace(wish.tool, warnings=wish.warnings)
        if kind is Kind.PICTURE:
            return maker.generate(tool, telling)
        if picture is None:
            raise RefusedError("there is no picture to edit: send an input_image", "input")
        mask = None if wish.mask is None else self._gateway.reader.read(*wish.mask)
        return maker.edit(EditWish(tool, picture, mask, *wish.look), telling)

    def _note(self, result: Any, picture: bytes | None) -> None:
        """Remember what the talk is about from now on."""
        wish, known = self._wish, self._gateway.known
        if isinstance(result, list):
            picture = result[-1].round.data
            known.remember_talk(self._writer.item, picture)
            texts: tuple[str, ...] = ("",)
        else:
            texts = result.texts
        if wish.store:
            known.remember_talk(self._writer.name, picture or b"")
        if picture is not None:
            remember(self._gateway, wish.messages, texts, picture)


def _has_holes(picture: bytes | None) -> bool:
    """Whether a picture is transparent somewhere."""
    if picture is None:
        return False
    alpha = alpha_of(open_bytes(picture, "the picture").image)
    return alpha is not None and bool(alpha.min() < THRESHOLD)
