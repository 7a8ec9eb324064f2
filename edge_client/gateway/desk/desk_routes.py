"""`/v1/unimic/desk/…`: what the page asks of the device.

It does not know how turns are taken. Failures have the shape of all others of the gateway.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from edge_client.gateway.desk.desk import Desk
from edge_client.gateway.desk.mask_cells import cells_of
from edge_client.gateway.desk.round_files import png_of, umic_of, view_of
from edge_client.gateway.desk.told import about_desk, told_of_round, told_of_turn
from edge_client.gateway.desk.turn_taker import Glimpse, Step, Taken, TurnTaker
from edge_client.gateway.desk.wish import read_turn
from edge_client.gateway.problems import Problem
from edge_client.gateway.refused import RefusedError
from edge_client.gateway.replies.following import key_of, sse, stream_of
from edge_client.gateway.requests.body import read_body
from edge_client.gateway.service import Gateway
from shared_protocol.http.contract import FILE_TYPE

_ROOT = "/v1/unimic/desk"
_PARAMS = {"prompt": "text", "image": "picture", "mask": "cells"}
_PRIVATE = {"cache-control": "private, max-age=86400, immutable"}


def desk_routes(gateway: Gateway) -> list[Route]:
    """The paths."""
    desk = Desk()
    taker = TurnTaker(gateway.pool, desk, gateway.bundle)
    names = _Names(desk)

    async def state(request: Request) -> Response:
        rounds = [told_of_round(each) for each in desk.rounds]
        turns = [told_of_turn(each) for each in desk.turns]
        return _json({**about_desk(gateway), "rounds": rounds, "turns": turns})

    async def clear(request: Request) -> Response:
        desk.clear()
        return _json({})

    async def pictures(request: Request) -> Response:
        request.scope["unimic_params"] = _PARAMS
        data, name = await _uploaded(request, "picture")
        made = await run_in_threadpool(taker.open, data, name)
        return _json(told_of_round(made))

    async def turns(request: Request) -> Response:
        body = await read_body(request)
        wish = read_turn(body.fields)
        request.scope["unimic_params"] = _PARAMS
        # The page never repeats a request of itself, so that each is work of its own.
        job = gateway.jobs.begin(
            key_of(request, body.digest), False, lambda telling: taker.take(wish, telling)
        )
        return await stream_of(request, job, _Events(), _PARAMS)

    async def mask(request: Request) -> Response:
        request.scope["unimic_params"] = {"mask": "mask", "image": "mask"}
        kept = names.of(request)
        data, name = await _uploaded(request, "mask")
        cells, told = await run_in_threadpool(cells_of, kept.source, data, name)
        return _json({"cells": base64.b64encode(cells).decode(), "warnings": told})

    return [
        Route(_ROOT, state),
        Route(_ROOT, clear, methods=["DELETE"]),
        Route(f"{_ROOT}/pictures", pictures, methods=["POST"]),
        Route(f"{_ROOT}/turns", turns, methods=["POST"]),
        Route(f"{_ROOT}/rounds/{{name}}/mask", mask, methods=["POST"]),
        *_file_routes(names),
    ]


class _Names:
    """Finds the round that a path names."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def of(self, request: Request) -> Any:
        return self._desk.round(request.path_params["name"])


def _file_routes(names: _Names) -> list[Route]:
    async def view(request: Request) -> Response:
        text = request.query_params.get("side", "768")
        if not text.isdecimal() or len(text) > 5:
            raise RefusedError(f"side is {text[:20]!r}: use a number of pixels", "side")
        data, kind = await run_in_threadpool(view_of, names.of(request), int(text))
        return Response(data, media_type=kind, headers=_PRIVATE)

    async def picture(request: Request) -> Response:
        data = await run_in_threadpool(png_of, names.of(request))
        return Response(data, media_type="image/png", headers=_PRIVATE)

    async def tokens(request: Request) -> Response:
        data = await run_in_threadpool(umic_of, names.of(request))
        return Response(data, media_type=FILE_TYPE, headers=_PRIVATE)

    root = f"{_ROOT}/rounds/{{name}}"
    return [
        Route(f"{root}/view", view),
        Route(f"{root}/picture.png", picture),
        Route(f"{root}/tokens.umic", tokens),
    ]


class _Events:
    """A turn as events: steps, glimpses, and what came of it."""

    def begin(self) -> Iterable[bytes]:
        return ()

    def take(self, event: Any) -> Iterable[bytes]:
        if isinstance(event, Step):
            yield sse({"done": event.done, "total": event.total}, "step")
        elif isinstance(event, Glimpse):
            data = base64.b64encode(event.data).decode()
            told = {"index": event.index, "b64": data, "kind": event.kind, "at": list(event.at)}
            yield sse(told, "partial")

    def end(self, result: Any) -> Iterable[bytes]:
        taken: Taken = result
        turn, made = taken
        told = None if made is None else told_of_round(made)
        yield sse({"turn": told_of_turn(turn), "round": told}, "turn")

    def fail(self, problem: Problem) -> Iterable[bytes]:
        yield sse(problem.body, "error")


async def _uploaded(request: Request, field: str) -> tuple[bytes, str]:
    """The body of a request as a file, and its name, which stands in the query."""
    data = await request.body()
    if not data:
        raise RefusedError(f"{field} is empty: send its file as the body", field)
    name = "".join(c for c in request.query_params.get("name", "") if c.isprintable())[:120]
    return data, name or f"the {field}"


def _json(told: dict[str, Any]) -> JSONResponse:
    return JSONResponse(told, headers={"cache-control": "no-store"})
