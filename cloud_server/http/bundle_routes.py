"""The paths from which edges fetch the bundle that they lack.

They give what both ends must hold, the files that the manifest names, and nothing else: files are
looked up by name in what the model lists, so that no path from outside reaches the disk.
"""

from __future__ import annotations

import hashlib
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, Response
from pydantic import BaseModel, Field

from cloud_server.http.problems import ErrorBody
from cloud_server.serving.loaded_model import LoadedModel
from cloud_server.serving.service import Service
from shared_protocol.bundles.manifest import MANIFEST
from shared_protocol.errors import NotFoundError
from shared_protocol.http.contract import BUNDLE_PATH, FILE_PATH, FILE_TYPE, INFO_PATH

_BINARY = {"schema": {"type": "string", "format": "binary"}}
_WORDS = {"text/plain": {"schema": {"type": "string"}}}


class BundleFile(BaseModel):
    """One file of a bundle."""

    name: str
    size: int = Field(description="in bytes")
    sha256: str = Field(description="64 hex digits")


class BundleListing(BaseModel):
    """What a bundle is made of."""

    name: str
    fingerprint: str = Field(description="64 hex digits; the SHA-256 of bundle.json")
    files: list[BundleFile] = Field(description="bundle.json first")
    typing: dict[str, str] = Field(
        default_factory=dict,
        description="how text that a person types is read; the fingerprint does not cover it",
    )


def add_bundle(
    router: APIRouter,
    service: Service,
    guards: list[Any],
    errors: dict[int | str, dict[str, Any]],
) -> None:
    """Add the paths to `router`.

    Args:
        service: its model's bundle is served.
        guards: dependencies that ask for the key.
        errors: documentation of 401 and 503.
    """
    missing: dict[int | str, dict[str, Any]] = {
        404: {"model": ErrorBody, "description": "This server holds another bundle"},
        422: {"model": ErrorBody, "description": "The path cannot be read"},
    }

    @router.get(BUNDLE_PATH, dependencies=guards, responses={**missing, **errors})
    async def bundle(fingerprint: str) -> BundleListing:
        """The files of the bundle, with sizes and digests."""
        return listing(_model_of(service, fingerprint))

    @router.get(
        FILE_PATH,
        dependencies=guards,
        response_class=Response,
        responses={
            200: {"description": "The whole file", "content": {FILE_TYPE: _BINARY}},
            206: {
                "description": "The bytes of the Range header",
                "content": {FILE_TYPE: _BINARY, "multipart/byteranges": _BINARY},
            },
            304: {"description": "The client has it, by its If-None-Match"},
            400: {"description": "The Range header makes no sense", "content": _WORDS},
            416: {"description": "The file has no such bytes", "content": _WORDS},
            **missing,
            **errors,
        },
    )
    async def bundle_file(fingerprint: str, file: str, request: Request) -> Response:
        """One file of the bundle; ask with Range and If-Range to go on with a broken download."""
        response = _file_response(_model_of(service, fingerprint), file)
        etag = response.headers["ETag"]
        if _is_held(request.headers.get("If-None-Match", ""), etag):
            return Response(status_code=304, headers={"ETag": etag})
        return response


def listing(model: LoadedModel) -> BundleListing:
    """What a model's bundle is made of."""
    fingerprint = model.bundle.fingerprint.hex()
    manifest = BundleFile(name=MANIFEST, size=len(model.manifest), sha256=fingerprint)
    others = [
        BundleFile(name=name, size=file.path.stat().st_size, sha256=file.sha256)
        for name, file in sorted(model.files.items())
    ]
    return BundleListing(
        name=model.bundle.name,
        fingerprint=fingerprint,
        files=[manifest, *others],
        typing=dict(model.typing),
    )


def _model_of(service: Service, fingerprint: str) -> LoadedModel:
    """The model, if it is of that bundle."""
    model = service.model
    held = model.bundle.fingerprint.hex()
    if fingerprint != held or not model.manifest:
        raise NotFoundError(
            f"this server holds the bundle {model.bundle.name}, fingerprint {held[:16]}",
            f"ask for what {INFO_PATH} says",
        )
    return model


def _is_held(none_match: str, etag: str) -> bool:
    """Whether an If-None-Match names the file as it is; weak tags count, too (RFC 9110, 13.1.2)."""
    tags = {tag.strip().removeprefix("W/") for tag in none_match.split(",")}
    return etag in tags or "*" in tags


def _file_response(model: LoadedModel, name: str) -> Response:
    if name == MANIFEST:
        etag = hashlib.sha256(model.manifest).hexdigest()
        return Response(model.manifest, media_type=FILE_TYPE, headers={"ETag": f'"{etag}"'})
    if name not in model.files:
        known = ", ".join([MANIFEST, *sorted(model.files)])
        raise NotFoundError("the bundle has no file of this name", f"its files are {known}")
    file = model.files[name]
    headers = {"ETag": f'"{file.sha256}"'}
    return FileResponse(file.path, media_type=FILE_TYPE, headers=headers)
