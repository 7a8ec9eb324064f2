"""The mask on the page: mouse, pen, touch, keys and files, at several zooms."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest
from gateway_fakes import LiveGateway, png, scene
from page_browser import PageAt
from PIL import Image

pytestmark = pytest.mark.slow

CORNER = {(0, 1), (1, 1), (2, 1), (2, 2), (2, 3)}
PATH = ((0.5, 1.5), (2.5, 1.5), (2.5, 3.5))
ZOOMS = {
    "at 100 %": {"viewport": {"width": 1280, "height": 860}, "device_scale_factor": 1.0},
    # What a browser does of a zoom of 150 %: fewer pixels of CSS, each of 1.5 on the screen.
    "at 150 %": {"viewport": {"width": 853, "height": 573}, "device_scale_factor": 1.5},
    "on a phone": {"viewport": {"width": 360, "height": 740}, "device_scale_factor": 3.0},
}


@pytest.fixture(params=ZOOMS.values(), ids=ZOOMS.keys())
def at(request: pytest.FixtureRequest, chromium: Any, live: LiveGateway) -> Iterator[PageAt]:
    with PageAt(chromium, live.url, has_touch=True, **request.param) as page:
        page.open("scene.png", png(scene()))
        page.page.locator("#brush-size").fill("1")
        yield page


def test_a_stroke_marks_the_cells_that_it_crosses_and_no_other(at: PageAt) -> None:
    at.stroke(*PATH)
    assert at.cells() == CORNER
    assert at.page.text_content("#run") == "Remove what is in 5 cells"


def test_a_stroke_marks_the_same_cells_in_a_picture_that_is_zoomed_and_moved(at: PageAt) -> None:
    for _ in range(2):
        at.page.click("#zoom-in")
    assert at.page.text_content("#zoom-shown") == "156 %"
    at.page.locator("#board").evaluate("board => board.scrollTo(20, 30)")
    at.page.locator("#board").scroll_into_view_if_needed()
    at.stroke((1.5, 1.5), (2.5, 1.5), (2.5, 2.5))
    assert at.cells() == {(1, 1), (2, 1), (2, 2)}


class Fingers:
    """Fingers on the screen, each at a place in cells."""

    def __init__(self, at: PageAt) -> None:
        at.page.locator("#overlay").scroll_into_view_if_needed()
        self._at = at
        self._client = at.context.new_cdp_session(at.page)

    def tell(self, kind: str, *places: tuple[float, float]) -> None:
        found = [self._at.place(*place) for place in places]
        points = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(found)]
        self._client.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})


def test_a_finger_marks_the_same_cells(at: PageAt) -> None:
    fingers = Fingers(at)
    fingers.tell("touchStart", PATH[0])
    for place in ((1.5, 1.5), *PATH[1:]):
        fingers.tell("touchMove", place)
    fingers.tell("touchEnd")
    assert at.cells() == CORNER


def test_a_second_finger_zooms_and_takes_back_what_the_first_began_to_paint(at: PageAt) -> None:
    fingers = Fingers(at)
    fingers.tell("touchStart", (1.5, 1.5))
    fingers.tell("touchStart", (1.5, 1.5), (2.5, 1.5))
    fingers.tell("touchMove", (1, 1.5), (3, 1.5))
    fingers.tell("touchEnd")
    assert at.cells() == set()
    assert at.page.text_content("#zoom-shown") == "200 %"


def test_keys_mark_the_same_cells_and_say_so(at: PageAt) -> None:
    at.page.locator("#overlay").focus()
    at.page.keyboard.press("ArrowUp")  # the cursor begins in the middle, at 2, 2
    for _ in range(2):
        at.page.keyboard.press("ArrowLeft")
    at.page.keyboard.press("Space")
    assert at.page.text_content("#cursor-said") == "row 2, column 1, marked"
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "ArrowDown"):
        at.page.keyboard.press(f"Shift+{key}")
    assert at.cells() == CORNER
    at.page.keyboard.press("Space")
    assert at.page.text_content("#cursor-said") == "row 4, column 3, not marked"
    assert at.cells() == CORNER - {(2, 3)}


def test_a_pen_paints_and_its_other_end_erases(at: PageAt) -> None:
    at.page.locator("#overlay").scroll_into_view_if_needed()
    client = at.context.new_cdp_session(at.page)

    def pen(kind: str, place: tuple[float, float], buttons: int) -> None:
        x, y = at.place(*place)
        button = {1: "left", 0: "left"}[buttons & 1]
        told = {"type": kind, "x": x, "y": y, "button": button, "buttons": buttons,
                "pointerType": "pen", "clickCount": 1}  # fmt: skip
        client.send("Input.dispatchMouseEvent", told)

    pen("mousePressed", PATH[0], 1)
    for place in PATH[1:]:
        pen("mouseMoved", place, 1)
    pen("mouseReleased", PATH[-1], 0)
    assert at.cells() == CORNER
    # Browsers tell of the far end by a button of its own, which this protocol cannot press.
    at.page.locator("#overlay").evaluate(
        """(overlay, [x, y]) => {
            const told = {pointerId: 1, pointerType: "pen", clientX: x, clientY: y, button: 5,
                buttons: 32, bubbles: true};
            overlay.setPointerCapture = () => {};
            overlay.dispatchEvent(new PointerEvent("pointerdown", told));
            overlay.dispatchEvent(new PointerEvent("pointerup", {...told, buttons: 0}));
            delete overlay.setPointerCapture;
        }""",
        list(at.place(0.5, 1.5)),
    )
    assert at.cells() == CORNER - {(0, 1)}


def test_eraser_undo_redo_and_clear(at: PageAt) -> None:
    page = at.page
    at.stroke(*PATH)
    page.click("[data-tool=eraser]")
    at.stroke((1.5, 1.5), (2.5, 1.5))
    kept = CORNER - {(1, 1), (2, 1)}
    assert at.cells() == kept
    page.click("[data-tool=brush]")
    assert at.cells() == kept, "a change of tool leaves the mask alone"
    page.click("#mask-undo")
    assert at.cells() == CORNER
    page.keyboard.press("Control+y")
    assert at.cells() == kept
    page.click("#mask-clear")
    assert at.cells() == set()
    page.keyboard.press("Control+z")
    assert at.cells() == kept
    at.stroke((0.5, 1.5), (0.6, 1.5), button="right")
    assert at.cells() == kept - {(0, 1)}


def test_a_wider_brush_marks_what_lies_within_it(at: PageAt) -> None:
    at.page.locator("#brush-size").fill("3")
    at.stroke((1.5, 1.5), (1.5, 1.5))
    assert at.cells() == {(c, r) for c in range(3) for r in range(3)}


def test_a_mask_comes_from_a_file_in_any_size_and_by_drop(at: PageAt) -> None:
    hole = Image.new("L", (128, 128), 0)
    hole.paste(255, (0, 32, 96, 64))
    hole.paste(255, (64, 64, 96, 128))
    file = {"name": "m.png", "mimeType": "image/png", "buffer": png(hole)}
    at.page.set_input_files("#mask-chosen", file)
    at.page.wait_for_selector("#status:has-text('5 cells marked')")
    assert at.cells() == CORNER
    at.page.click("#mask-clear")
    at.page.evaluate(
        """packed => {
            const bytes = Uint8Array.from(atob(packed), (each) => each.charCodeAt(0));
            const dataTransfer = new DataTransfer();
            dataTransfer.items.add(new File([bytes], "dropped.png", {type: "image/png"}));
            const tell = (element, name) => element.dispatchEvent(
                new DragEvent(name, {dataTransfer, bubbles: true, cancelable: true}));
            tell(document.body, "dragenter");
            tell(document.querySelector("[data-drop=mask]"), "drop");
        }""",
        base64.b64encode(png(hole)).decode(),
    )
    at.page.wait_for_selector("#status:has-text('dropped.png: 5 cells')")
    assert at.cells() == CORNER


def test_mask_and_words_outlive_a_reload(at: PageAt) -> None:
    at.stroke(*PATH)
    at.page.fill("#prompt", "an owl")
    at.page.fill("#question", "where is it?")
    at.page.reload()
    at.shown()
    assert at.cells() == CORNER
    assert at.page.text_content("#run") == "Repaint 5 cells"
    assert at.page.input_value("#question") == "where is it?"


def test_the_mask_stays_visible_whatever_is_done_next(at: PageAt) -> None:
    at.stroke(*PATH)
    count = "canvas => [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data].filter((v, i) => i % 4 === 3 && v > 60).length"  # noqa: E501
    for mode in ("outpaint", "t2i"):
        at.page.check(f"[value={mode}]")
        assert at.page.locator("#overlay").evaluate(count) > 100
