"""The interface described: one page without scripts for people, and OpenAPI's JSON for programs.

It does not know the paths; it shows what the application says of itself. Nothing is loaded from
anywhere else, so that it works in closed networks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse

DOCS_PATH, OPENAPI_PATH = "/docs", "/openapi.json"
_STYLE = "body{font:16px/1.5 sans-serif;max-width:50em;margin:2em auto;padding:0 1em}"
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def add_docs(router: APIRouter, guards: list[Any]) -> None:
    """Add both paths to `router`; `guards` ask for the key."""

    def described(request: Request) -> dict[str, Any]:
        root = request.scope.get("root_path", "").rstrip("/")
        schema: dict[str, Any] = dict(request.app.openapi())
        return schema | ({"servers": [{"url": root}]} if root else {})

    @router.get(OPENAPI_PATH, dependencies=guards, include_in_schema=False)
    async def openapi(request: Request) -> JSONResponse:
        return JSONResponse(described(request))

    @router.get(DOCS_PATH, dependencies=guards, include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        headers = {"Content-Security-Policy": _POLICY}
        return HTMLResponse("".join(_page(described(request))), headers=headers)


def _page(schema: Mapping[str, Any]) -> Iterator[str]:
    title = escape(schema["info"]["title"])
    yield f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title>"
    yield f"<style>{_STYLE}</style><h1>{title}</h1>"
    yield f"<p>{escape(schema['info'].get('description', ''))}</p>"
    for path, methods in schema["paths"].items():
        for method, said in methods.items():
            yield f"<h2><code>{method.upper()} {escape(path)}</code></h2>"
            text = said.get("description") or said.get("summary") or ""
            yield f"<p>{escape(text)}</p><table>"
            for status, reply in said["responses"].items():
                yield f"<tr><td>{escape(status)}<td>{escape(reply['description'])}"
            yield "</table>"
    yield "</html>"
