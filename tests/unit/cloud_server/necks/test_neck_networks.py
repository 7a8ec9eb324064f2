"""The two necks: sizes of the paper, grids of encoders, and shapes that are refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from cloud_server.necks.networks import NeckSizes, build_neck
from cloud_server.training.benchmark.macs import kmacs_a_pixel, macs_of, parameters_of
from shared_protocol.errors import CheckpointError

PAPER = NeckSizes("vit", 1024, side=16, heads=16, bits=320)


def test_the_attention_neck_has_the_papers_parameters_and_operations() -> None:
    neck = build_neck(PAPER).eval()
    assert round(parameters_of([neck]) / 1e6, 2) == 13.19
    macs = macs_of(lambda: neck(torch.zeros(1, 320, 16, 16)))
    assert kmacs_a_pixel(macs, 256) == pytest.approx(52.795, rel=0.01)


@pytest.mark.parametrize("side", [16, 24])
@pytest.mark.parametrize("kind", ["conv", "vit"])
def test_a_neck_ends_on_the_encoders_grid(kind: str, side: int) -> None:
    neck = build_neck(NeckSizes(kind, 32, side=side, heads=2)).eval()
    middle = neck(torch.ones(3, 13, 16, 16))
    assert middle.shape == ((3, 32, side, side) if kind == "conv" else (3, 1 + side**2, 32))


def test_a_token_moves_only_what_is_near_it_in_the_convolutional_neck() -> None:
    neck = build_neck(NeckSizes("conv", 16)).eval()
    z = torch.ones(1, 13, 16, 16)
    changed = z.clone()
    changed[0, :, 0, 0] = -1
    difference = (neck(changed) - neck(z)).abs().amax(1)[0]
    assert difference[0, 0] > 0
    assert difference[8:, 8:].max() == 0


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"kind": "mlp"}, "kind 'mlp'"),
        ({"width": 0}, "width is 0"),
        ({"side": 1 << 20}, "side is 1048576"),
        ({"blocks": 2.5}, "blocks is 2.5"),
        ({"heads": 3}, "3 heads do not share"),
        ({"bits": True}, "bits is True"),
    ],
)
def test_shapes_that_no_neck_has_are_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(CheckpointError, match=told) as caught:
        NeckSizes(**{"kind": "vit", "width": 16, **changes})
    assert caught.value.remedy
