"""Work that a client has lost sight of: look for its result, or end it.

It does not know how work is done; HTTP.md has the rule.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from cloud_server.serving.service import Service, work_key
from shared_protocol.errors import NotFoundError
from shared_protocol.http.contract import IDEMPOTENCY_PATTERN, JOB_PATH, MESSAGE_TYPE

Key = Annotated[str, Path(description="its Idempotency-Key", pattern=f"^{IDEMPOTENCY_PATTERN}$")]
_BINARY = {"schema": {"type": "string", "format": "binary"}}


class Progress(BaseModel):
    """How far a piece of work is."""

    done: int = Field(description="finished steps")
    total: int = Field(description="all steps; 0 while it waits")


def add_jobs(
    router: APIRouter, service: Service, guards: list[Any], errors: dict[int | str, Any]
) -> None:
    """Add the paths of jobs."""

    def owned(request: Request, key: str) -> str:
        return work_key(service.owner(request.headers.get("authorization")), key)

    @router.get(
        JOB_PATH,
        dependencies=guards,
        response_class=Response,
        responses={
            200: {"description": "The reply", "content": {MESSAGE_TYPE: _BINARY}},
            202: {"description": "Not done yet", "model": Progress},
            **errors,
        },
    )
    async def job(key: Key, request: Request) -> Response:
        """The reply of work that was asked for under this key, or how far it is."""
        found = service.find_job(owned(request, key))
        if found is None:
            raise _unknown(key)
        if found.progress is not None:
            done, total = found.progress
            return JSONResponse({"done": done, "total": total}, 202)
        return Response(await found.message(), media_type=MESSAGE_TYPE)

    @router.delete(
        JOB_PATH,
        status_code=204,
        dependencies=guards,
        response_class=Response,
        responses={204: {"description": "It has ended, and its result is forgotten"}, **errors},
    )
    async def cancel(key: Key, request: Request) -> Response:
        """End the work at its next step, and forget its result."""
        if not service.kept.cancel(owned(request, key)):
            raise _unknown(key)
        return Response(status_code=204)


def _unknown(key: str) -> NotFoundError:
    return NotFoundError(
        f"there is no work under the key {key[:40]!r}", "it was never asked for, or is forgotten"
    )
