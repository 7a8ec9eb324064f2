"""What stands in front of every path: who may come in, how much, and failures as replies.

It does not know the paths. A web page anywhere can have a browser post a form to this device, so
that the Host and Origin of a request decide before anything else is read.
"""

from __future__ import annotations

import hmac
import logging
import secrets
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge_client.gateway.problems import Problem, problem_of
from edge_client.gateway.refused import RefusedError
from edge_client.gateway.replies.following import GONE, ClientGoneError
from edge_client.gateway.requests.pictures import OWN_PICTURE
from edge_client.gateway.settings import MEBIBYTE, GatewaySettings
from edge_client.transport.base import ORIGIN
from shared_protocol.http.origin import Origin

logger = logging.getLogger(__name__)

REQUEST_ID = "x-request-id"
_SAFE = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'self'; img-src 'self' blob: data:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
}
_ALLOWED_HEADERS = "authorization, content-type, x-stainless-retry-count"


class Doors:
    """The application behind its doors.

    Args:
        app: serves what is let in.
        settings: say what is.
    """

    def __init__(self, app: ASGIApp, settings: GatewaySettings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or answer it here."""
        if scope["type"] == "http":
            await self._serve(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = self  # so that the router raises what it does not find
        scope["unimic_max_body"] = self._settings.max_body
        headers = Headers(scope=scope)
        caller = Origin.of(headers)
        name = caller.request_id or f"req_{secrets.token_hex(12)}"
        ORIGIN.set(caller)  # of this request only: every request has a context of its own
        origin, started = headers.get("origin"), False

        async def marked(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                self._mark(MutableHeaders(scope=message), name, origin)
            await send(message)

        try:
            self._check(scope, headers)
            if scope["method"] == "OPTIONS" and origin is not None:
                await Response(status_code=204)(scope, receive, marked)
                return
            await self._app(scope, self._limited(receive, headers), marked)
        except (ClientGoneError, ClientDisconnect):
            if not started:
                await Response(status_code=GONE)(scope, receive, marked)
        except Exception as error:
            problem = problem_of(error, scope.get("unimic_params"))
            self._log(problem, name, error)
            if not started:
                await problem.response()(scope, receive, marked)

    def _check(self, scope: Scope, headers: Headers) -> None:
        """Raise `RefusedError` for who may not come in."""
        host = headers.get("host", "")
        if not self._settings.lets_in(_name_in(host)):
            raise RefusedError(
                f"the Host header says {host[:80]!r}, which is no name of this device: if it is "
                "one, start the gateway with --allow-host",
                None,
                "foreign_host",
                403,
            )
        origin = headers.get("origin")
        if origin is not None and not self._is_ours(origin, host):
            raise RefusedError(
                f"the page {origin[:80]!r} may not use this gateway: if it is to, start it with "
                "--allow-origin",
                None,
                "foreign_origin",
                403,
            )
        if self._needs_key(scope) and not self._has_key(headers):
            raise RefusedError(
                "the key of this gateway is missing or wrong: send it as a bearer token",
                None,
                "invalid_api_key",
                401,
                {"www-authenticate": "Bearer"},
            )

    def _is_ours(self, origin: str, host: str) -> bool:
        own = (f"http://{host}", f"https://{host}")
        return origin in own or origin in self._settings.allow_origins

    def _needs_key(self, scope: Scope) -> bool:
        """Everything of the API but pictures, whose names nobody can guess."""
        if self._settings.key is None or scope["method"] == "OPTIONS":
            return False
        path = str(scope["path"])
        return path.startswith("/v1") and OWN_PICTURE.fullmatch(path) is None

    def _has_key(self, headers: Headers) -> bool:
        scheme, _, key = headers.get("authorization", "").partition(" ")
        wanted = (self._settings.key or "").encode()
        return scheme.lower() == "bearer" and hmac.compare_digest(key.strip().encode(), wanted)

    def _limited(self, receive: Receive, headers: Headers) -> Receive:
        """Reads a body up to the limit, and refuses what is longer."""
        limit, read = self._settings.max_body, 0
        told = headers.get("content-length", "")
        if told.isdecimal() and int(told[:20]) > limit:
            raise _too_large(limit)

        async def limited() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > limit:
                raise _too_large(limit)
            return message

        return limited

    def _mark(self, headers: MutableHeaders, name: str, origin: str | None) -> None:
        headers[REQUEST_ID] = name
        for key, value in _SAFE.items():
            headers.setdefault(key, value)
        if origin is not None and origin in self._settings.allow_origins:
            headers["access-control-allow-origin"] = origin
            headers["access-control-allow-methods"] = "GET, POST"
            headers["access-control-allow-headers"] = _ALLOWED_HEADERS
            headers["access-control-expose-headers"] = REQUEST_ID
            headers.add_vary_header("Origin")

    def _log(self, problem: Problem, name: str, error: Exception) -> None:
        if problem.code == "internal_error":
            logger.exception("%s failed", name)
        else:
            logger.info("%s refused: %s %s", name, problem.status, problem.code)


def _name_in(host: str) -> str:
    """The name in a Host header; "" for one that is none."""
    try:
        return (urlsplit(f"//{host}").hostname or "") if "@" not in host else ""
    except ValueError:
        return ""


def _too_large(limit: int) -> RefusedError:
    return RefusedError(
        f"the body has more than {limit / MEBIBYTE:g} MiB, the limit of this gateway (--max-body)",
        None,
        "request_too_large",
        413,
    )
