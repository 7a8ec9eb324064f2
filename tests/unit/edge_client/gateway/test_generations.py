"""`/v1/images/generations`: what comes back, what is refused by name, what is told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from gateway_fakes import PAINTED, LiveGateway, events_of, live_gateway, picture_in

PATH = "images/generations"


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> Iterator[LiveGateway]:
    with live_gateway(monkeypatch) as gateway:
        yield gateway


def test_a_picture_comes_back_with_true_counts_and_bytes(live: LiveGateway) -> None:
    body = live.post(PATH, {"prompt": "an owl"}).json()
    image = picture_in(body)
    assert image.size == (64, 64)
    assert image.convert("L").getextrema() == (PAINTED, PAINTED)
    assert body["usage"]["input_tokens_details"] == {"image_tokens": 0, "text_tokens": 6}
    assert body["usage"]["output_tokens"] == 16
    assert body["usage"]["total_tokens"] == 22
    told = body["unimic"]
    assert 0 < told["bytes_up"] <= told["wire_up"]
    assert 0 < told["bytes_down"] <= told["wire_down"]
    assert told["warnings"] == []
    assert body["size"] == "64x64"


def test_variants_have_following_seeds(live: LiveGateway) -> None:
    body = live.post(PATH, {"prompt": "an owl", "n": 3, "seed": 7}).json()
    assert len(body["data"]) == 3
    assert body["unimic"]["seeds"] == [7, 8, 9]
    assert sorted(request.options.seed for request in live.cloud.asked) == [7, 8, 9]


def test_without_a_seed_every_picture_is_another(live: LiveGateway) -> None:
    seeds = [live.post(PATH, {"prompt": "x"}).json()["unimic"]["seeds"] for _ in range(3)]
    assert len({tuple(each) for each in seeds}) == 3


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_formats(live: LiveGateway, kind: str) -> None:
    asked = {"prompt": "x", "output_format": kind, "output_compression": 80}
    body = live.post(PATH, asked).json()
    assert picture_in(body).format == kind.upper()
    assert body["output_format"] == kind
    assert ("output_compression" in str(body["unimic"]["warnings"])) == (kind == "png")


@pytest.mark.parametrize("size", ["256x256", "1024x1024", "80x80"])
def test_a_size_is_made_on_the_device(live: LiveGateway, size: str) -> None:
    body = live.post(PATH, {"prompt": "x", "size": size}).json()
    width, height = picture_in(body).size
    assert f"{width}x{height}" == body["size"] == size
    assert len(live.cloud.asked) == 1


def test_another_shape_is_continued_not_stretched(live: LiveGateway) -> None:
    body = live.post(PATH, {"prompt": "x", "size": "1536x1024"}).json()
    assert picture_in(body).size == (1536, 1024)
    assert [request.task.slug for request in live.cloud.asked] == ["t2i", "outpaint"]
    assert live.cloud.asked[1].extension is not None
    assert live.cloud.asked[1].extension.canvas(4, 4) == (4, 6)
    assert "continued" in body["unimic"]["warnings"][-1]
    assert body["unimic"]["image_tokens_sent"] == 0


def test_options_of_this_gateway_reach_the_cloud(live: LiveGateway) -> None:
    own = {"steps": 9, "guidance": 2.5, "mend": 1, "negative_prompt": "a cat", "seed": 4}
    assert live.post(PATH, {"prompt": "x", "unimic": own}).status_code == 200
    request = live.cloud.asked[0]
    found = request.options
    assert (found.steps, found.guidance, found.mend, found.seed) == (9, 2.5, 1, 4)
    assert request.negative is not None


def test_quality_says_how_often_a_picture_is_mended(live: LiveGateway) -> None:
    for quality in ("low", "high", "auto"):
        assert live.post(PATH, {"prompt": "x", "quality": quality}).json()["quality"] == quality
    assert [request.options.mend for request in live.cloud.asked] == [0, 8, None]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("size", "500x500"), ("size", "16x16"), ("size", "huge"), ("size", "8192x8192"),
        ("n", 0), ("n", 11), ("n", "two"), ("n", True), ("n", 1.5),
        ("output_format", "gif"), ("output_format", "svg"), ("background", "transparent"),
        ("style", "natural"), ("quality", "best"), ("partial_images", 4), ("stream", "perhaps"),
        ("response_format", "bytes"), ("seed", -1), ("seed", 2**32), ("prompt", 5),
        ("output_compression", 101), ("unimic", "no object"), ("unimic", [1]),
    ],
)  # fmt: skip
def test_what_cannot_be_honoured_is_refused_by_name(
    live: LiveGateway, field: str, value: Any
) -> None:
    reply = live.post(PATH, {"prompt": "x", field: value})
    error = reply.json()["error"]
    assert reply.status_code == 400
    assert error["param"] == field
    assert error["type"] == "invalid_request_error"
    assert set(error) == {"message", "type", "param", "code"}
    assert live.cloud.asked == []


@pytest.mark.parametrize(
    ("name", "value"), [("steps", 0), ("guidance", 26), ("mend", 9), ("zoom", 1), ("seed", "x")]
)
def test_options_of_this_gateway_are_checked(live: LiveGateway, name: str, value: Any) -> None:
    reply = live.post(PATH, {"prompt": "x", "unimic": {name: value}})
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == f"unimic.{name}"


def test_what_has_no_effect_is_told(live: LiveGateway) -> None:
    extra = {"user": "u", "metadata": {}, "moderation": "low", "model": "dall-e-3"}
    extra |= {"style": "vivid", "partial_images": 2, "input_fidelity": "low"}
    told = " ".join(live.post(PATH, {"prompt": "x", **extra}).json()["unimic"]["warnings"])
    assert [name for name in extra if name not in told] == []


def test_null_is_not_given(live: LiveGateway) -> None:
    body = live.post(PATH, {"prompt": "x", "n": None, "size": None, "user": None}).json()
    assert body["unimic"]["warnings"] == []


def test_a_prompt_is_needed_and_must_fit(live: LiveGateway) -> None:
    for prompt, param in ((None, "prompt"), ("", "prompt"), ("x" * 50, "prompt")):
        reply = live.post(PATH, {"prompt": prompt})
        assert reply.status_code == 400
        assert reply.json()["error"]["param"] == param


def test_an_address_can_be_followed(live: LiveGateway) -> None:
    body = live.post(PATH, {"prompt": "x", "response_format": "url"}).json()
    address = body["data"][0]["url"]
    assert address.startswith(live.url)
    found = live.client.get(address)
    assert found.headers["content-type"] == "image/png"
    assert found.content.startswith(b"\x89PNG")
    assert live.client.get(f"/v1/images/img_{'0' * 32}/content").status_code == 404


def test_partial_pictures_come_before_the_finished_one(live: LiveGateway) -> None:
    live.cloud.reports = 7
    asked = {"prompt": "x", "stream": True, "partial_images": 3, "size": "128x128"}
    reply = live.post(PATH, asked)
    assert reply.headers["content-type"].startswith("text/event-stream")
    events = events_of(reply.text)
    kinds = [event["type"].removeprefix("image_generation.") for event in events]
    # Sixteen tokens are all there with the first preview, so that one is shown.
    assert kinds == ["partial_image", "completed"]
    assert events[0]["partial_image_index"] == 0
    assert events[0]["size"] == "128x128"
    assert events[-1]["usage"]["output_tokens"] == 16
    assert events[-1]["unimic"]["progress"] > 0
    assert picture_in({"data": [events[0]]}).size == (128, 128)


def test_a_stream_of_several_pictures_finishes_each(live: LiveGateway) -> None:
    reply = live.post(PATH, {"prompt": "x", "stream": True, "n": 2, "seed": 1})
    events = events_of(reply.text)
    assert [event["type"] for event in events] == ["image_generation.completed"] * 2
    assert [event["unimic"]["seeds"] for event in events] == [[1], [2]]


def test_rounds_lead_back(live: LiveGateway) -> None:
    first = live.post(PATH, {"prompt": "an owl"}).json()["unimic"]["round"]
    found = live.client.get("/v1/unimic/rounds").json()["data"]
    assert [(each["id"], each["prompt"], each["before"]) for each in found] == [
        (first, "an owl", None)
    ]
