"""The benchmark of the entropy coder: its float baseline is right, its measurements measure."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from entropy_streams import TINY

from shared_protocol.coding.image_codec import nothing_known
from shared_protocol.entropy.checkpoint import load
from shared_protocol.entropy.config import EntropyConfig
from shared_protocol.entropy.model import EntropyModel
from shared_protocol.entropy.scenarios import layout
from shared_protocol.selfcheck import coder_bench as bench
from shared_protocol.selfcheck.float_steps import FloatSteps
from shared_protocol.tasks import Scenario

SMALL = EntropyConfig(width=32, layers=2, heads=2, hidden=64, code_width=8, low_width=32)
FLOAT_TOLERANCE = 1e-4
"""Steps and a parallel pass add in another order; that is why floats cannot code."""


@pytest.fixture
def network() -> EntropyModel:
    torch.manual_seed(0)
    model = EntropyModel(SMALL)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def test_float_steps_predict_what_the_parallel_network_predicts(network: EntropyModel) -> None:
    plan = layout(Scenario.GENERIC, nothing_known(3, 4), SMALL)
    codes = (np.arange(12) * 977 % 8192).astype(np.int32)
    batch = bench.whole_batch(plan, codes, SMALL)
    with torch.inference_mode():
        states = network.states(batch)
        high, _ = network.logits(states, torch.zeros((1, 12), dtype=torch.int64))
        chosen = high.argmax(-1)
        _, low = network.logits(states, chosen)
        steps = FloatSteps(network, 12)
        for index in range(12):
            found = steps.step(batch.slots[0, index], batch.places[0, index])
            for logits, probabilities in zip((high, low), found, strict=True):
                expected = logits[0, index].softmax(-1)
                assert torch.allclose(probabilities, expected, atol=FLOAT_TOLERANCE)


def test_random_weights_are_certified_and_code(tmp_path) -> None:
    bench.random_weights(SMALL, tmp_path / "w.safetensors")
    assert load(tmp_path / "w.safetensors").config == SMALL


def test_a_sleep_takes_wall_clock_but_no_processor_time() -> None:
    timing = bench.timed(lambda: time.sleep(0.02), 2)
    assert timing.wall >= 20.0
    assert timing.processor < 10.0


@pytest.mark.slow
def test_a_new_process_tells_its_times_and_memory() -> None:
    assert "MiB" in bench.process_table(TINY, 1)
