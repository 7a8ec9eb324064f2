"""Rounds on the page: what is drawn, repainted, extended and asked, and going back."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from edge_fakes import ANSWER, FakeBundle
from gateway_fakes import LiveGateway, png, scene
from page_browser import PageAt
from PIL import Image

from edge_client.pictures.carried_tokens import find_chunk, tokens_in_chunk
from shared_protocol.message.picture_file import read_picture

pytestmark = pytest.mark.slow


@pytest.fixture
def at(chromium: Any, live: LiveGateway) -> Iterator[PageAt]:
    with PageAt(chromium, live.url) as page:
        yield page


def tokens_of(live: LiveGateway, name: str) -> np.ndarray[Any, Any]:
    data = live.client.get(f"/v1/unimic/desk/rounds/{name}/tokens.umic").content
    return np.asarray(read_picture(data, FakeBundle()).image.codes)


def test_two_rounds_leave_untouched_tokens_identical(at: PageAt, live: LiveGateway) -> None:
    at.open("scene.png", png(scene()))
    at.page.locator("#brush-size").fill("1")
    names = [at.current]
    for column in (1, 2):
        at.stroke((column + 0.5, 0.5), (column + 0.5, 1.5))
        at.take("an owl")
        names.append(at.current)
    first, second, third = (tokens_of(live, name) for name in names)
    assert {(c, r) for r, c in np.argwhere(first != second)} == {(1, 0), (1, 1)}
    assert {(c, r) for r, c in np.argwhere(second != third)} == {(2, 0), (2, 1)}


def test_a_picture_is_drawn_from_words_alone(at: PageAt, live: LiveGateway) -> None:
    assert at.page.is_visible("#empty")
    assert at.page.is_disabled("#run")
    at.take("a fox")
    assert live.cloud.asked[0].image is None
    assert at.page.is_hidden("#empty")
    assert at.page.is_checked("[value=inpaint]"), "what comes next is most likely a change"


def test_a_picture_is_shown_while_it_is_made_in_the_marked_cells_only(
    at: PageAt, live: LiveGateway
) -> None:
    """What the canvas for it shows is noted whenever it changes; at last it is empty again."""
    live.cloud.reports = 4
    at.open("scene.png", png(scene()))
    at.page.locator("#brush-size").fill("1")
    at.stroke((1.5, 0.5), (2.5, 0.5))
    at.page.evaluate("""() => {
        const {prototype} = CanvasRenderingContext2D;
        const draw = prototype.drawImage;
        window.seen = [];
        prototype.drawImage = function (...words) {
            draw.apply(this, words);
            const {width, height} = this.canvas;
            const {data} = this.getImageData(0, 0, width, height);
            const cells = new Set();
            for (let at = 3; at < data.length; at += 4)
                if (data[at] > 200) {
                    const place = (at - 3) / 4;
                    const row = Math.floor((4 * Math.floor(place / width)) / height);
                    cells.add(`${Math.floor((4 * (place % width)) / width)} ${row}`);
                }
            window.seen.push([...cells].sort());
        };
    }""")
    at.take("an owl")
    seen = at.page.evaluate("window.seen")
    assert seen
    assert all(each == ["1 0", "2 0"] for each in seen)
    clear = "canvas => canvas.getContext('2d').getImageData(0, 0, 9999, 9999).data.every((v) => !v)"
    assert at.page.locator("#glimpse").evaluate(clear)


def test_handles_extend_by_mouse_and_keys_and_preview_it(at: PageAt, live: LiveGateway) -> None:
    at.open("scene.png", png(scene()))
    before = at.page.locator("#stage").bounding_box()
    handle = at.page.locator(".handle[data-side=right]")
    box = handle.bounding_box()
    assert before
    assert box
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    at.page.mouse.move(x, y)
    at.page.mouse.down()
    assert at.page.is_checked("[value=outpaint]")
    scale = at.page.locator("#picture").bounding_box()["width"] / 64
    at.page.mouse.move(x + 2 * 16 * scale, y, steps=5)
    stage = at.page.locator("#stage").bounding_box()
    assert stage["width"] / stage["height"] == pytest.approx(6 / 4, rel=0.02)
    at.page.mouse.up()
    at.page.locator(".handle[data-side=up]").focus()
    at.page.keyboard.press("ArrowUp")
    assert at.page.text_content("#run") == "Extend to 6 × 5 tokens"
    assert at.page.input_value("#sides [data-side=right]") == "2"
    at.page.fill("#sides [data-side=left]", "1")
    at.take("a forest")
    asked = live.cloud.asked[0].extension
    assert asked is not None
    assert (asked.left, asked.right, asked.up, asked.down) == (1, 2, 1, 0)
    told = live.client.get("/v1/unimic/desk").json()["rounds"][-1]
    assert told["size"] == [7 * 16, 5 * 16]


def test_back_and_on_again_makes_a_branch(at: PageAt) -> None:
    at.open("scene.png", png(scene()))
    at.stroke((0.5, 0.5), (1.5, 0.5))
    marked = at.cells()
    at.take("an owl")
    assert at.cells() == set()
    at.page.click("#round-undo")
    at.shown()
    assert at.cells() == marked, "the mask of a round comes back with it"
    at.take("a cat")
    at.page.wait_for_selector(".round.branch[aria-current=true]")
    labels = [each.get_attribute("aria-label") or "" for each in at.page.locator(".round").all()]
    assert sorted(label.split(",")[0].split(" ·")[0] for label in labels) == [
        "Round 1", "Round 2", "Round 3"
    ]  # fmt: skip
    at.page.locator(".round >> nth=1").click()
    at.shown()
    assert at.page.is_enabled("#round-undo")


def test_a_question_is_answered_and_stays_with_its_round(at: PageAt) -> None:
    at.open("scene.png", png(scene()))
    assert at.ask("what is it?") == ANSWER
    at.open("other.png", png(scene().rotate(90)))
    assert at.page.locator("#answers li").count() == 0
    at.page.locator(".round >> nth=0").click()
    at.page.wait_for_selector("#answers li")
    assert ANSWER in at.page.text_content("#answers li")


def test_settings_reach_the_cloud(at: PageAt, live: LiveGateway) -> None:
    at.page.click("#settings summary")
    values = {"seed": "7", "steps": "3", "guidance": "2.5", "negative": "snow"}
    for name, value in values.items():
        at.page.fill(f"#{name}", value)
    at.page.select_option("#mend", "2")
    at.take("a fox")
    asked = live.cloud.asked[0]
    found = asked.options
    assert (found.seed, found.steps, found.guidance, found.mend) == (7, 3, 2.5, 2)
    assert asked.negative is not None
    at.page.fill("#steps", "1000")
    at.page.fill("#prompt", "b")
    at.page.check("[value=t2i]")
    at.page.click("#run")
    at.page.wait_for_selector("#alert:has-text('Steps')")
    assert len(live.cloud.asked) == 1


def test_the_users_photograph_comes_back_at_its_own_size_and_untouched_elsewhere(
    at: PageAt, live: LiveGateway
) -> None:
    photo = np.random.default_rng(3).integers(0, 255, (360, 640, 3), dtype=np.uint8)
    at.open("photo.png", png(Image.fromarray(photo)))
    cells = live.client.get("/v1/unimic/desk").json()["rounds"][0]["cells"]
    assert (cells["columns"], cells["rows"], cells["window"]) == (8, 4, [2, 0, 4, 4])
    at.page.locator("#brush-size").fill("1")
    box = at.page.locator("#overlay").bounding_box()
    at.page.mouse.click(box["x"] + box["width"] * 0.5 + 20, box["y"] + box["height"] * 0.4)
    at.take("an owl")
    with at.page.expect_download() as info:
        at.page.click("#save-png")
    data = info.value.path().read_bytes()
    image = Image.open(io.BytesIO(data))
    assert image.size == (640, 360)
    changed = (np.asarray(image.convert("RGB")) != photo).any(axis=2)
    assert changed.any()
    assert changed.mean() < 0.2
    chunk = find_chunk(io.BytesIO(data))
    assert chunk is not None
    kept = tokens_in_chunk(chunk, image, FakeBundle())
    assert kept is not None
    assert np.array_equal(kept.image.codes, tokens_of(live, at.current))


def test_the_tokens_alone_are_a_file_that_the_page_opens_again(
    at: PageAt, live: LiveGateway
) -> None:
    at.take("a fox")
    made = tokens_of(live, at.current)
    with at.page.expect_download() as info:
        at.page.click("#save-umic")
    at.open("again.umic", info.value.path().read_bytes())
    assert np.array_equal(tokens_of(live, at.current), made)


def test_the_chart_adds_up_to_all_bytes_and_to_the_pictures_in_pixel_formats(
    at: PageAt, live: LiveGateway
) -> None:
    at.open("scene.png", png(scene()))
    at.stroke((0.5, 0.5), (1.5, 0.5))
    at.take("an owl")
    at.ask("what is it?")
    rows = at.turns()
    for row in rows:
        parts = ("words", "mask", "picture", "header", "link", "progress")
        assert sum(int(row[part]) for part in parts) == int(row["all"])
    told = live.client.get("/v1/unimic/desk").json()
    sizes = [each["sizes"] for each in told["rounds"]]
    by_way = {row["way"]: row for row in rows if row["turn"].startswith("1 ")}
    assert int(by_way["up"]["JPEG"]) == sizes[0]["jpeg"]
    assert int(by_way["down"]["JPEG"]) == sizes[1]["jpeg"]
    assert {row["JPEG"] for row in rows if row["turn"].startswith("2 ")} == {"–"}
    up = sum(int(row["all"]) for row in rows if row["way"] == "up")
    assert at.page.get_attribute("#total-up", "title") == f"{up} bytes on the wire"


def test_forgetting_leaves_nothing(at: PageAt, live: LiveGateway) -> None:
    at.open("scene.png", png(scene()))
    at.page.on("dialog", lambda dialog: dialog.accept())
    at.page.click("#forget")
    at.page.wait_for_selector("#empty:not([hidden])")
    assert live.client.get("/v1/unimic/desk").json()["rounds"] == []
