"""What all tests of the page use: a browser, and a gateway in front of a cloud in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from gateway_fakes import LiveGateway, live_gateway
from page_browser import browser


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as found:
        yield found


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> Iterator[LiveGateway]:
    with live_gateway(monkeypatch) as gateway:
        yield gateway
