"""Failures as clients of OpenAI read them: {"error": {message, type, param, code}}, with a status.

It does not know what went wrong, only how to say it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from edge_client.gateway.refused import RefusedError
from shared_protocol.errors import (
    BodyTooLargeError,
    BundleMismatchError,
    CheckpointError,
    ConfigError,
    DeadlineError,
    ImageError,
    InvalidInputError,
    LimitError,
    MaskError,
    OverloadedError,
    PromptError,
    RateLimitError,
    ServerTimeoutError,
    TransportError,
    UnauthorizedError,
    UnimicError,
    WorkCancelledError,
)
from shared_protocol.http.contract import NO_PATH

NEVER_AGAIN = {"x-should-retry": "false"}
"""Tells OpenAI's clients that trying again would change nothing."""
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


@dataclass(frozen=True)
class Problem:
    """A failure, ready to be sent."""

    status: int
    message: str
    code: str
    param: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def body(self) -> dict[str, Any]:
        """The JSON object."""
        usual = "invalid_request_error" if self.status < 500 else "server_error"
        kind = _TYPES.get(self.status, usual)
        told = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return {"error": told}

    def response(self) -> JSONResponse:
        """The reply."""
        headers = {"cache-control": "no-store", **self.headers}
        return JSONResponse(self.body, self.status, headers)


_KINDS: tuple[tuple[type[UnimicError], int, str], ...] = (
    (BundleMismatchError, 400, "bundle_mismatch"),
    (PromptError, 400, "invalid_prompt"),
    (MaskError, 400, "invalid_image_file"),
    (ImageError, 400, "invalid_image_file"),
    (InvalidInputError, 400, "invalid_value"),
    (LimitError, 413, "too_large"),
    (BodyTooLargeError, 413, "too_large"),
    (UnauthorizedError, 401, "cloud_unauthorized"),
    (RateLimitError, 429, "rate_limit_exceeded"),
    (OverloadedError, 503, "cloud_busy"),
    (DeadlineError, 504, "cloud_timeout"),
    (ServerTimeoutError, 504, "cloud_timeout"),
    (WorkCancelledError, 503, "cancelled"),
    (TransportError, 502, "cloud_unreachable"),
    (CheckpointError, 500, "bad_installation"),
    (ConfigError, 500, "bad_configuration"),
    (UnimicError, 502, "cloud_failed"),
)
_PARTS = {PromptError: "prompt", MaskError: "mask", ImageError: "image"}
_FINAL = frozenset(
    ("bundle_mismatch", "cloud_unauthorized", "bad_installation", "bad_configuration")
)


def problem_of(error: BaseException, params: Mapping[str, str] | None = None) -> Problem:
    """What an application is told of `error`.

    Args:
        error: whatever was raised.
        params: what the fields "prompt", "mask" and "image" are called in that request.
    """
    if isinstance(error, RefusedError):
        return Problem(error.status, error.message, error.code, error.param, error.headers)
    if isinstance(error, UnimicError):
        return _typed(error, params or {})
    if isinstance(error, HTTPException):
        what = NO_PATH if error.status_code == 404 else error.detail
        headers = error.headers or {}
        return Problem(
            error.status_code, f"{what}; see /openapi.json", "unknown_url", None, headers
        )
    fault = f"the gateway failed: {type(error).__name__}; its log says where"
    return Problem(500, fault, "internal_error")


def _typed(error: UnimicError, params: Mapping[str, str]) -> Problem:
    status, code = next((s, c) for kind, s, c in _KINDS if isinstance(error, kind))
    part = next((name for kind, name in _PARTS.items() if isinstance(error, kind)), None)
    param = None if part is None else params.get(part, part)
    headers = dict(NEVER_AGAIN) if code in _FINAL else {}
    if status in (429, 502, 503):
        headers["retry-after"] = str(math.ceil(error.retry_after or 1))
    return Problem(status, str(error), code, param, headers)
