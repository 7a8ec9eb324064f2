"""The paths of the server and what OpenAPI says about them.

It knows neither bytes nor models; `task_endpoint` serves the tasks.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Request, Response, Security
from fastapi.security import HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, Field

from cloud_server.http.bundle_routes import add_bundle
from cloud_server.http.docs_page import add_docs
from cloud_server.http.job_routes import add_jobs
from cloud_server.http.problems import ErrorBody
from cloud_server.http.task_endpoint import TaskEndpoint
from cloud_server.serving.admission.rate_limits import REQUESTS, TOKENS
from cloud_server.serving.loaded_model import LoadedModel
from cloud_server.serving.service import Service
from shared_protocol.http.contract import (
    HEALTH_PATH,
    IDEMPOTENCY_PATTERN,
    INFO_PATH,
    MESSAGE_TYPE,
    METRICS_PATH,
    RATE_LIMIT_HEADER,
    READY_PATH,
    REQUEST_ID,
    SERVER_TIMING,
    STREAM_TYPE,
    task_path,
)
from shared_protocol.message import bitstream
from shared_protocol.messages import MAX_GUIDANCE
from shared_protocol.tasks import TABLE, Task

_ERRORS = {
    400: "The body is no UniMIC message of this version",
    401: "The key is missing or wrong",
    404: "There is nothing at this path",
    409: "Client and server hold different bundles, or the work was cancelled",
    413: "The body, or a count inside it, is over the limit",
    415: "The body is not declared as msgpack",
    422: "The message asks for what the model cannot do, or its checksum is wrong",
    500: "The server failed; the message holds an incident number",
    429: "The key has used what it may in a minute; see Retry-After",
    503: "Loading, full or stopping; see Retry-After",
    504: "The work, or the body, took longer than the time limit",
}
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_REPLY = {
    "description": "One UniMIC message; or, if asked for, a sequence of msgpack values: "
    "[step, total] arrays, a map {timing: {stage: milliseconds}}, and the message; "
    "the sequence ends in an Error as a map if the work fails after its start",
    "content": {MESSAGE_TYPE: _BINARY, STREAM_TYPE: _BINARY},
    "headers": {
        SERVER_TIMING: {
            "description": "milliseconds of decode, queue, model and encode (single replies)",
            "schema": {"type": "string"},
        },
        REQUEST_ID: {"description": "the name in the log", "schema": {"type": "string"}},
        **{
            RATE_LIMIT_HEADER.format(what=what, limit=limit): {
                "description": f"{limit} a minute of the key, if they are limited: {what}",
                "schema": {"type": "string"},
            }
            for limit in (REQUESTS, TOKENS)
            for what in ("limit", "remaining", "reset")
        },
    },
}


class Limits(BaseModel):
    """What the server accepts."""

    steps: int = Field(description="most masked decoding steps")
    guidance: float = Field(description="largest guidance scale")
    text_tokens: int = Field(description="longest prompt or question, in tokens")
    new_tokens: int = Field(description="longest answer, in tokens")
    grid: int = Field(description="most tokens a side")
    body: int = Field(description="largest request body, in bytes")
    queue: int = Field(description="most requests of a key or an address that wait")
    work: int = Field(description="most token passes of one request")
    batch: int = Field(description="most requests in one pass of the model")
    request_timeout: float = Field(description="seconds")


class DefaultOptions(BaseModel):
    """What an option means when a message leaves it out."""

    steps: int
    guidance: float
    max_new_tokens: int


class NeckInfo(BaseModel):
    """What classifies pictures."""

    fingerprint: str = Field(description="SHA-256 of its file, 64 hex digits")
    labels: int = Field(description="how many it tells apart")
    labels_fingerprint: str = Field(description="of their names, see BITSTREAM.md; 64 hex digits")


class Info(BaseModel):
    """What the service says about itself."""

    name: str
    version: str
    protocol: int = Field(description="version of the bitstream")
    bundle: str
    fingerprint: str = Field(description="of the bundle, 64 hex digits")
    grid: tuple[int, int] = Field(description="native (height, width) in tokens")
    tasks: list[str]
    scenarios: list[str] = Field(description="how image tokens may be coded")
    entropy: dict[str, Any] = Field(description="self-check of the entropy models")
    device: str
    stub: bool = Field(False, description="whether it has no model, and gives fixed tokens")
    neck: NeckInfo | None = Field(description="null where this server cannot classify")
    defaults: DefaultOptions
    limits: Limits


class Health(BaseModel):
    """Whether the server is there."""

    status: Literal["ok", "loading", "ready", "stopping"]


def build_router(service: Service) -> APIRouter:
    """All paths; those of `/v1` and `/metrics` ask for the key if there is one."""
    router = APIRouter()
    for task in TABLE:
        _add_task(router, service, task, _documented_key(service))
    guards = _guards(service)
    _add_info(router, service, guards)
    add_bundle(router, service, guards, _errors(401, 503))
    add_jobs(router, service, guards, _errors(401, 404, 422, 503))
    _add_health(router, service)
    add_docs(router, guards)
    return router


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": ErrorBody, "description": _ERRORS[status]} for status in statuses}


def _documented_key(service: Service) -> list[Any]:
    """Names the bearer scheme in the documentation; the keyring does the checking."""
    return [Security(HTTPBearer(auto_error=False))] if service.keyring.asks else []


def _add_task(router: APIRouter, service: Service, task: Task, guards: list[Any]) -> None:
    async def serve(
        idempotency_key: Annotated[
            str | None,
            Header(
                description="equal keys name one piece of work: a retry, even with another reply "
                "coder, finds its result instead of making it again",
                json_schema_extra={"pattern": f"^{IDEMPOTENCY_PATTERN}$"},
            ),
        ] = None,
    ) -> Response:
        return TaskEndpoint(service, task)

    router.add_api_route(
        task_path(task),
        serve,
        methods=["POST"],
        name=task.slug,
        summary=TABLE[task].purpose,
        response_class=Response,
        responses={200: _REPLY, **_errors(400, 401, 409, 413, 415, 422, 429, 500, 503, 504)},
        openapi_extra={"requestBody": {"required": True, "content": {MESSAGE_TYPE: _BINARY}}},
        dependencies=guards,
    )


def _guards(service: Service) -> list[Any]:
    """Ask for the key, and say so in the documentation."""

    def authorize(request: Request) -> None:
        service.owner(request.headers.get("authorization"))

    return [*_documented_key(service), Depends(authorize)]


def _add_info(router: APIRouter, service: Service, guards: list[Any]) -> None:
    @router.get(INFO_PATH, dependencies=guards, responses=_errors(401, 503))
    async def info(request: Request, response: Response) -> Info:
        """Bundle, limits, defaults and health of the entropy models."""
        owner = service.owner(request.headers.get("authorization"))
        if owner:
            response.headers.update(service.rates.headers(owner))
        return describe(service)

    @router.get(
        METRICS_PATH,
        dependencies=guards,
        response_class=Response,
        responses={
            200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
            **_errors(401),
        },
    )
    async def metrics() -> Response:
        """Counters and histograms for Prometheus."""
        text = service.metrics.expose(service.queue_depth, service.inflight)
        return Response(text, media_type=CONTENT_TYPE_LATEST)


def _add_health(router: APIRouter, service: Service) -> None:
    @router.get(HEALTH_PATH)
    async def healthz() -> Health:
        """Whether the process answers."""
        return Health(status="ok")

    @router.get(READY_PATH, responses={503: {"model": Health, "description": "Not ready"}})
    async def readyz(response: Response) -> Health:
        """Whether requests are served now."""
        response.status_code = 200 if service.state == "ready" else 503
        return Health.model_validate({"status": service.state})


def describe(service: Service) -> Info:
    """What /v1/info says; raises `OverloadedError` while the model is being loaded."""
    model, settings = service.model, service.settings
    bundle, defaults = model.bundle, model.bundle.defaults
    return Info(
        name="unimic",
        version=_version(),
        protocol=bitstream.VERSION,
        bundle=bundle.name,
        fingerprint=bundle.fingerprint.hex(),
        grid=bundle.grid,
        tasks=[task.slug for task in model.tasks],
        scenarios=[scenario.slug for scenario in model.scenarios],
        entropy=dict(model.entropy),
        device=model.device,
        stub=model.stub,
        neck=_neck(model),
        defaults=DefaultOptions(
            steps=defaults.steps,
            guidance=defaults.guidance,
            max_new_tokens=defaults.max_new_tokens,
        ),
        limits=Limits(
            steps=settings.max_steps,
            guidance=MAX_GUIDANCE,
            text_tokens=bundle.max_text_tokens,
            new_tokens=settings.max_new_tokens,
            grid=settings.max_grid,
            body=settings.max_body,
            queue=settings.max_queue,
            work=service.most_work,
            batch=model.max_batch,
            request_timeout=settings.request_timeout,
        ),
    )


def _neck(model: LoadedModel) -> NeckInfo | None:
    neck = model.neck
    if neck is None:
        return None
    labels = neck.labels
    return NeckInfo(
        fingerprint=neck.classifier.fingerprint,
        labels=labels.count,
        labels_fingerprint=labels.fingerprint.hex(),
    )


def _version() -> str:
    try:
        return version("unimic")
    except PackageNotFoundError:
        return "unknown"
