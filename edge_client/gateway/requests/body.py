"""Bodies of requests: JSON, and forms with files, as fields; and a digest of what they say.

It does not know what the fields mean. Clients send one file as `image` and several as `image[]`,
nested fields as `unimic[steps]`, and raw bytes under whatever name their library gives them.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request

from edge_client.gateway.refused import RefusedError
from edge_client.gateway.requests.fields import Fields
from shared_protocol.http.contract import JSON_TYPE

_NESTED = re.compile(r"([^\[\]]+)\[([^\[\]]+)\]")
_MAX_FILES, _MAX_FIELDS = 32, 200
_FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")


@dataclass(frozen=True)
class Body:
    """A body that was read.

    Args:
        fields: what it says.
        digest: equal for equal content, whatever separates the parts of a form.
    """

    fields: Fields
    digest: str


async def read_body(request: Request, files: bool = False) -> Body:
    """The body of a request.

    Args:
        request: whose.
        files: whether a form is taken as well as JSON.

    Raises:
        RefusedError: it is neither, or too large.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in _FORMS:
        if not files:
            raise _other_type(kind, JSON_TYPE)
        return await _form(request, request.scope.get("unimic_max_body", 2**26))
    if kind and kind != JSON_TYPE and not kind.endswith("+json"):
        raise _other_type(kind, f"{JSON_TYPE} or multipart/form-data")
    data = await request.body()
    try:
        values = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RefusedError(f"the body is no JSON: {error}", None, "invalid_json") from None
    if not isinstance(values, dict):
        raise RefusedError("the body is no JSON object", None, "invalid_json")
    try:
        told = json.dumps(values, sort_keys=True, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise RefusedError(
            "the body holds half of a character (a lone surrogate)", None, "invalid_json"
        ) from None
    return Body(Fields(values), hashlib.sha256(told).hexdigest())


async def _form(request: Request, limit: int) -> Body:
    values: dict[str, Any] = {}
    digest = hashlib.sha256()
    try:
        async with request.form(
            max_files=_MAX_FILES, max_fields=_MAX_FIELDS, max_part_size=limit
        ) as form:
            for name, value in form.multi_items():
                content = await value.read() if isinstance(value, UploadFile) else value
                raw = content.encode() if isinstance(content, str) else content
                digest.update(f"{name} {len(raw)} ".encode() + raw)
                _put(values, name, content)
    except (MultiPartException, HTTPException, KeyError, UnicodeDecodeError) as error:
        why = getattr(error, "detail", None) or getattr(error, "message", None) or error
        raise RefusedError(f"the form cannot be read: {why}", None, "invalid_form") from None
    return Body(Fields(values, form=True), digest.hexdigest())


def _put(values: dict[str, Any], name: str, content: str | bytes) -> None:
    """Add a part: `image[]` and repeated names become lists, `unimic[steps]` an object's field."""
    nested = _NESTED.fullmatch(name)
    if nested is not None:
        inner = values.setdefault(nested[1], {})
        if isinstance(inner, dict):
            inner[nested[2]] = content
        return
    plain = name.removesuffix("[]")
    before = values.get(plain)
    if before is None:
        values[plain] = [content] if name != plain else content
    else:
        values[plain] = [*(before if isinstance(before, list) else [before]), content]


def _other_type(kind: str, wanted: str) -> RefusedError:
    return RefusedError(
        f"the content type is {kind[:80]!r}: send {wanted}", None, "unsupported_media_type", 415
    )
