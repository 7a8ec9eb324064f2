"""The files of the page as such: small, of this device, and without anything inline."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from gateway_fakes import live_gateway

from edge_client.gateway.replies.plain_routes import PAGE

FILES = sorted(PAGE.iterdir())
MOST_BYTES = 60 * 1024


def test_all_of_the_page_is_small() -> None:
    assert sum(file.stat().st_size for file in FILES) <= MOST_BYTES


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_no_file_names_another_host(file: Path) -> None:
    found = re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"'`]*", file.read_text())
    assert [url for url in found if not url.startswith("http://www.w3.org/2000/svg")] == []


def test_nothing_in_the_page_is_inline() -> None:
    text = (PAGE / "index.html").read_text()
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", text)
    assert re.findall(r"<script[^>]*>([^<]*)</script>", text) == [""]


def test_every_module_and_file_that_is_named_is_there() -> None:
    names = {file.name for file in FILES}
    for file in FILES:
        text = file.read_text()
        found = re.findall(r'from "\./([\w.]+)"|(?:src|href)="([\w-]+\.\w+)"', text)
        assert {name for pair in found for name in pair if name} <= names


def test_the_page_comes_with_a_strict_policy_and_its_own_types(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kinds = {".html": "text/html", ".js": "text/javascript", ".css": "text/css",
             ".svg": "image/svg+xml"}  # fmt: skip
    with live_gateway(monkeypatch) as live:
        for file in FILES:
            reply = live.client.get(f"/{file.name}")
            assert reply.headers["content-type"].startswith(kinds[file.suffix])
            policy = reply.headers["content-security-policy"]
            assert "default-src 'self'" in policy
            assert "unsafe" not in policy
            assert "frame-ancestors 'none'" in policy
        assert live.client.get("/").text == (PAGE / "index.html").read_text()
