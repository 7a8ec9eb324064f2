from collections.abc import Callable

import numpy as np
import pytest
import torch
from entropy_streams import SCENARIOS, TINY, draw_plans, draw_stream

from shared_protocol.compute import Compute
from shared_protocol.entropy import exact, exact_torch
from shared_protocol.entropy.checkpoint import load
from shared_protocol.entropy.coder import EntropyModels, write_stream
from shared_protocol.entropy.engine import Engine
from shared_protocol.entropy.scenarios import layout
from shared_protocol.errors import ConfigError
from shared_protocol.selfcheck.battery import battery, elsewhere, elsewhere_ways
from shared_protocol.tasks import Scenario


def same(first: list, second: list) -> bool:
    pairs = [pair for rows in zip(first, second, strict=True) for pair in zip(*rows, strict=True)]
    return all(np.array_equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_frequencies_are_positive_integers_with_bounded_sums(
    engine: Engine, scenario: Scenario
) -> None:
    for high, low in engine.tables(*draw_plans(engine, scenario, range(4))):
        for table in (high, low):
            assert table.dtype == np.int64
            assert table.size == 0 or (table.min() >= 1 and table.sum(1).max() <= 1 << 22)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_parallel_equals_stepwise_and_padding_changes_nothing(
    engine: Engine, scenario: Scenario
) -> None:
    plans, codes = draw_plans(engine, scenario, range(6))
    reference = engine.tables(plans, codes)
    assert same(reference, engine.stepwise_tables(plans, codes))
    alone = [engine.tables([p], [c])[0] for p, c in zip(plans, codes, strict=True) if p.count]
    assert same([r for r, p in zip(reference, plans, strict=True) if p.count], alone)


@pytest.mark.parametrize("gemm", exact_torch.GEMMS)
def test_torch_gives_the_same_tables_with_every_carrier_of_integers(
    engine: Engine, gemm: exact_torch.Gemm
) -> None:
    other = Engine(exact_torch.TorchModel(load(TINY), gemm=gemm))
    plans, codes = draw_plans(engine, Scenario.TEXT_CONDITIONED, range(4))
    assert same(engine.tables(plans, codes), other.tables(plans, codes))
    assert same(engine.tables(plans, codes), other.stepwise_tables(plans, codes))


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_compiled_decoder_meets_the_same_tables(engine: Engine, scenario: Scenario) -> None:
    assert engine.kernel is not None
    plans, codes = draw_plans(engine, scenario, range(4))
    streams = [write_stream(intervals) for intervals in engine.intervals(plans, codes)]
    reference = engine.tables(plans, codes)
    assert same(reference, engine.kernel_tables(plans, streams))
    alone = [engine.kernel_tables([p], [s])[0] for p, s in zip(plans, streams, strict=True)]
    assert same(reference, alone)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_tables_do_not_depend_on_how_many_rows_attention_takes_at_once(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, scenario: Scenario
) -> None:
    pairs = [draw_stream(1, 14, 15), draw_stream(2, 5, 6)]
    plans = [layout(scenario, context, engine.config) for _, context in pairs]
    codes = [codes for codes, _ in pairs]
    reference = engine.tables(plans, codes)
    assert plans[0].count + len(plans[0].prefix_kinds) > 2 * exact.QUERIES
    for rows in (1, 50, 4096):
        monkeypatch.setattr(exact, "QUERIES", rows)
        assert same(reference, engine.tables(plans, codes))


def test_two_threads_give_the_same_tables_in_torch(engine: Engine) -> None:
    plans, codes = draw_plans(engine, Scenario.MASKED, range(4))
    torch.set_num_threads(2)
    other = Engine(exact_torch.TorchModel(load(TINY)))
    assert same(engine.tables(plans, codes), other.tables(plans, codes))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_tables(engine: Engine) -> None:
    gpu = Engine(exact_torch.TorchModel(load(TINY), "cuda"))
    plans, codes = draw_plans(engine, Scenario.TEXT_CONDITIONED, range(6))
    assert same(engine.tables(plans, codes), gpu.tables(plans, codes))
    assert same(engine.tables(plans, codes), gpu.stepwise_tables(plans, codes))


@pytest.mark.slow
@pytest.mark.parametrize("way", elsewhere_ways())
def test_other_processors_and_threads_give_the_same_tables(models: EntropyModels, way: str) -> None:
    here = elsewhere(models, Scenario.TEXT_CONDITIONED, 10, {})
    assert elsewhere(models, Scenario.TEXT_CONDITIONED, 10, *elsewhere_ways()[way]) == here


@pytest.mark.parametrize("changed", [0, 5, 20])
def test_a_code_changes_no_table_before_it(engine: Engine, changed: int) -> None:
    codes, context = draw_stream(4, 6, 6)
    assert len(codes) > changed
    plan = layout(Scenario.TEXT_CONDITIONED, context, engine.config)
    other = codes.copy()
    other[changed] ^= 0x1FFF
    (high, low), (high2, low2) = engine.tables([plan, plan], [codes, other])
    assert np.array_equal(high[: changed + 1], high2[: changed + 1])
    assert np.array_equal(low[:changed], low2[:changed])
    assert not np.array_equal(high[changed + 1 :], high2[changed + 1 :])


def float_softmax(x: np.ndarray) -> np.ndarray:
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def float_attention(scores: np.ndarray, allowed: np.ndarray, table: np.ndarray) -> np.ndarray:
    return (float_softmax(np.where(allowed, scores / 64, -1e9)) * 256).astype(np.float32)


def float_frequencies(logits: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Sums depend on their order, and here they decide a frequency."""
    noise = 1e-6 * logits.shape[0]  # depends on the batch, like the tiles of a matrix product
    return (float_softmax(logits / 128 + noise) * (1 << 21)).astype(np.int64) + 1


@pytest.mark.parametrize(
    ("name", "planted"),
    [("attention_weights", float_attention), ("frequencies", float_frequencies)],
)
def test_a_planted_float_operation_is_found(
    models: EntropyModels, monkeypatch: pytest.MonkeyPatch, name: str, planted: Callable
) -> None:
    before = battery(models, Scenario.MASKED, sequences=6)
    assert len(before) >= 13
    assert all(check.ok for check in before)
    monkeypatch.setattr(exact, name, planted)
    assert not all(check.ok for check in battery(models, Scenario.MASKED, sequences=6))


def test_autocast_is_refused_where_torch_computes() -> None:
    models = EntropyModels({Scenario.GENERIC: TINY}, Compute.TORCH)
    codes, context = draw_stream(1)
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(ConfigError):
        models.encode(Scenario.GENERIC, codes, context)


def test_reduced_precision_is_off_inside_and_restored_after() -> None:
    torch.set_float32_matmul_precision("medium")
    try:
        with exact_torch.exact_arithmetic():
            with exact_torch.exact_arithmetic():
                assert torch.get_float32_matmul_precision() == "highest"
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
