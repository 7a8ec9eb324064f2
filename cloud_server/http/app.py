"""The ASGI application: paths, errors and the service's lifetime put together.

It does not know how it is hosted, nor how the model is loaded.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cloud_server.http.problems import (
    add_error_handlers,
    error_response,
    internal_error,
    request_id_of,
)
from cloud_server.http.routes import build_router
from cloud_server.http.session_route import add_sessions
from cloud_server.serving.conversation import Conversations
from cloud_server.serving.service import Service
from cloud_server.serving.telemetry.tracing import start_spans
from cloud_server.settings import Settings
from shared_protocol.errors import BadMessageError
from shared_protocol.http.contract import REQUEST_ID, STREAM_TYPE

logger = logging.getLogger(__name__)

_DESCRIPTION = f"""Bodies are UniMIC messages: one self-delimiting msgpack value each, laid out in
BITSTREAM.md; HTTP.md has the rest. Ask for `Accept: {STREAM_TYPE}` to follow the work."""


def create_app(
    settings: Settings, service: Service, conversations: Conversations | None = None
) -> FastAPI:
    """The application; it starts `service` and closes it with its own lifetime.

    A host that can tell earlier that it is going to stop calls `Service.drain` then.

    Args:
        settings: those that `service` was made with.
        service: serves the tasks.
        conversations: serves those over WebSocket; None = made here.

    Raises:
        ConfigError: traces are asked for, and what makes them is not installed.
    """
    talks = conversations or Conversations(service)
    stop_spans = start_spans(settings, os.environ, service.metrics.listen)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await service.start()
        yield
        await service.close(0.0)
        await asyncio.to_thread(stop_spans)

    app = FastAPI(
        title="UniMIC cloud server",
        version="1",
        description=_DESCRIPTION,
        lifespan=lifespan,
        openapi_url=None,
        root_path=settings.root_path,
    )
    add_error_handlers(app)
    router = build_router(service)
    add_sessions(router, talks)
    app.include_router(router)
    app.add_middleware(FaultBoundary)
    return app


def _framed_twice(scope: Scope) -> bool:
    """Whether the ends of the way here may differ in where the body ends (RFC 9112, 6.3)."""
    names = {name for name, _ in scope["headers"]}
    return {b"content-length", b"transfer-encoding"} <= names


class FaultBoundary:
    """Names every reply after its request; a fault that nothing else handled is an `InternalError`.

    Its number is that name.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on; on a fault log it, and reply if nothing was begun yet."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        name, started = request_id_of(scope), False

        async def named_send(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                field = REQUEST_ID.lower().encode(), name.encode()
                message = {**message, "headers": [*message.get("headers", ()), field]}
            await send(message)

        if _framed_twice(scope):
            error = BadMessageError(
                "the request has both Content-Length and Transfer-Encoding", "send one of them"
            )
            response = error_response(error, name)
            response.headers["Connection"] = "close"
            await response(scope, receive, named_send)
            return
        try:
            await self._app(scope, receive, named_send)
        except Exception:
            logger.exception("incident %s", name, extra={"request_id": name})
            if not started:
                response = error_response(internal_error(name), name)
                await response(scope, receive, named_send)
