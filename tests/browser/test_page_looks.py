"""The page as such: accessible, small, quick, and talking to nobody but its own device."""

from __future__ import annotations

import statistics
from typing import Any

import pytest
from gateway_fakes import LiveGateway, png, scene
from page_browser import AXE, PageAt, skip

pytestmark = pytest.mark.slow

MOST_BYTES = 60 * 1024
FIRST_PAINT_MS = 300
LOADS = 5


def test_no_request_leaves_the_device_and_nothing_breaks_the_policy(
    chromium: Any, live: LiveGateway
) -> None:
    with PageAt(chromium, live.url) as at:
        at.open("scene.png", png(scene()))
        at.stroke((0.5, 0.5), (1.5, 0.5))
        at.take("an owl")
        at.ask("what is it?")
        at.page.click("#theme")
        requests = list(at.requests)
    others = [url for url in requests if not url.startswith((live.url, "blob:"))]
    assert len(requests) > 15
    assert others == []


def test_the_page_is_small_and_paints_at_once(chromium: Any, live: LiveGateway) -> None:
    paints, sizes = [], {}
    for _ in range(LOADS):
        context = chromium.new_context()
        page = context.new_page()
        page.on("requestfinished", lambda request: sizes.update(_size(request)))
        page.goto(live.url, wait_until="networkidle")
        script = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
        paints.append(page.evaluate(script))
        context.close()
    files = {url: size for url, size in sizes.items() if "/v1/" not in url}
    print(f"{sum(files.values())} bytes in {len(files)} files")
    print(f"first paint: {', '.join(f'{each:.0f}' for each in paints)} ms")
    assert sum(files.values()) <= MOST_BYTES
    assert statistics.median(paints) < FIRST_PAINT_MS


def _size(request: Any) -> dict[str, int]:
    response = request.response()
    return {} if response is None else {request.url: len(response.body())}


def _faults(at: PageAt) -> list[str]:
    at.page.evaluate(AXE.read_text())
    found = at.page.evaluate("axe.run()")
    return [
        f"{each['id']}: {node['html'][:120]}" for each in found["violations"]
        for node in each["nodes"]
    ]  # fmt: skip


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_axe_finds_nothing_in_any_state(
    chromium: Any, live: LiveGateway, scheme: str, width: int
) -> None:
    if not AXE.exists():
        skip(f"there is no {AXE}", "npm")
    size = {"width": width, "height": 800}
    with PageAt(chromium, live.url, color_scheme=scheme, viewport=size) as at:
        assert _faults(at) == []
        at.open("scene.png", png(scene()))
        at.stroke((0.5, 0.5), (1.5, 0.5))
        assert _faults(at) == []
        at.take("an owl")
        at.ask("what is it?")
        at.page.click("#settings summary")
        at.page.click("#chart summary")
        at.page.click("#round-undo")
        at.take("a cat")
        assert _faults(at) == []
        at.page.check("[value=outpaint]")
        at.page.fill("#sides [data-side=right]", "2")
        assert _faults(at) == []
        live.cloud.gate.clear()
        at.page.click("#run")
        at.page.wait_for_selector("#stop:not([hidden])")
        assert _faults(at) == []
        live.cloud.gate.set()
        at.shown()
        at.page.fill("#prompt", "owl " * 500)
        at.page.check("[value=t2i]")
        at.page.click("#run")
        at.page.wait_for_selector("#alert:not([hidden])")
        assert _faults(at) == []


def test_nothing_is_wider_than_a_small_phone(chromium: Any, live: LiveGateway) -> None:
    with PageAt(chromium, live.url, viewport={"width": 360, "height": 740}) as at:
        at.open("scene.png", png(scene((256, 64))))
        at.stroke((0.5, 0.5), (1.5, 0.5))
        at.take("an owl")
        at.ask("what is it?")
        at.page.click("#settings summary")
        at.page.click("#chart summary")
        assert at.page.evaluate("document.documentElement.scrollWidth") == 360


def test_everything_can_be_reached_by_the_tab_key(chromium: Any, live: LiveGateway) -> None:
    with PageAt(chromium, live.url) as at:
        at.open("scene.png", png(scene()))
        seen = set()
        for _ in range(60):
            at.page.keyboard.press("Tab")
            seen.add(at.page.evaluate(
                "document.activeElement.id || document.activeElement.dataset.side || "
                "document.activeElement.dataset.tool || document.activeElement.className"
            ))  # fmt: skip
        wanted = {"open", "theme", "brush", "brush-size", "overlay", "left", "right", "up", "down",
                  "prompt", "question", "mask-file", "save-png", "round", "forget"}  # fmt: skip
        assert wanted <= seen


def test_the_theme_can_be_changed_and_is_remembered(chromium: Any, live: LiveGateway) -> None:
    with PageAt(chromium, live.url, color_scheme="light") as at:
        ground = "getComputedStyle(document.body).backgroundColor"
        light = at.page.evaluate(ground)
        at.page.click("#theme")
        dark = at.page.evaluate(ground)
        at.page.reload()
        assert (light != dark, at.page.evaluate(ground)) == (True, dark)
