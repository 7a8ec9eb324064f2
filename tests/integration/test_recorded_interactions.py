"""Eighteen recorded interactions, made again: the same bytes up, and the same answers from them.

The answers are those of a server that computed with torch before anything was computed with numpy
or C; requests and replies were coded again, by torch, when the bundle's entropy models changed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_client.client import EdgeClient, Interaction
from edge_client.pictures.images import load_picture
from edge_client.rate_control import Budget, Order
from edge_client.transport.base import Reply
from shared_protocol.bundles.find import load_bundle
from shared_protocol.compute import Compute
from shared_protocol.message.codec import encode_response
from shared_protocol.messages import OnStep, Options
from shared_protocol.tasks import Extension, Task
from shared_protocol.tokenizers.image import Pixels
from shared_protocol.tokens import TokenMask

ROOT = Path(__file__).parents[2]
RECORDED = json.loads((ROOT / "tests/golden/entropy/interactions.json").read_text())
SAMPLES = sorted((ROOT / "edge_client" / "samples").glob("*.webp"))
COMPUTE = [
    Compute.AUTO,
    pytest.param(Compute.NUMPY, marks=pytest.mark.slow),
    pytest.param(Compute.TORCH, marks=pytest.mark.slow),
]


class Replay:
    """A server that has only one answer."""

    def __init__(self, reply: bytes) -> None:
        self.reply, self.message = reply, b""

    def exchange(
        self, task: Task, message: bytes, key: str, on_step: OnStep | None = None
    ) -> Reply:
        self.message = message
        return Reply(self.reply)

    def info(self) -> dict[str, Any]:
        return {}


def again(case: dict[str, Any], client: EdgeClient) -> Interaction:
    options = Options(seed=case["seed"], steps=case.get("steps"))
    text = case["text"]
    if case["task"] == "t2i":
        return client.t2i(text, options)
    pixels = sample(case["picture"])
    if case["task"] == "vqa":
        budget = None
        if "keep_ratio" in case:
            budget = Budget(case["keep_ratio"], None, Order(case["order"]))
        return client.vqa(pixels, text, options, budget)
    if case["task"] == "outpaint":
        extension = Extension(left=case["left"], right=case["right"])
        return client.outpaint(pixels, extension, text, options)
    top, left, bottom, right = case["mask"]
    flags = np.zeros((16, 16), dtype=bool)
    flags[top:bottom, left:right] = True
    return client.inpaint(pixels, TokenMask(flags), text, options)


def sample(number: int) -> Pixels:
    return load_picture(SAMPLES[number], 256, 256).pixels


@pytest.mark.parametrize("compute", COMPUTE, ids=["auto", "numpy", "torch"])
@pytest.mark.parametrize("case", RECORDED, ids=lambda case: f"{case['task']}-{case['seed']}")
def test_an_interaction_is_the_recorded_one(case: dict[str, Any], compute: Compute) -> None:
    bundle = load_bundle(compute=compute)
    bundle.reads_plain_text = False  # text travelled as it was typed when they were recorded
    replay = Replay(bytes.fromhex(case["reply"]))
    done = again(case, EdgeClient(bundle, replay))
    assert replay.message.hex() == case["request"]
    assert done.answer == case.get("answer")
    assert not done.warnings
    reply = encode_response(done.response, done.request, bundle)
    assert reply.data.hex() == case["reply"]


def test_there_are_eighteen_of_all_kinds() -> None:
    tasks = [case["task"] for case in RECORDED]
    assert {task: tasks.count(task) for task in tasks} == {
        "vqa": 8, "inpaint": 7, "t2i": 2, "outpaint": 1,
    }  # fmt: skip
