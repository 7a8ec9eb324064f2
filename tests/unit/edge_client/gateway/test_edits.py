"""`/v1/images/edits`: exact masks, borders that are continued, forms as clients send them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from edge_fakes import FakeTokenizer
from gateway_fakes import (
    PAINTED,
    LiveGateway,
    data_url,
    events_of,
    live_gateway,
    mask,
    picture_in,
    png,
    scene,
)
from PIL import Image

from edge_client.gateway.requests.edit_request import read_look
from edge_client.gateway.requests.fields import Fields
from edge_client.pictures.edits import MARGIN
from shared_protocol.tokens import ImageTokens

PATH = "images/edits"
PICTURE = png(scene())
FORM = {"prompt": "an owl"}


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> Iterator[LiveGateway]:
    with live_gateway(monkeypatch) as gateway:
        yield gateway


def edit(live: LiveGateway, picture: bytes = PICTURE, hole: bytes | None = None, **data: str):
    files = {"image": ("a.png", picture, "image/png")}
    if hole is not None:
        files["mask"] = ("m.png", hole, "image/png")
    return live.form(PATH, {**FORM, **data}, files)


def test_what_is_outside_the_mask_is_the_senders_to_the_pixel(live: LiveGateway) -> None:
    size = (640, 640)
    photo = np.random.default_rng(1).integers(0, 255, (*size, 3), dtype=np.uint8)
    sent = png(Image.fromarray(photo))
    body = edit(live, sent, mask(size, (160, 160, 320, 320))).json()
    found = np.asarray(picture_in(body).convert("RGB"))
    changed = (found != photo).any(axis=2)
    token = 160
    edge = token // 2
    inside = np.zeros(size, dtype=bool)
    inside[160 - edge : 320 + edge, 160 - edge : 320 + edge] = True
    assert not changed[~inside].any()
    assert changed[200:280, 200:280].all()


def test_every_token_outside_the_mask_is_kept(live: LiveGateway) -> None:
    assert edit(live, hole=mask()).status_code == 200
    request = live.cloud.asked[0]
    response = next(iter(live.cloud.done.values()))
    assert request.image is not None
    assert request.mask is not None
    assert response.image is not None
    kept = ~request.mask.flags
    assert request.mask.count == 1
    assert (response.image.codes[kept] == request.image.codes[kept]).all()
    assert response.image.codes[request.mask.flags] == PAINTED


@pytest.mark.parametrize(
    "files",
    [
        [("image", ("a.png", PICTURE, "image/png"))],
        [("image[]", ("a.png", PICTURE, "image/png"))],
        [("image", ("upload", PICTURE, "application/octet-stream"))],
        [("image[]", ("blob", PICTURE, "application/octet-stream"))],
        [("image", ("blob", png(scene(), "WEBP"), ""))],
        [("image", ("a.png", png(scene(), "JPEG"), "image/png"))],
    ],
)
def test_files_come_under_many_names(live: LiveGateway, files: list[Any]) -> None:
    hole = ("mask", ("blob", mask(), "application/octet-stream"))
    data = {**FORM, "n": "1", "stream": "false", "seed": "5", "user": ""}
    reply = live.form(PATH, data, [*files, hole])
    assert reply.status_code == 200, reply.text
    assert live.cloud.asked[0].options.seed == 5


def test_options_come_nested_or_as_json_in_a_form(live: LiveGateway) -> None:
    for own in ({"unimic[steps]": "9", "unimic[mend]": "0"}, {"unimic": '{"steps": 9, "mend": 0}'}):
        assert edit(live, hole=mask(), **own).status_code == 200
        options = live.cloud.asked[-1].options
        assert (options.steps, options.mend) == (9, 0)


def test_json_is_taken_as_well(live: LiveGateway) -> None:
    body = {"prompt": "x", "images": [{"image_url": data_url(PICTURE)}]}
    body |= {"mask": {"image_url": data_url(mask())}}
    assert live.post(PATH, body).status_code == 200
    made = live.post("images/generations", {"prompt": "x"}).json()["unimic"]["round"]
    body["images"] = [{"file_id": made}]
    assert live.post(PATH, body).status_code == 200


def test_a_picture_may_be_transparent_itself(live: LiveGateway) -> None:
    image = scene().convert("RGBA")
    image.putalpha(Image.open(io.BytesIO(mask())).getchannel("A"))
    assert edit(live, png(image)).status_code == 200
    request = live.cloud.asked[0]
    assert request.mask is not None
    assert request.mask.flags[1, 1]
    assert request.mask.count == 1


def test_no_hole_is_left_where_a_picture_was_transparent_itself(live: LiveGateway) -> None:
    image = scene().convert("RGBA")
    image.putalpha(Image.open(io.BytesIO(mask(hole=(13, 17, 41, 33)))).getchannel("A"))
    found = picture_in(edit(live, png(image)).json())
    assert "A" not in found.getbands() or found.getchannel("A").getextrema() == (255, 255)
    request = live.cloud.asked[0]
    assert request.mask is not None
    assert request.mask.flags[1, 0:3].all()
    kept = np.asarray(found.convert("RGB"))[:, 60:]
    assert (kept == np.asarray(scene())[:, 60:]).all()


def test_what_was_made_here_is_edited_with_words_and_mask_alone(live: LiveGateway) -> None:
    made = live.post("images/generations", {"prompt": "x", "size": "256x256"}).json()
    image = picture_in(made)
    again = png(image.convert("RGBA"))  # as a canvas of a web page saves it
    for picture in (png(image), again):
        body = edit(live, picture, mask(image.size, (64, 64, 128, 128))).json()
        assert body["unimic"]["image_tokens_sent"] == 0
        assert picture_in(body).size == (256, 256)
    before = made["unimic"]["round"]
    hole = {"mask": ("m.png", mask(image.size, (0, 0, 64, 64)), "image/png")}
    body = live.form(PATH, {**FORM, "unimic[round]": before}, hole).json()
    assert body["unimic"]["image_tokens_sent"] == 0
    assert live.client.get("/v1/unimic/rounds").json()["data"][-1]["task"] == "inpaint"


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_the_very_tokens_are_kept_though_pixels_do_not_tell_them(
    live: LiveGateway, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    usual = FakeTokenizer.tokenize

    def other(self: FakeTokenizer, pixels: np.ndarray) -> ImageTokens:
        return ImageTokens(usual(self, pixels).codes + 1, 8192)

    monkeypatch.setattr(FakeTokenizer, "tokenize", other)
    made = live.post("images/generations", {"prompt": "x", "output_format": kind}).json()
    saved_anew = png(picture_in(made).convert("RGBA"))
    body = edit(live, saved_anew, mask()).json()
    assert body["unimic"]["image_tokens_sent"] == 0
    image = live.cloud.asked[-1].image
    assert image is not None
    assert image.codes[3, 3] == PAINTED


def test_variants_of_an_edit_send_the_picture_once(live: LiveGateway) -> None:
    body = edit(live, hole=mask(), n="3", seed="2").json()
    assert len(body["data"]) == 3
    assert body["unimic"]["image_tokens_sent"] == 15
    assert [request.options.seed for request in live.cloud.asked] == [2, 3, 4]


@pytest.mark.parametrize(
    ("place", "canvas", "sides"),
    [
        ((32, 0), (96, 64), (2, 0, 0, 0)),
        ((0, 16), (64, 80), (0, 0, 1, 0)),
        ((16, 16), (96, 96), (1, 1, 1, 1)),
    ],
)
def test_a_transparent_border_of_whole_tokens_is_continued(
    live: LiveGateway, place: tuple[int, int], canvas: tuple[int, int], sides: tuple[int, ...]
) -> None:
    image = Image.new("RGBA", canvas, (0, 0, 0, 0))
    image.paste(scene(), place)
    reply = edit(live, png(image))
    assert reply.status_code == 200, reply.text
    request = live.cloud.asked[0]
    assert request.task.slug == "outpaint"
    found = request.extension
    assert found is not None
    assert (found.left, found.right, found.up, found.down) == sides
    assert picture_in(reply.json()).size == canvas


def test_a_border_of_parts_of_tokens_is_repainted(live: LiveGateway) -> None:
    image = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    image.paste(scene().crop((0, 0, 54, 64)), (10, 0))
    assert edit(live, png(image)).status_code == 200
    assert live.cloud.asked[0].task.slug == "inpaint"


@pytest.mark.parametrize(
    ("picture", "hole", "param"),
    [
        (PICTURE, None, "mask"),
        (PICTURE, png(Image.new("L", (64, 64), 255)), "mask"),
        (PICTURE, png(Image.new("RGBA", (64, 64), (0, 0, 0, 255))), "mask"),
        (PICTURE, mask((32, 32)), "mask"),
        (PICTURE, b"no picture", "mask"),
        (b"no picture", mask(), "image"),
        (b"", mask(), "image"),
        (png(Image.new("RGBA", (64, 64), (9, 9, 9, 255))), None, "image"),
        (b"<html>", None, "image"),
    ],
)
def test_pictures_and_masks_of_no_use_are_refused_with_the_remedy(
    live: LiveGateway, picture: bytes, hole: bytes | None, param: str
) -> None:
    reply = edit(live, picture, hole)
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["param"]) == (400, "invalid_image_file", param)
    assert live.cloud.asked == []


def test_several_pictures_and_markup_are_refused_by_name(live: LiveGateway) -> None:
    two = [("image[]", ("a.png", PICTURE, "image/png"))] * 2
    reply = live.form(PATH, FORM, [*two, ("mask", ("m.png", mask(), "image/png"))])
    assert reply.json()["error"]["param"] == "image"
    reply = edit(live, hole=mask(), markup="x")
    assert reply.json()["error"]["param"] == "markup"
    reply = live.form(PATH, FORM, {"mask": ("m.png", mask(), "image/png")})
    assert reply.json()["error"]["param"] == "image"


def test_a_size_of_another_shape_keeps_the_pictures_shape(live: LiveGateway) -> None:
    wide = png(scene((128, 64)))
    body = edit(live, wide, mask((128, 64), (48, 16, 64, 32)), size="512x512").json()
    assert body["size"] == "512x256"
    assert picture_in(body).size == (512, 256)
    assert "another shape" in body["unimic"]["warnings"][-1]


def test_partial_pictures_of_an_edit_show_the_senders_picture(live: LiveGateway) -> None:
    live.cloud.reports = 3
    reply = edit(live, hole=mask(), stream="true", partial_images="2")
    events = events_of(reply.text)
    assert [event["type"] for event in events] == [
        "image_edit.partial_image", "image_edit.completed",
    ]  # fmt: skip
    first = np.asarray(picture_in({"data": [events[0]]}).convert("RGB"))
    assert (first[48:, 48:] == np.asarray(scene())[48:, 48:]).all()


def test_around_and_edge_are_options_of_edits(live: LiveGateway) -> None:
    assert edit(live, hole=mask(), **{"unimic[around]": "0.5", "unimic[edge]": "0"}).is_success
    assert edit(live, hole=mask(), **{"unimic[around]": "true"}).is_success
    assert edit(live, hole=mask(), **{"unimic[around]": "near"}).status_code == 400
    for value, kept in ((True, MARGIN), (1, 1.0), (0, 0.0), (False, None), ("true", MARGIN)):
        assert read_look(Fields({"around": value})) == (kept, None)
    reply = live.post(PATH, {"prompt": "", "image": data_url(PICTURE), "mask": data_url(mask()),
                             "unimic": {"around": True}})  # fmt: skip
    assert reply.is_success
