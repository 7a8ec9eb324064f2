"""Eight bits: near the layer that they stand for, and each row for itself."""

import pytest
import torch
from torch import nn

from cloud_server.benchmarks.int8_linear import Int8Linear, in_int8, rounded


@pytest.fixture
def layer() -> nn.Linear:
    torch.manual_seed(5)
    return nn.Linear(96, 40)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_computes_nearly_what_the_layer_computes(layer: nn.Linear, dtype: torch.dtype) -> None:
    inputs = torch.randn(2, 7, 96)
    found = Int8Linear(layer)(inputs.to(dtype))
    assert found.dtype == dtype
    wanted = layer(inputs)
    assert (found.float() - wanted).std() < 0.02 * wanted.std()


def test_a_row_does_not_depend_on_the_rows_beside_it(layer: nn.Linear) -> None:
    inputs = torch.randn(9, 96)
    inputs[3] *= 1000
    eight = Int8Linear(layer)
    together = eight(inputs)
    alone = torch.cat([eight(row[None]) for row in inputs])
    assert torch.equal(together, alone)


def test_no_rows_and_rows_of_zeros(layer: nn.Linear) -> None:
    eight = Int8Linear(layer)
    assert eight(torch.zeros(2, 0, 96)).shape == (2, 0, 40)
    assert torch.equal(eight(torch.zeros(3, 96)), layer.bias.detach().expand(3, 40))


def test_levels_reach_both_ends() -> None:
    levels, scales = rounded(torch.tensor([[-2.0, 1.0, 2.0]]))
    assert levels.tolist() == [[-127, 64, 127]]
    assert scales.item() == pytest.approx(2 / 127)


def test_all_layers_of_a_network_are_replaced() -> None:
    network = in_int8(nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 2), nn.GELU())))
    assert sum(isinstance(module, Int8Linear) for module in network.modules()) == 2
    assert not any(isinstance(module, nn.Linear) for module in network.modules())
