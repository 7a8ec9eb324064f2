"""The paths that ask nothing of the cloud: models, rounds, health, what the API is, the page.

It does not know how pictures are made.
"""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from edge_client.gateway.refused import RefusedError
from edge_client.gateway.replies.described import description
from edge_client.gateway.requests.fields import shown
from edge_client.gateway.service import OWNER, Gateway
from shared_protocol.http.contract import HEALTH_PATH

PAGE = Path(__file__).parents[1] / "page"
"""Files that are served at the root: the page of the device."""
ABOUT_PATH = "/v1/unimic"
"""Of what no other server has."""
_SINCE = 1793491200
"""When the model is said to have been made: OpenAI's form asks for a time."""


def model_routes(gateway: Gateway) -> list[Route]:
    """The paths of the API."""

    async def models(request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [_model(gateway)]})

    async def model(request: Request) -> Response:
        name = request.path_params["name"]
        if name != gateway.model:
            raise RefusedError(
                f"there is no model {shown(name)}: this gateway has {gateway.model}",
                "model",
                "model_not_found",
                404,
            )
        return JSONResponse(_model(gateway))

    async def about(request: Request) -> Response:
        height, width = gateway.bundle.grid
        stride = gateway.bundle.stride
        return JSONResponse(
            {
                "model": gateway.model,
                "server": gateway.server,
                "grid": [height, width],
                "stride": stride,
                "size": f"{width * stride}x{height * stride}",
                "fetches": gateway.settings.allow_fetch,
            }
        )

    async def rounds(request: Request) -> Response:
        data = [
            {**each.told, "kind": each.kind, "bytes": len(each.data)}
            for each in gateway.known.rounds()
        ]
        return JSONResponse({"object": "list", "data": data})

    return [
        Route("/v1/models", models),
        Route("/v1/models/{name:path}", model),
        Route(f"{ABOUT_PATH}/rounds", rounds),
        Route(f"{ABOUT_PATH}/about", about),
    ]


def plain_routes(gateway: Gateway) -> list[BaseRoute]:
    """The others; the page comes last, since it takes what is left."""

    async def health(request: Request) -> Response:
        busy, sessions = gateway.pool.counts
        told = {"status": "ok", "requests": gateway.jobs.count}
        return JSONResponse({**told, "sessions": {"busy": busy, "open": sessions}})

    async def openapi(request: Request) -> Response:
        return JSONResponse(description(gateway.model, gateway.settings.key is not None))

    return [
        Route(HEALTH_PATH, health),
        Route("/openapi.json", openapi),
        Mount("/", StaticFiles(directory=PAGE, html=True)),
    ]


def _model(gateway: Gateway) -> dict[str, object]:
    return {"id": gateway.model, "object": "model", "created": _SINCE, "owned_by": OWNER}
