"""The gateway as an ASGI application: its paths behind its doors.

It does not know how it is hosted.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.routing import Router
from starlette.types import Receive, Scope, Send

from edge_client.gateway.desk.desk_routes import desk_routes
from edge_client.gateway.doors import Doors
from edge_client.gateway.replies.chat_routes import chat_routes
from edge_client.gateway.replies.image_routes import image_routes
from edge_client.gateway.replies.plain_routes import model_routes, plain_routes
from edge_client.gateway.replies.response_routes import response_routes
from edge_client.gateway.service import Gateway

_LOOK_S = 30.0


def create_app(gateway: Gateway) -> Doors:
    """The application; it closes the gateway with its own lifetime."""

    async def tidy() -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            await run_in_threadpool(gateway.pool.close_idle)

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        tidying = asyncio.create_task(tidy())
        yield
        tidying.cancel()
        with suppress(asyncio.CancelledError):
            await tidying
        await run_in_threadpool(gateway.close)

    api = [*image_routes(gateway), *chat_routes(gateway), *response_routes(gateway)]
    api += [*desk_routes(gateway), *model_routes(gateway)]
    # The page takes every path that is left, so that the API's stand apart.
    below = Router(api, redirect_slashes=False)
    router = Router(plain_routes(gateway), redirect_slashes=False, lifespan=lifespan)

    async def either(scope: Scope, receive: Receive, send: Send) -> None:
        of_api = scope["type"] == "http" and str(scope["path"]).startswith("/v1/")
        await (below if of_api else router)(scope, receive, send)

    return Doors(either, gateway.settings)
