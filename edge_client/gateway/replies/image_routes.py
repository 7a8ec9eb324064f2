"""`/v1/images/…`: pictures drawn from a prompt, edited, and asked for again by their name.

It does not know how they are made.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from edge_client.gateway.problems import Problem
from edge_client.gateway.refused import RefusedError
from edge_client.gateway.replies.following import key_of, result_of, retries_of, sse, stream_of
from edge_client.gateway.requests.body import read_body
from edge_client.gateway.requests.edit_request import read_edit, read_generation
from edge_client.gateway.requests.picture_wish import PictureWish
from edge_client.gateway.requests.pictures import IMAGES_PATH
from edge_client.gateway.service import Gateway
from edge_client.gateway.work.costs import bytes_of, usage
from edge_client.gateway.work.jobs import Function
from edge_client.gateway.work.maker import Made, Partial

_NAME = re.compile(r"img_[0-9a-f]{32}")


def image_routes(gateway: Gateway) -> list[Route]:
    """The paths."""

    async def generations(request: Request) -> Response:
        body = await read_body(request)
        wish = read_generation(body.fields)
        wish = _told(wish, gateway.told_of_model(body.fields.raw("model")))
        kind = "image_generation"
        return await _answer(
            gateway, request, body.digest, wish, kind, lambda t: gateway.maker.generate(wish, t)
        )

    async def edits(request: Request) -> Response:
        body = await read_body(request, files=True)
        # In a thread, since it may have to fetch the picture.
        asked = await run_in_threadpool(read_edit, body.fields, gateway.reader)
        told = gateway.told_of_model(body.fields.raw("model"))
        asked = replace(asked, wish=_told(asked.wish, told))
        kind = "image_edit"
        return await _answer(
            gateway, request, body.digest, asked.wish, kind, lambda t: gateway.maker.edit(asked, t)
        )

    async def content(request: Request) -> Response:
        name = request.path_params["name"]
        found = gateway.known.round(name) if _NAME.fullmatch(name) else None
        if found is None:
            raise RefusedError(
                "there is no such picture, or it is not kept any more", "id", "not_found", 404
            )
        headers = {"cache-control": "private, max-age=3600", "x-content-type-options": "nosniff"}
        return Response(found.data, media_type=f"image/{found.kind}", headers=headers)

    return [
        Route(f"{IMAGES_PATH}/generations", generations, methods=["POST"]),
        Route(f"{IMAGES_PATH}/edits", edits, methods=["POST"]),
        Route(f"{IMAGES_PATH}/{{name}}/content", content),
    ]


def unimic_of(mades: Sequence[Made], wish: PictureWish) -> dict[str, Any]:
    """The field `unimic` of an answer with pictures."""
    costs = [cost for made in mades for cost in made.costs]
    warnings = [*wish.warnings, *(line for made in mades for line in made.warnings)]
    seconds = max((made.seconds for made in mades), default=0.0)
    names = [made.round.name for made in mades]
    return bytes_of(
        costs, seconds, warnings, round=names[-1] if names else None, rounds=names,
        seeds=[made.seed for made in mades],
    )  # fmt: skip


def told_of(made: Made, wish: PictureWish) -> dict[str, Any]:
    """How a picture was made, in OpenAI's words."""
    return {
        "size": f"{made.size[0]}x{made.size[1]}",
        "quality": wish.quality,
        "background": "opaque",
        "output_format": wish.kind,
    }


def packed64(data: bytes) -> str:
    """Base64 of a picture's file."""
    return base64.b64encode(data).decode()


async def _answer(
    gateway: Gateway,
    request: Request,
    digest: str,
    wish: PictureWish,
    kind: str,
    function: Function,
) -> Response:
    params = dict(wish.params)
    request.scope["unimic_params"] = params
    retry = (retries_of(request) or 0) > 0
    job = gateway.jobs.begin(key_of(request, digest), retry, function)
    if wish.stream:
        return await stream_of(request, job, _Events(wish, kind), params)
    mades: list[Made] = await result_of(request, job)
    base = str(request.base_url).rstrip("/")
    data = [_entry(made, wish, base) for made in mades]
    costs = [cost for made in mades for cost in made.costs]
    told = {
        "created": mades[0].created,
        "data": data,
        **told_of(mades[0], wish),
        "usage": usage(costs),
        "unimic": unimic_of(mades, wish),
    }
    return JSONResponse(told, headers={"cache-control": "no-store"})


def _entry(made: Made, wish: PictureWish, base: str) -> dict[str, Any]:
    if wish.by_url:
        return {"url": f"{base}{IMAGES_PATH}/{made.round.name}/content"}
    return {"b64_json": packed64(made.round.data)}


class _Events:
    """Pictures as events; there is no event at the end, as OpenAI has none."""

    def __init__(self, wish: PictureWish, kind: str) -> None:
        self._wish = wish
        self._kind = kind

    def begin(self) -> Iterable[bytes]:
        return ()

    def take(self, event: Any) -> Iterable[bytes]:
        if isinstance(event, Partial):
            yield self._event(
                "partial_image",
                created_at=int(time.time()),
                partial_image_index=event.index,
                b64_json=packed64(event.data),
                size=f"{event.size[0]}x{event.size[1]}",
                quality=self._wish.quality,
                background="opaque",
                output_format=self._wish.kind,
            )
        elif isinstance(event, Made):
            yield self._event(
                "completed",
                created_at=event.created,
                b64_json=packed64(event.round.data),
                **told_of(event, self._wish),
                usage=usage(event.costs),
                unimic=unimic_of([event], self._wish),
            )

    def end(self, result: Any) -> Iterable[bytes]:
        return ()

    def fail(self, problem: Problem) -> Iterable[bytes]:
        yield sse({"type": "error", **problem.body}, "error")

    def _event(self, name: str, **more: Any) -> bytes:
        kind = f"{self._kind}.{name}"
        return sse({"type": kind, **more}, kind)


def _told(wish: PictureWish, more: tuple[str, ...]) -> PictureWish:
    return replace(wish, warnings=(*wish.warnings, *more))
