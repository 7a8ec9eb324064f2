"""`/v1/unimic/desk`: rounds, turns, files and failures, as the page asks for them."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from edge_fakes import ANSWER, FakeBundle
from gateway_fakes import PAINTED, LiveGateway, live_gateway, png, scene
from PIL import Image

from edge_client.gateway.desk import desk as desk_module
from shared_protocol.errors import OverloadedError
from shared_protocol.message.picture_file import read_picture

ROOT = "/v1/unimic/desk"
FIRST_TWO = base64.b64encode(bytes([0b11000000, 0])).decode()


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> Iterator[LiveGateway]:
    with live_gateway(monkeypatch) as gateway:
        yield gateway


def opened(live: LiveGateway, data: bytes | None = None, name: str = "a.png") -> dict[str, Any]:
    data = png(scene()) if data is None else data
    reply = live.client.post(f"{ROOT}/pictures", params={"name": name}, content=data)
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


def turn(live: LiveGateway, **wish: Any) -> httpx.Response:
    return live.client.post(f"{ROOT}/turns", json=wish)


def events(reply: httpx.Response) -> list[tuple[str, dict[str, Any]]]:
    assert reply.status_code == 200, reply.text
    pieces = [piece.split("\n") for piece in reply.text.strip().split("\n\n")]
    return [(head.removeprefix("event: "), json.loads(data[6:])) for head, data in pieces]


def taken(reply: httpx.Response) -> dict[str, Any]:
    kind, data = events(reply)[-1]
    assert kind == "turn"
    return data


def codes(live: LiveGateway, name: str) -> np.ndarray[Any, Any]:
    data = live.client.get(f"{ROOT}/rounds/{name}/tokens.umic").content
    return np.asarray(read_picture(data, FakeBundle()).image.codes)


def test_an_opened_picture_is_a_round_of_its_own_size(live: LiveGateway) -> None:
    made = opened(live, png(scene((640, 360))), "dog.png")
    assert (made["task"], made["text"], made["size"]) == ("open", "dog.png", [640, 360])
    state = live.client.get(ROOT).json()
    assert [each["name"] for each in state["rounds"]] == [made["name"]]
    assert state["turns"] == []
    assert live.cloud.asked == [], "nothing leaves the device before a turn"
    assert set(made["sizes"]) == {"jpeg", "webp", "avif"}


def test_a_repainted_round_differs_in_the_marked_tokens_only(live: LiveGateway) -> None:
    before = opened(live)
    done = taken(turn(live, task="inpaint", round=before["name"], cells=FIRST_TWO, text="an owl"))
    after = done["round"]
    assert after["before"] == before["name"]
    one, two = codes(live, before["name"]), codes(live, after["name"])
    assert np.argwhere(one != two).tolist() == [[0, 0], [0, 1]]
    assert (two[0, :2] == PAINTED).all()


def test_two_turns_from_one_round_are_branches(live: LiveGateway) -> None:
    before = opened(live)["name"]
    names = [
        taken(turn(live, task="inpaint", round=before, cells=FIRST_TWO, text=text))["round"]
        for text in ("an owl", "a cat")
    ]
    assert [each["before"] for each in names] == [before, before]
    assert len({each["name"] for each in names}) == 2


def test_a_second_question_sends_words_only_over_the_link_that_is_open(live: LiveGateway) -> None:
    name = opened(live)["name"]
    asked = [taken(turn(live, task="vqa", round=name, text=f"what {n}?")) for n in range(3)]
    assert [each["turn"]["answer"] for each in asked] == [ANSWER] * 3
    costs = [each["turn"]["cost"] for each in asked]
    assert costs[0]["tokens_sent"] == 16
    assert [cost["tokens_sent"] for cost in costs[1:]] == [0, 0]
    assert [sum(cost["opening"]) > 0 for cost in costs] == [True, False, False]


def test_a_change_behind_a_change_opens_no_other_link_and_sends_no_picture(
    live: LiveGateway,
) -> None:
    name = opened(live)["name"]
    wish = {"task": "inpaint", "cells": FIRST_TWO, "text": "an owl", "partials": 3}
    first = taken(turn(live, round=name, **wish))
    second = taken(turn(live, round=first["round"]["name"], **wish))
    cost = second["turn"]["cost"]
    assert (sum(cost["opening"]), cost["tokens_sent"]) == (0, 0)
    assert len(live.cloud.hellos) == 1


def test_the_parts_of_each_way_add_up_to_its_payload(live: LiveGateway) -> None:
    name = opened(live)["name"]
    done = taken(turn(live, task="inpaint", round=name, cells=FIRST_TWO, text="an owl"))
    for way in ("up", "down"):
        cost = done["turn"]["cost"][way]
        assert sum(cost["parts"].values()) == cost["payload"] <= cost["all"]


def test_each_picture_is_counted_once_in_pixel_formats(live: LiveGateway) -> None:
    before = opened(live)
    first = taken(turn(live, task="vqa", round=before["name"], text="what?"))
    second = taken(turn(live, task="vqa", round=before["name"], text="what?"))
    third = taken(turn(live, task="inpaint", round=before["name"], cells=FIRST_TWO, text=""))
    jpeg = before["sizes"]["jpeg"]
    assert first["turn"]["pictures"]["jpeg"] == [jpeg, 0]
    assert second["turn"]["pictures"] == {}
    assert third["turn"]["pictures"]["jpeg"] == [0, third["round"]["sizes"]["jpeg"]]


def test_steps_and_partial_pictures_come_before_the_round(live: LiveGateway) -> None:
    live.cloud.reports = 3
    found = events(turn(live, task="t2i", text="a fox", partials=3))
    kinds = [kind for kind, _ in found]
    assert kinds[-1] == "turn"
    assert kinds.count("step") == 3
    shown = [data for kind, data in found if kind == "partial"]
    assert shown
    for each in shown:
        image = Image.open(io.BytesIO(base64.b64decode(each["b64"])))
        assert image.size == (64, 64)
        assert each["at"] == [0, 0, 64, 64]


def test_an_extended_round_is_larger_by_whole_tokens(live: LiveGateway) -> None:
    name = opened(live)["name"]
    sides = {"left": 1, "up": 2}
    made = taken(turn(live, task="outpaint", round=name, sides=sides, text="", partials=1))["round"]
    assert made["size"] == [80, 96]
    assert codes(live, made["name"]).shape == (6, 5)


def test_a_view_is_no_larger_than_asked_and_the_picture_has_its_own_size(live: LiveGateway) -> None:
    name = opened(live, png(scene((1000, 500))))["name"]
    for side, width in ((160, 160), (700, 768), (4000, 1000)):
        reply = live.client.get(f"{ROOT}/rounds/{name}/view", params={"side": side})
        assert Image.open(io.BytesIO(reply.content)).size == (width, width // 2)
        assert reply.headers["content-type"] in ("image/png", "image/jpeg")
    data = live.client.get(f"{ROOT}/rounds/{name}/picture.png").content
    assert Image.open(io.BytesIO(data)).size == (1000, 500)
    again = opened(live, data)
    assert np.array_equal(codes(live, again["name"]), codes(live, name)), "its tokens are kept"


def test_a_mask_file_gives_cells(live: LiveGateway) -> None:
    name = opened(live)["name"]
    mask = Image.new("L", (128, 128), 0)
    mask.paste(255, (0, 0, 64, 32))
    reply = live.client.post(f"{ROOT}/rounds/{name}/mask?name=../m.png", content=png(mask))
    assert base64.b64decode(reply.json()["cells"]) == bytes([0b11000000, 0])


REFUSED: dict[str, tuple[dict[str, Any], str, int]] = {
    "no task": ({"text": "x"}, "task", 400),
    "another task": ({"task": "draw", "text": "x"}, "task", 400),
    "no round": ({"task": "vqa", "text": "x"}, "round", 400),
    "a round that is gone": ({"task": "vqa", "text": "x", "round": "round_0"}, "round", 404),
    "no words": ({"task": "t2i", "text": ""}, "text", 400),
    "too many words": ({"task": "t2i", "text": "owl " * 99}, "text", 400),
    "too many steps": ({"task": "t2i", "text": "x", "steps": 1000}, "steps", 400),
    "a field of no turn": ({"task": "t2i", "text": "x", "size": 3}, "size", 400),
    "a side of none": ({"task": "t2i", "text": "x", "sides": {"in": 1}}, "sides.in", 400),
    "cells that are no base64": ({"task": "t2i", "text": "x", "cells": "?"}, "cells", 400),
}


@pytest.mark.parametrize(("wish", "param", "status"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_done_is_refused_by_the_name_of_its_field(
    live: LiveGateway, wish: dict[str, Any], param: str, status: int
) -> None:
    reply = turn(live, **wish)
    assert reply.status_code == status
    assert set(reply.json()["error"]) == {"message", "type", "param", "code"}
    assert reply.json()["error"]["param"] == param
    assert live.cloud.asked == []


@pytest.mark.parametrize("cells", ["", base64.b64encode(bytes(2)).decode(), "AAAA"])
def test_cells_of_another_picture_or_none_are_refused(live: LiveGateway, cells: str) -> None:
    name = opened(live)["name"]
    reply = turn(live, task="inpaint", round=name, cells=cells, text="x")
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "cells")


@pytest.mark.parametrize("data", [b"", b"no picture", png(scene())[:60]])
def test_what_is_no_picture_is_refused(live: LiveGateway, data: bytes) -> None:
    reply = live.client.post(f"{ROOT}/pictures", content=data)
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == "picture"


def test_a_turn_that_fails_changes_nothing(live: LiveGateway) -> None:
    name = opened(live)["name"]
    live.cloud.errors.extend([OverloadedError("full", "try later")] * 20)
    reply = turn(live, task="vqa", round=name, text="what?")
    assert reply.status_code == 503
    assert reply.json()["error"]["code"] == "cloud_busy"
    state = live.client.get(ROOT).json()
    assert (len(state["rounds"]), state["turns"]) == (1, [])


def test_of_too_many_rounds_the_oldest_go_and_their_names_are_refused(
    live: LiveGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk_module, "MOST_ROUNDS", 2)
    names = [opened(live)["name"] for _ in range(3)]
    assert [each["name"] for each in live.client.get(ROOT).json()["rounds"]] == names[1:]
    reply = live.client.get(f"{ROOT}/rounds/{names[0]}/view")
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "not_found")


def test_photos_that_are_too_large_together_are_let_go_of(
    live: LiveGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk_module, "MOST_PIXELS", 2 * 64 * 64)
    names = [opened(live, png(scene().rotate(90 * n)))["name"] for n in range(3)]
    assert [each["name"] for each in live.client.get(ROOT).json()["rounds"]] == names[1:]


def test_to_clear_forgets_rounds_and_turns(live: LiveGateway) -> None:
    taken(turn(live, task="t2i", text="a fox"))
    assert live.client.delete(ROOT).status_code == 200
    state = live.client.get(ROOT).json()
    assert (state["rounds"], state["turns"]) == ([], [])


def test_a_foreign_page_may_not_use_it(live: LiveGateway) -> None:
    headers = {"origin": "https://evil.example"}
    for reply in (
        live.client.post(f"{ROOT}/pictures", content=png(scene()), headers=headers),
        live.client.delete(ROOT, headers=headers),
    ):
        assert (reply.status_code, reply.json()["error"]["code"]) == (403, "foreign_origin")
