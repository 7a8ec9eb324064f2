"""Errors as HTTP replies: one JSON body, its status and its headers; never a traceback.

It does not know what went wrong, only how to say it.
"""

from __future__ import annotations

import math

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Scope

from cloud_server.serving.telemetry.metrics import new_name
from shared_protocol.errors import (
    InternalError,
    InvalidInputError,
    NotFoundError,
    OverloadedError,
    UnauthorizedError,
    UnimicError,
    error_to_wire,
)
from shared_protocol.http.contract import (
    NO_PATH,
    REQUEST_ID,
    RETRY_AFTER,
    TRACEPARENT,
    TRACESTATE,
)
from shared_protocol.http.origin import UNKNOWN, Origin

_AUTHENTICATE = "Bearer"
_NAME = "unimic_request_id"
_SAID = frozenset(name.lower().encode() for name in (REQUEST_ID, TRACEPARENT, TRACESTATE))


class ErrorBody(BaseModel):
    """What every error reply holds."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"title": "Error"})

    code: str = Field(description="which kind of error, stable", examples=["bad_prompt"])
    message: str = Field(description="what is wrong, with the value")
    remedy: str | None = Field(None, description="what can be done about it")
    retry_after: float | None = Field(None, description="seconds after which to retry")
    request_id: str | None = Field(None, description="the name of the request in the log")


def origin_of(scope: Scope) -> Origin:
    """What the headers of a request, or of the opening of a WebSocket, say of where it comes from.

    A field that comes twice says nothing.
    """
    said = [(name, value) for name, value in scope["headers"] if name in _SAID]
    if not said or len(said) > len(dict(said)):
        return UNKNOWN
    return Origin.of({name.decode(): value.decode("latin-1") for name, value in said})


def request_id_of(scope: Scope) -> str:
    """What a request is called: its own name or else a new one; the same at every call."""
    if _NAME not in scope:
        scope[_NAME] = origin_of(scope).request_id or new_name()
    name: str = scope[_NAME]
    return name


def error_response(error: UnimicError, request_id: str, status: int | None = None) -> JSONResponse:
    """The reply that tells a client of `error`."""
    error.request_id = request_id
    headers = {"Cache-Control": "no-store"}
    if isinstance(error, OverloadedError):
        headers[RETRY_AFTER] = str(math.ceil(error.retry_after or 1))
    if isinstance(error, UnauthorizedError):
        headers["WWW-Authenticate"] = _AUTHENTICATE
    return JSONResponse(error_to_wire(error), status or error.http_status, headers)


def internal_error(incident: str) -> InternalError:
    """What a client is told of a fault that the log describes under `incident`."""
    return InternalError(f"the server failed (incident {incident})", "report it with this number")


def add_error_handlers(app: FastAPI) -> None:
    """Make `app` answer every error with an `ErrorBody`."""
    app.add_exception_handler(UnimicError, _on_typed)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(RequestValidationError, _on_invalid)


async def _on_typed(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, UnimicError), "registered for this class"
    return error_response(error, request_id_of(request.scope))


async def _on_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException), "registered for this class"
    name = request_id_of(request.scope)
    if error.status_code == 405:
        fault = f"{request.method} is no method of this path"
        response = error_response(NotFoundError(fault, "see /openapi.json"), name, 405)
        response.headers.update(error.headers or {})
        return response
    return error_response(NotFoundError(NO_PATH, "see /openapi.json"), name, 404)


async def _on_invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError), "registered for this class"
    first = error.errors()[0]
    where = " ".join(str(part) for part in first["loc"])
    told = InvalidInputError(f"{where}: {first['msg']}")
    return error_response(told, request_id_of(request.scope))
