import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from entropy_streams import TINY, draw_stream
from safetensors import safe_open
from safetensors.numpy import save_file

from shared_protocol.entropy import checkpoint
from shared_protocol.entropy.coder import EntropyModels
from shared_protocol.entropy.config import KIND_TARGET, EntropyConfig
from shared_protocol.entropy.engine import Engine
from shared_protocol.entropy.model import Batch, EntropyModel
from shared_protocol.entropy.scenarios import layout, target_slots
from shared_protocol.entropy.tables import check_exp_table, exp_table, gelu_table
from shared_protocol.entropy.weights import ExactWeights, certificates
from shared_protocol.errors import CheckpointError
from shared_protocol.tasks import Scenario

SMALL = EntropyConfig(
    width=32, layers=2, heads=2, hidden=64, code_width=8, text_size=64, text_width=8, low_width=32
)
EXACT_SHARE = 0.01
"""Integers cost this share of bits at most on an untrained network with wide random logits."""


def batch_of(scenario: Scenario, seed: int, config: EntropyConfig) -> tuple[Batch, tuple]:
    codes, context = draw_stream(seed, 8, 8)
    plan = layout(scenario, context, config)
    prefix = len(plan.prefix_kinds)
    slots = np.concatenate([plan.prefix_slots, target_slots(plan, codes, config)])
    places = np.concatenate([plan.prefix_places, plan.target_places])
    kinds = np.concatenate([plan.prefix_kinds, np.full(plan.count, KIND_TARGET + scenario - 1)])
    whole = np.concatenate([np.zeros(prefix, np.int32), codes])
    tensors = [torch.from_numpy(a.astype(np.int64))[None] for a in (slots, places, kinds)]
    ends = torch.tensor([prefix]), torch.tensor([len(whole)])
    text = torch.from_numpy(plan.text.astype(np.int64))[None]
    valid = torch.ones_like(text, dtype=torch.bool)
    batch = Batch(text, valid, *tensors, *ends, torch.from_numpy(whole.astype(np.int64))[None])
    return batch, (plan, codes)


@pytest.fixture(scope="module")
def network() -> EntropyModel:
    torch.manual_seed(0)
    model = EntropyModel(replace(SMALL, text_size=4096))
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
    return model


def test_the_integer_form_costs_what_the_float_form_costs(network: EntropyModel) -> None:
    cases = [batch_of(Scenario.TEXT_CONDITIONED, seed, network.config) for seed in range(1, 7)]
    weights = checkpoint.quantise(network, [batch for batch, _ in cases])
    engine = Engine.of(weights, compiled=False)
    with torch.no_grad():
        floats = sum(float(network(batch).sum()) for batch, _ in cases) / math.log(2)
    found = engine.intervals([plan for _, (plan, _) in cases], [codes for _, (_, codes) in cases])
    exact = sum(float(np.log2(i[..., 2] / i[..., 1]).sum()) for i in found)
    assert exact == pytest.approx(floats, rel=EXACT_SHARE)


def test_saved_weights_come_back(network: EntropyModel, tmp_path) -> None:
    batch, _ = batch_of(Scenario.MASKED, 1, network.config)
    weights = checkpoint.quantise(network, [batch])
    checkpoint.save(weights, tmp_path / "w.safetensors")
    back = checkpoint.load(tmp_path / "w.safetensors")
    assert back.config == weights.config
    assert all(np.array_equal(back[name], array) for name, array in weights.arrays.items())


def changed(name: str, array: np.ndarray) -> dict[str, np.ndarray]:
    return {**checkpoint.load(TINY).arrays, name: array}


def test_every_shipped_bound_holds() -> None:
    assert all(bound.largest < bound.limit for bound in certificates(checkpoint.load(TINY)))


@pytest.mark.parametrize("name", ["high.bias", "low_in.bias", "given", "up.bias"])
def test_a_bias_that_could_overflow_is_refused(name: str) -> None:
    weights = checkpoint.load(TINY)
    array = weights[name].copy()
    array.flat[0] = 1 << 24
    with pytest.raises(CheckpointError):
        ExactWeights(weights.config, changed(name, array))


def test_a_file_that_breaks_a_bound_is_refused_when_it_is_loaded(tmp_path) -> None:
    weights = checkpoint.load(TINY)
    bias = weights["high.bias"].copy()
    bias[0] = 1 << 24
    with safe_open(TINY, framework="numpy") as file:
        metadata = file.metadata()
    save_file(changed("high.bias", bias), tmp_path / "w.safetensors", metadata)
    with pytest.raises(CheckpointError, match="high sum"):
        checkpoint.load(tmp_path / "w.safetensors")


def test_a_network_that_would_break_a_bound_is_not_exported(network: EntropyModel) -> None:
    broken = EntropyModel(network.config)
    broken.load_state_dict(network.state_dict())
    torch.nn.init.constant_(broken.high.bias, 1e6)
    batch, _ = batch_of(Scenario.GENERIC, 1, network.config)
    with pytest.raises(CheckpointError, match="high"):
        checkpoint.quantise(broken, [batch])


def test_a_weight_of_minus_128_is_refused() -> None:
    weights = checkpoint.load(TINY)
    array = weights["qkv.weight"].copy()
    array.flat[0] = -128
    with pytest.raises(CheckpointError):
        ExactWeights(weights.config, changed("qkv.weight", array))


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_a_scale_that_is_no_sane_number_is_refused(value: float) -> None:
    weights = checkpoint.load(TINY)
    array = weights["out.scale"].copy()
    array.flat[0] = value
    with pytest.raises(CheckpointError):
        ExactWeights(weights.config, changed("out.scale", array))


def test_a_matrix_wide_enough_to_overflow_is_refused() -> None:
    config = replace(checkpoint.load(TINY).config, hidden=2048)
    arrays = dict(checkpoint.load(TINY).arrays)
    arrays["up.weight"] = np.ones((2, 2048, 32), np.int8)
    arrays["up.scale"], arrays["up.bias"] = (
        np.ones((2, 2048), np.float32),
        np.ones((2, 2048), np.int32),
    )
    arrays["down.weight"] = np.full((2, 32, 2048), 127, np.int8)
    with pytest.raises(CheckpointError, match="down sum"):
        ExactWeights(config, arrays)


def test_missing_and_misshapen_arrays_are_refused() -> None:
    weights = checkpoint.load(TINY)
    fewer = {k: v for k, v in weights.arrays.items() if k != "gelu"}
    with pytest.raises(CheckpointError):
        ExactWeights(weights.config, fewer)
    with pytest.raises(CheckpointError):
        ExactWeights(weights.config, changed("row", weights["row"][:-1]))


def test_exp_tables_fall_to_one_zero() -> None:
    table = exp_table(4000, 64)
    assert check_exp_table(table, 4000)
    assert not check_exp_table(table[:-1], 4000)
    assert not check_exp_table(table[::-1], 4000)


def test_gelu_tables_are_odd_in_the_tails() -> None:
    table = gelu_table(0.01, 0.1)
    assert table[1023] == 0
    assert table[-1] == round(10.23 / 0.1)
    assert abs(int(table[0])) == 0


def test_weights_are_read_when_first_used() -> None:
    models = EntropyModels.load({Scenario.GENERIC: TINY})
    assert not models._engines
    assert models.engine(Scenario.GENERIC) is models.engine(Scenario.GENERIC)
