"""The report says what was measured, to machines and to people."""

from __future__ import annotations

import json

import numpy as np
import pytest
from edge_fakes import FakeBundle, FakeCloud

from edge_client.client import EdgeClient, Interaction
from edge_client.report import anatomy_report, interaction_report, interaction_table, message_table
from shared_protocol.message.codec import inspect
from shared_protocol.tokens import TokenMask

CLOUD = FakeCloud(FakeBundle())


@pytest.fixture(scope="module")
def inpainted() -> Interaction:
    pixels = np.full((64, 64, 3), 77, dtype=np.uint8)
    mask = TokenMask(np.arange(16).reshape(4, 4) < 4)
    return EdgeClient(CLOUD.bundle, CLOUD).inpaint(pixels, mask, "a ball")


def test_a_report_is_json_and_its_parts_add_up(inpainted: Interaction) -> None:
    report = json.loads(json.dumps(interaction_report(inpainted)))
    for way in ("uplink", "downlink"):
        for sizes in (report[way]["bytes"], report[way]["uniform"]["bytes"]):
            total = sizes.pop("total")
            assert total == sum(sizes.values())
    assert report["uplink"]["bytes"]["mask"] > 0
    assert report["uplink"]["symbols"] == {
        "text": 6,
        "mask": 16,
        "dropped": 0,
        "image": 12,
        "labels": 0,
    }
    assert report["downlink"]["symbols"]["image"] == 4


def test_bpp_is_bits_over_the_pixels_of_the_canvas(inpainted: Interaction) -> None:
    uplink = interaction_report(inpainted)["uplink"]
    assert uplink["bpp"]["total"] == pytest.approx(uplink["bytes"]["total"] * 8 / 4096, abs=1e-6)
    assert uplink["uniform"]["bytes"]["image"] == (12 * 13 + 7) // 8


def test_the_table_names_every_part_once_a_way_and_every_stage(inpainted: Interaction) -> None:
    text = interaction_table(interaction_report(inpainted))
    assert text.count("image tokens") == 2
    for word in ("up", "down", "text", "mask", "container", "all", "uniform", "saved", "bpp"):
        assert word in text
    for stage in ("tokenise", "encode", "network", "server queue", "model", "decode", "detokenise"):
        assert stage in text
    assert "bpp over 64x64 pixels" in text
    assert max(map(len, text.splitlines())) <= 80


def test_lines_of_a_table_do_not_end_in_blanks(inpainted: Interaction) -> None:
    lines = interaction_table(interaction_report(inpainted)).splitlines()
    assert all(line == line.rstrip() for line in lines)


def test_an_inspected_message_shows_its_parts_and_coders() -> None:
    EdgeClient(CLOUD.bundle, CLOUD).t2i("a fox")
    report = anatomy_report(inspect(CLOUD.messages[-1]))
    assert report["task"] == "t2i"
    assert report["bytes"]["total"] == len(CLOUD.messages[-1])
    text = message_table(report)
    assert text.startswith("t2i uplink, format version 2, bundle 0000…")
    assert report["text_coder"] in text
    assert "bpp" not in text
