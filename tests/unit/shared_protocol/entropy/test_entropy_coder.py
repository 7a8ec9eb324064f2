import contextlib
import json
import threading

import numpy as np
import pytest
from entropy_streams import GOLDEN, SCENARIOS, TINY, draw_stream
from hypothesis import given, settings
from hypothesis import strategies as st

from shared_protocol.coding.image_codec import CodingContext, nothing_known
from shared_protocol.compute import Compute
from shared_protocol.entropy import exact_torch
from shared_protocol.entropy.coder import EntropyModels
from shared_protocol.entropy.native import find_kernel
from shared_protocol.entropy.weights import ExactWeights
from shared_protocol.errors import (
    BadMessageError,
    CheckpointError,
    InvalidInputError,
    TokenRangeError,
)
from shared_protocol.selfcheck.probes import probe
from shared_protocol.tasks import Scenario

SIZE_SHARE = 1.005
SIZE_BYTES = 1
"""A stream is within 0.5 % and one byte of its ideal length."""


@pytest.fixture(scope="module")
def shared(models: EntropyModels) -> EntropyModels:
    models.warm_up()
    return models


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), height=st.integers(1, 9), width=st.integers(1, 9))
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_any_stream_comes_back(
    shared: EntropyModels, scenario: Scenario, seed: int, height: int, width: int
) -> None:
    codes, context = draw_stream(seed, height, width)
    data = shared.encode(scenario, codes, context)
    back = shared.decode(scenario, data, context)
    assert back.dtype == np.int32
    assert np.array_equal(back, codes)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_eager_steps_decode_what_the_kernel_decodes(
    shared: EntropyModels, eager: EntropyModels, scenario: Scenario
) -> None:
    pairs = [draw_stream(seed) for seed in range(4)]
    codes, contexts = [c for c, _ in pairs], [x for _, x in pairs]
    streams = shared.encode_batch(scenario, codes, contexts)
    for models in (shared, eager):
        decoded = models.decode_batch(scenario, streams, contexts)
        assert all(np.array_equal(a, b) for a, b in zip(decoded, codes, strict=True))


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_batch_gives_the_bytes_of_its_members(shared: EntropyModels, scenario: Scenario) -> None:
    pairs = [draw_stream(seed, 3 + seed, 8 - seed) for seed in range(5)]
    together = shared.encode_batch(scenario, [c for c, _ in pairs], [x for _, x in pairs])
    assert together == [shared.encode(scenario, c, x) for c, x in pairs]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_streams_are_close_to_their_ideal_length(shared: EntropyModels, scenario: Scenario) -> None:
    for seed in range(6):
        codes, context = draw_stream(seed, 12, 12)
        ideal = shared.code_length(scenario, codes, context) / 8
        assert len(shared.encode(scenario, codes, context)) <= ideal * SIZE_SHARE + SIZE_BYTES


@pytest.mark.parametrize("compute", [Compute.AUTO, Compute.NUMPY, Compute.TORCH])
def test_golden_streams_keep_their_bytes(compute: Compute) -> None:
    shared = EntropyModels(dict.fromkeys(SCENARIOS, TINY), compute)
    for case in json.loads((GOLDEN / "golden.json").read_text())["streams"]:
        scenario = Scenario[case["scenario"].upper()]
        codes, context = probe(case["seed"], (case["side"], case["side"]), 8192, 4096)
        assert shared.encode(scenario, codes, context).hex() == case["hex"]
        assert np.array_equal(shared.decode(scenario, bytes.fromhex(case["hex"]), context), codes)


def test_a_gpu_computes_passes_and_the_compiled_decoder_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted = []

    class Here(exact_torch.TorchModel):
        def __init__(self, weights: ExactWeights, device: str) -> None:
            wanted.append(device)
            super().__init__(weights, "cpu")

    monkeypatch.setattr(exact_torch, "TorchModel", Here)
    models = EntropyModels(dict.fromkeys(SCENARIOS, TINY), Compute.CUDA)
    found = find_kernel()
    assert models.decoded_by.startswith("C (" if found.module else "cuda, as for C")
    for scenario in SCENARIOS:
        codes, context = draw_stream(5)
        data = models.encode(scenario, codes, context)
        assert data == EntropyModels({scenario: TINY}).encode(scenario, codes, context)
        assert np.array_equal(models.decode(scenario, data, context), codes)
        assert (models.engine(scenario).kernel is None) == (found.module is None)
    assert wanted == ["cuda"]


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=120), seed=st.integers(0, 20))
def test_garbage_gives_codes_or_a_typed_error(
    shared: EntropyModels, data: bytes, seed: int
) -> None:
    _, context = draw_stream(seed)
    try:
        codes = shared.decode(Scenario.TEXT_CONDITIONED, data, context)
    except BadMessageError:
        return
    assert codes.shape == (context.count,)
    assert codes.size == 0 or 0 <= codes.min() <= codes.max() < 8192


