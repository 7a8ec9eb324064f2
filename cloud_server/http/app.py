"""The ASGI application: paths, errors and the service's lifetime put together.

It does not know how it is hosted, nor how the model is loaded.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cloud_server.http.problems import add_error_handlers, error_response, internal_error
from cloud_server.http.routes import build_router
from cloud_server.http.session_route import add_sessions
from cloud_server.serving.conversation import Conversations
from cloud_server.serving.service import Service
from cloud_server.settings import Settings
from shared_protocol.errors import BadMessageError
from shared_protocol.http.contract import STREAM_TYPE

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
    """
    talks = conversations or Conversations(service)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await service.start()
        yield
        await service.close(0.0)

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
    """Turns an exception that nothing else handled into an `InternalError` reply with a number."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on; on a fault log it, and reply if nothing was sent yet."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if _framed_twice(scope):
            error = BadMessageError(
                "the request has both Content-Length and Transfer-Encoding", "send one of them"
            )
            response = error_response(error)
            response.headers["Connection"] = "close"
            await response(scope, receive, send)
            return
        started = False

        async def noting_send(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, noting_send)
        except Exception:
            incident = uuid.uuid4().hex[:12]
            logger.exception("incident %s", incident)
            if not started:
                await error_response(internal_error(incident))(scope, receive, send)
