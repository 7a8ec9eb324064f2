"""What fails on the page: the cloud, the gateway, bad files; mask and words stay."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gateway_fakes import LiveGateway, live_gateway, png, scene
from page_browser import PageAt

from shared_protocol.errors import (
    BundleMismatchError,
    DeadlineError,
    OverloadedError,
    UnauthorizedError,
    UnimicError,
)

pytestmark = pytest.mark.slow

CASES = Path(__file__).parents[1] / "cases"
MARKED = {(0, 0), (1, 0)}
FAULTS: list[UnimicError] = [
    OverloadedError("too many wait", "try later"),
    DeadlineError("it took too long"),
    BundleMismatchError("the server holds another bundle", "edge-client fetch"),
    UnauthorizedError("the key is wrong", "set UNIMIC_API_KEY"),
]


@pytest.fixture
def at(chromium: Any, live: LiveGateway) -> Iterator[PageAt]:
    with PageAt(chromium, live.url) as page:
        page.open("scene.png", png(scene()))
        page.page.locator("#brush-size").fill("1")
        page.stroke((0.5, 0.5), (1.5, 0.5))
        page.page.fill("#prompt", "an owl")
        page.page.fill("#question", "what is it?")
        yield page


def still_there(at: PageAt) -> None:
    assert at.cells() == MARKED
    assert at.page.input_value("#prompt") == "an owl"
    assert at.page.input_value("#question") == "what is it?"
    assert at.page.is_enabled("#run")
    assert at.page.locator(".round").count() == 1


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_a_cloud_that_fails_is_told_of_and_nothing_is_lost(
    at: PageAt, live: LiveGateway, fault: UnimicError
) -> None:
    live.cloud.errors.extend([fault] * 20)
    at.page.click("#run")
    at.page.wait_for_selector("#alert:not([hidden])")
    told = at.page.text_content("#alert")
    assert fault.message in told
    assert "Your mask and your words are still here" in told
    still_there(at)
    live.cloud.errors.clear()
    at.take("an owl")
    assert at.page.is_hidden("#alert")


def test_stop_ends_the_turn_at_the_cloud_and_nothing_is_lost(at: PageAt, live: LiveGateway) -> None:
    live.cloud.gate.clear()
    at.page.click("#run")
    at.page.wait_for_selector("#stop:not([hidden])")
    assert at.page.is_hidden("#run")
    at.page.wait_for_timeout(300)
    at.page.click("#stop")
    at.page.wait_for_selector("#status:has-text('Stopped')")
    deadline = time.monotonic() + 20
    while not live.cloud.ended:
        assert time.monotonic() < deadline, "the cloud was never told"
        time.sleep(0.02)
    live.cloud.gate.set()
    still_there(at)
    at.take("an owl")


def test_who_goes_to_another_round_meanwhile_stays_there(at: PageAt, live: LiveGateway) -> None:
    at.open("other.png", png(scene().rotate(90)))
    at.stroke((2.5, 2.5), (3.5, 2.5))
    live.cloud.gate.clear()
    at.page.click("#run")
    at.page.wait_for_selector("#stop:not([hidden])")
    at.page.locator(".round >> nth=0").click()
    at.page.wait_for_selector(".round[aria-label^='Round 1'][aria-current=true]")
    at.page.wait_for_timeout(300)
    there = at.current
    live.cloud.gate.set()
    at.page.wait_for_selector(".round >> nth=2")
    at.shown()
    assert at.current == there
    assert at.cells() == MARKED


def test_a_gateway_that_is_gone_is_told_of_and_the_page_goes_on(
    chromium: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with live_gateway(monkeypatch) as live, PageAt(chromium, live.url) as at:
        at.open("scene.png", png(scene()))
        at.stroke((0.5, 0.5), (1.5, 0.5))
        marked = at.cells()
        at.page.context.set_offline(True)
        at.page.click("#run")
        at.page.wait_for_selector("#alert:has-text('start it again with edge-client ui')")
        assert at.cells() == marked
        at.page.context.set_offline(False)
        at.take("")
        assert at.page.is_hidden("#alert")


@pytest.mark.parametrize(
    "name", ["drawing.svg", "page.html.jpg", "truncated.jpg", "png_100_megapixels.png"]
)
def test_a_file_that_is_no_picture_is_told_of_and_nothing_is_lost(at: PageAt, name: str) -> None:
    at.page.set_input_files("#file", str(CASES / name))
    at.page.wait_for_selector("#alert:not([hidden])")
    still_there(at)


def test_a_mask_of_another_shape_is_told_of_and_the_old_one_stays(at: PageAt) -> None:
    at.page.set_input_files("#mask-chosen", str(CASES / "mask_other_shape.png"))
    at.page.wait_for_selector("#alert:not([hidden])")
    still_there(at)


def test_a_prompt_over_the_limit_is_told_of_with_what_would_fit(at: PageAt) -> None:
    at.page.fill("#prompt", "owl " * 500)
    at.page.click("#run")
    at.page.wait_for_selector("#alert:has-text('shorten it')")
    assert at.cells() == MARKED


def test_a_gateway_with_a_key_asks_for_it(chromium: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with live_gateway(monkeypatch, key="secret") as live:
        context = chromium.new_context()
        page = context.new_page()
        page.goto(live.url)
        page.wait_for_selector("#key[open]")
        page.fill("#key-text", "secret")
        page.keyboard.press("Enter")
        page.wait_for_selector("#cloud:not(:empty)")
        assert page.is_hidden("#alert")
        context.close()
