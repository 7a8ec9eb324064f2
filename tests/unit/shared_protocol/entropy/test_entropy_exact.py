from collections.abc import Callable

import numpy as np
import pytest
import torch
from entropy_streams import SCENARIOS, TINY, draw_plans, draw_stream

from shared_protocol.entropy import exact
from shared_protocol.entropy.checkpoint import load
from shared_protocol.entropy.coder import EntropyModels, write_stream
from shared_protocol.entropy.engine import Engine
from shared_protocol.entropy.scenarios import layout
from shared_protocol.errors import ConfigError
from shared_protocol.selfcheck.battery import PROCESSORS, battery, elsewhere
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


@pytest.mark.parametrize("gemm", ["float64", "int64", "int8"])
def test_every_carrier_of_integers_gives_the_same_tables(engine: Engine, gemm: exact.Gemm) -> None:
    other = Engine(load(TINY), gemm=gemm, use_kernel=False)
    plans, codes = draw_plans(engine, Scenario.TEXT_CONDITIONED, range(4))
    assert same(engine.tables(plans, codes), other.tables(plans, codes))
    assert same(engine.tables(plans, codes), other.stepwise_tables(plans, codes))


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_compiled_decoder_meets_the_same_tables(engine: Engine, scenario: Scenario) -> None:
    assert engine.kernel is not None
    plans, codes = draw_plans(engine, scenario, range(4))
    streams = [write_stream(intervals) for intervals in engine.intervals(plans, codes)]
    found = [engine.kernel_tables(p, s) for p, s in zip(plans, streams, strict=True)]
    assert same(engine.tables(plans, codes), found)


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


def test_two_threads_give_the_same_tables(engine: Engine) -> None:
    plans, codes = draw_plans(engine, Scenario.MASKED, range(4))
    reference = engine.tables(plans, codes)
    torch.set_num_threads(2)
    assert same(reference, engine.tables(plans, codes))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_tables(engine: Engine) -> None:
    gpu = Engine(load(TINY), device="cuda", use_kernel=False)
    plans, codes = draw_plans(engine, Scenario.TEXT_CONDITIONED, range(6))
    assert same(engine.tables(plans, codes), gpu.tables(plans, codes))
    assert same(engine.tables(plans, codes), gpu.stepwise_tables(plans, codes))


@pytest.mark.slow
@pytest.mark.parametrize("processor", PROCESSORS)
def test_kernels_for_older_processors_give_the_same_tables(
    models: EntropyModels, processor: str
) -> None:
    here = elsewhere(models, Scenario.TEXT_CONDITIONED, 10, {})
    assert elsewhere(models, Scenario.TEXT_CONDITIONED, 10, PROCESSORS[processor]) == here


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


def float_attention(
    scores: torch.Tensor, allowed: torch.Tensor, table: torch.Tensor
) -> torch.Tensor:
    return torch.softmax((scores / 64).masked_fill(~allowed, -1e9), -1) * 256


def float_frequencies(logits: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """Sums depend on their order, and here they decide a frequency."""
    noise = logits.new_tensor(float(logits.shape[0]))  # depends on the batch, like a GEMM's tiling
    shares = torch.softmax(logits / 128 + noise * 1e-6, -1)
    return (shares * (1 << 21)).to(torch.int64) + 1


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


def test_autocast_is_refused(models: EntropyModels) -> None:
    codes, context = draw_stream(1)
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(ConfigError):
        models.encode(Scenario.GENERIC, codes, context)


def test_reduced_precision_is_off_inside_and_restored_after() -> None:
    torch.set_float32_matmul_precision("medium")
    try:
        with exact.exact_arithmetic():
            with exact.exact_arithmetic():
                assert torch.get_float32_matmul_precision() == "highest"
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