@settings(max_examples=10, deadline=None)
@given(data=st.binary(max_size=60))
def test_kernel_and_eager_agree_on_garbage(
    shared: EntropyModels, eager: EntropyModels, data: bytes
) -> None:
    def outcome(models: EntropyModels) -> object:
        try:
            return models.decode(Scenario.MASKED, data, context).tolist()
        except BadMessageError as error:
            return type(error)

    _, context = draw_stream(3, 4, 4)
    assert outcome(shared) == outcome(eager)


@pytest.mark.parametrize("cut", [1, 17])
def test_a_cut_stream_does_not_pass_silently(shared: EntropyModels, cut: int) -> None:
    codes, context = draw_stream(2, 8, 8)
    data = shared.encode(Scenario.GENERIC, codes, context)
    with contextlib.suppress(BadMessageError):
        assert not np.array_equal(shared.decode(Scenario.GENERIC, data[:-cut], context), codes)


def test_no_targets_make_an_empty_stream(shared: EntropyModels) -> None:
    context = CodingContext(
        np.zeros((3, 3), bool),
        np.ones((3, 3), bool),
        np.ones((3, 3), np.int32),
        np.zeros(2, np.int32),
    )
    none = np.zeros(0, np.int32)
    assert shared.encode(Scenario.ADAPTED, none, context) == b""
    assert shared.decode(Scenario.ADAPTED, b"", context).shape == (0,)
    with pytest.raises(BadMessageError):
        shared.decode(Scenario.ADAPTED, bytes(9), context)


@pytest.mark.parametrize("length", [0, 1, 62, 63, 64, 65])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_texts_of_every_length_up_to_the_limit_work(
    shared: EntropyModels, eager: EntropyModels, scenario: Scenario, length: int
) -> None:
    codes, context = draw_stream(7, 3, 4)
    text = (np.arange(length) * 31 % 4096).astype(np.int32)
    context = CodingContext(context.targets, context.known, context.known_codes, text)
    data = shared.encode(scenario, codes, context)
    for models in (shared, eager):
        assert np.array_equal(models.decode(scenario, data, context), codes)


def test_threads_decode_a_batch_as_one_does(shared: EntropyModels) -> None:
    pairs = [draw_stream(seed, 5, 5) for seed in range(6)]
    contexts = [context for _, context in pairs]
    streams = shared.encode_batch(Scenario.MASKED, [codes for codes, _ in pairs], contexts)
    decoded = shared.decode_batch(Scenario.MASKED, streams, contexts)
    assert all(np.array_equal(a, b) for a, (b, _) in zip(decoded, pairs, strict=True))
    with pytest.raises(BadMessageError):
        shared.decode_batch(Scenario.MASKED, [*streams[:-1], bytes(40)], contexts)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (16, 32), (34, 3), (32, 32)])
def test_unusual_canvases_work(shared: EntropyModels, shape: tuple[int, int]) -> None:
    context = nothing_known(*shape, text=np.arange(70, dtype=np.int32))
    codes = (np.arange(context.count) * 37 % 8192).astype(np.int32)
    data = shared.encode(Scenario.TEXT_CONDITIONED, codes, context)
    assert np.array_equal(shared.decode(Scenario.TEXT_CONDITIONED, data, context), codes)


def test_threads_share_one_model(shared: EntropyModels) -> None:
    pairs = [draw_stream(seed) for seed in range(8)]
    wanted = [shared.encode(Scenario.GENERIC, *pair) for pair in pairs]
    found: list[bytes] = [b""] * len(pairs)

    def work(index: int) -> None:
        codes, context = pairs[index]
        found[index] = shared.encode(Scenario.GENERIC, codes, context)
        assert np.array_equal(shared.decode(Scenario.GENERIC, found[index], context), codes)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(pairs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == wanted


def test_available_names_the_scenarios_with_weights() -> None:
    models = EntropyModels.load({Scenario.MASKED: TINY, Scenario.GENERIC: TINY})
    assert models.available() == (Scenario.GENERIC, Scenario.MASKED)
    with pytest.raises(InvalidInputError):
        models.engine(Scenario.ADAPTED)


def test_wrong_inputs_are_refused(shared: EntropyModels) -> None:
    codes, context = draw_stream(1)
    with pytest.raises(InvalidInputError):
        shared.encode(Scenario.GENERIC, codes[:-1], context)
    with pytest.raises(TokenRangeError):
        shared.encode(Scenario.GENERIC, np.full_like(codes, 8192), context)
    bad_text = CodingContext(context.targets, context.known, context.known_codes, np.array([4096]))
    with pytest.raises(TokenRangeError):
        shared.encode(Scenario.TEXT_CONDITIONED, codes, bad_text)


def test_missing_and_foreign_files_are_refused(tmp_path) -> None:
    with pytest.raises(CheckpointError):
        EntropyModels.load({Scenario.GENERIC: tmp_path / "none.safetensors"})
    (tmp_path / "x.safetensors").write_bytes(b"not weights")
    models = EntropyModels.load({Scenario.GENERIC: tmp_path / "x.safetensors"})
    with pytest.raises(CheckpointError):
        models.engine(Scenario.GENERIC)
