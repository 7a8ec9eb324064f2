"""The page of a gateway in a browser without a window, as tests drive it."""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SHELL = Path("/usr/lib/chromium/chromium-headless-shell")
AXE = Path(__file__).parents[2] / ".browser/node_modules/axe-core/axe.min.js"
REQUIRED = "UNIMIC_BROWSER_TESTS"
"""Set to "required" where a missing browser is a failure."""
WAIT_MS = 60_000
WIDE = {"width": 1280, "height": 860}


def skip(reason: str, tool: str = "apt-get") -> None:
    """Leave a test out, unless such tests are required and `tool` could get what is missing."""
    reason = f"{reason}: tests/browser/install.sh gets it"
    if os.environ.get(REQUIRED) == "required" and shutil.which(tool):
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def browser() -> Iterator[Any]:
    """Chromium."""
    if not SHELL.exists():
        skip(f"there is no {SHELL}")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(
            executable_path=str(SHELL), args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield found
        found.close()


class PageAt:
    """A page that is open.

    Attributes:
        page: it.
        requests: addresses that it asked for.
        faults: what its console and its scripts complained of.
    """

    def __init__(self, found: Any, url: str, **context: Any) -> None:
        self.context = found.new_context(**{"viewport": WIDE, **context})
        self.page = self.context.new_page()
        self.page.set_default_timeout(WAIT_MS)
        self.requests: list[str] = []
        self.faults: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", self._heard)
        self.page.goto(url)
        self.page.wait_for_selector("#cloud:not(:empty)")

    def _heard(self, message: Any) -> None:
        # Replies of failed requests are told of by the browser itself; the page handles them.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.faults.append(message.text)

    def __enter__(self) -> PageAt:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()
        assert self.faults == [], self.faults

    def open(self, name: str, data: bytes) -> None:
        """Open a picture, and wait until it is shown."""
        before = self.page.locator(".round").count()
        file = {"name": name, "mimeType": "image/png", "buffer": data}
        self.page.set_input_files("#file", file)
        self.page.wait_for_selector(f".round >> nth={before}")
        self.shown()

    def shown(self) -> None:
        """Wait until no turn is under way and the current picture is there."""
        self.page.wait_for_selector("#run:not([hidden])")
        self.page.wait_for_selector("#picture[src^=blob]")
        self.page.wait_for_timeout(150)

    def take(self, words: str) -> None:
        """Say what is to be there, run, and wait for the round."""
        before = self.page.locator(".round").count()
        self.page.fill("#prompt", words)
        self.page.click("#run")
        self.page.wait_for_selector(f".round >> nth={before}")
        self.shown()

    def ask(self, question: str) -> str:
        """The answer to a question."""
        before = self.page.locator("#answers li").count()
        self.page.fill("#question", question)
        self.page.click("#ask-run")
        self.page.wait_for_selector(f"#answers li >> nth={before}")
        return str(self.page.locator("#answers li p >> nth=1").text_content())

    def draft(self) -> dict[str, Any]:
        """What the page keeps of words and masks."""
        found = self.page.evaluate("sessionStorage.getItem('unimic-draft')")
        return json.loads(found) if found else {}

    @property
    def current(self) -> str:
        """The name of the round that is shown."""
        return str(self.draft()["current"])

    def cells(self, columns: int = 4, rows: int = 4) -> set[tuple[int, int]]:
        """(column, row) of the cells that are marked in the round that is shown."""
        packed = dict(self.draft()["kept"]).get(self.current)
        if packed is None:
            return set()
        bits = np.unpackbits(
            np.frombuffer(base64.b64decode(packed), np.uint8), count=columns * rows
        )
        return {(int(at % columns), int(at // columns)) for at in np.flatnonzero(bits)}

    def place(
        self, column: float, row: float, columns: int = 4, rows: int = 4
    ) -> tuple[float, float]:
        """Where on the screen a place lies, in cells of the picture."""
        box = self.page.locator("#overlay").bounding_box()
        assert box is not None
        return (
            box["x"] + box["width"] * column / columns,
            box["y"] + box["height"] * row / rows,
        )

    def stroke(self, *places: tuple[float, float], button: str = "left", grid: int = 4) -> None:
        """Draw along places, in cells, with the mouse."""
        mouse = self.page.mouse
        mouse.move(*self.place(*places[0], grid, grid))
        mouse.down(button=button)
        for each in places[1:]:
            mouse.move(*self.place(*each, grid, grid), steps=4)
        mouse.up(button=button)

    def turns(self) -> list[dict[str, Any]]:
        """The rows of the table of bytes, by heading."""
        cells = self.page.locator("#cost-table tr").all()
        lines = [line.locator("th, td").all_text_contents() for line in cells]
        return [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]
