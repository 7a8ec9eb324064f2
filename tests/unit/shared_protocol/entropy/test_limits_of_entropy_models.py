"""Entropy models whose sizes or files no coder takes, and streams without a code."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from entropy_streams import TINY
from hostile_bundles import safe_file
from safetensors.numpy import save_file

from shared_protocol.coding.image_codec import CodingContext
from shared_protocol.compute import Compute
from shared_protocol.entropy import checkpoint, engine, exact_torch
from shared_protocol.entropy.coder import EntropyModels
from shared_protocol.entropy.config import EntropyConfig
from shared_protocol.entropy.engine import Engine
from shared_protocol.entropy.scenarios import layout
from shared_protocol.entropy.tables import check_exp_table, exp_table, gelu_table
from shared_protocol.errors import CheckpointError, InvalidInputError, TokenRangeError
from shared_protocol.tasks import Scenario

MOST = {
    "high_bits": 10, "low_bits": 10, "width": 8192, "layers": 24, "heads": 192, "hidden": 8192,
    "code_width": 8192, "text_size": 1 << 22, "text_width": 8192, "text_limit": 64,
    "low_width": 8192, "side": 8192,
}  # fmt: skip


@pytest.mark.parametrize(("name", "most"), MOST.items())
def test_every_size_has_a_smallest_and_a_largest(name: str, most: int) -> None:
    heads = {} if name == "heads" else {"heads": 1}
    for size in (1, most):
        assert getattr(EntropyConfig(**{**heads, name: size}), name) == size
    for wrong in (0, most + 1, True, 1.0, "x" * 50):
        with pytest.raises(CheckpointError):
            EntropyConfig(**{**heads, name: wrong})


@pytest.mark.parametrize(
    ("fields", "said", "remedy"),
    [
        ({"heads": 5}, "5 heads do not divide a width of 192", ""),
        ({"text_limit": 65}, "texts of 65 give over 4160 attention keys", ""),
        ({"high_bits": 11}, "the two parts of a code have at most 10 bits each", ""),
        ({"low_bits": 11}, "the two parts of a code have at most 10 bits each", ""),
        ({"layers": 25}, "the layers of an entropy model is 25", "a whole number of 1 to 24"),
        ({"text_size": 1 << 23}, "the text_size of an", "a whole number of 1 to 4,194,304"),
        ({"side": "x" * 50}, f"model is {'x' * 40}$", "a whole number of 1 to 8,192"),
    ],
)
def test_what_is_wrong_with_a_size_is_said(fields: dict[str, Any], said: str, remedy: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        EntropyConfig(**fields)
    assert remedy in caught.value.remedy
    with pytest.raises(CheckpointError, match=said):
        raise CheckpointError(caught.value.message)


def test_a_config_is_text_and_back() -> None:
    config = replace(EntropyConfig(), heads=3, side=7)
    assert EntropyConfig.from_json(config.to_json()) == config
    assert (config.high_size, config.low_size, config.codebook_size) == (64, 128, 8192)
    assert config.head_width == 64
    for wrong in ("", "[]", "{", '{"more": 1}'):
        with pytest.raises(CheckpointError):
            EntropyConfig.from_json(wrong)


def test_files_that_are_no_entropy_models_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "w.safetensors"

    def refused(said: str, remedy: str) -> None:
        with pytest.raises(CheckpointError, match=said) as caught:
            checkpoint.load(path)
        assert caught.value.remedy == remedy

    for metadata in ({"format": "other"}, None):
        save_file({"a": np.zeros(2, np.float32)}, path, metadata)
        refused(r"w\.safetensors is not in format unimic-entropy-1", "export the weights again")
    each = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    path.write_bytes(safe_file({"a": each, "b": each}, bytes(8)))
    refused(r"cannot read entropy weights w\.safetensors", "fetch the bundle again")
    path.write_bytes(TINY.read_bytes())
    size = path.stat().st_size
    monkeypatch.setattr(checkpoint, "MAX_FILE", size)
    assert checkpoint.load(path).config.width == 32
    monkeypatch.setattr(checkpoint, "MAX_FILE", size - 1)
    refused("the most that are read", "fetch it again")
    monkeypatch.undo()

    def odd(config: EntropyConfig, arrays: dict[str, Any]) -> None:
        raise OverflowError("x" * 300)

    monkeypatch.setattr(checkpoint, "ExactWeights", odd)
    refused(f"cannot read entropy weights {path.name}: {'x' * 200} ", "fetch the bundle again")


def test_tables_that_are_no_tables_are_known() -> None:
    assert check_exp_table(np.array([5, 5, 1, 0], np.int32), 5)
    for wrong in ([], [[5, 0]], [4, 0], [5, 1], [5, 0, 0], [5, 1, 2, 0], [5, 0, -1]):
        assert not check_exp_table(np.array(wrong, np.int32), 5)
    assert exp_table(100, 2).tolist()[:4] == [100, 61, 37, 22]
    gelu = gelu_table(0.01, 0.05)
    assert gelu.shape == (2047,)
    assert [int(gelu[1023 + step]) for step in (-100, 0, 100, 300)] == [-3, 0, 17, 60]
    assert int(gelu[-1]) == 127


def empty(engine: Engine) -> Any:
    none = np.zeros((3, 4), bool)
    codes, text = np.zeros((3, 4), np.int32), np.zeros(2, np.int32)
    return layout(Scenario.GENERIC, CodingContext(none, none, codes, text), engine.config)


def test_streams_without_a_code_have_tables_without_a_row(engine: Engine) -> None:
    plans, codes = [empty(engine)] * 2, [np.zeros(0, np.int32)] * 2
    for tables in (engine.tables(plans, codes), engine.stepwise_tables(plans, codes)):
        shapes = [(high.shape, low.shape) for high, low in tables]
        assert shapes == [((0, 64), (0, 128))] * 2
        assert tables[0][0].dtype == np.int64
    assert [found.shape for found in engine.intervals(plans, codes)] == [(0, 2, 3)] * 2
    assert [found.shape for found in engine.decode(plans, [b"", b""])] == [(0,)] * 2


def test_processors_are_those_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 3, 5}, raising=False)
    assert engine._workers() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    for count, workers in ((7, 7), (None, 1)):
        monkeypatch.setattr(os, "cpu_count", lambda count=count: count)
        assert engine._workers() == workers


def test_what_decodes_is_said_in_words() -> None:
    for compute in (Compute.NUMPY, Compute.TORCH):
        assert EntropyModels({}, compute).decoded_by == compute.value


def test_codes_that_do_not_fit_their_context_are_refused(models: EntropyModels) -> None:
    yes, no = np.ones((1, 2), bool), np.zeros((1, 2), bool)
    context = CodingContext(yes, no, np.zeros((1, 2), np.int32), np.zeros(0, np.int32))

    def encode(*codes: int) -> bytes:
        return models.encode(Scenario.GENERIC, np.array(codes, np.int32), context)

    assert encode(0, 8191)
    for codes in ((-1, 0), (0, 8192)):
        with pytest.raises(TokenRangeError, match=r"an image code is outside 0\.\.8191"):
            encode(*codes)
    with pytest.raises(InvalidInputError, match=r"\(3,\) codes for 2 targets"):
        encode(1, 2, 3)


def test_torchs_newer_settings_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def newer() -> str:
        raise RuntimeError("mixed old and new settings")

    said: list[str] = []
    monkeypatch.setattr(torch, "get_float32_matmul_precision", newer)
    monkeypatch.setattr(torch, "set_float32_matmul_precision", said.append)
    with exact_torch.exact_arithmetic():
        assert torch.is_inference_mode_enabled()
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "medium")
    with exact_torch.exact_arithmetic(), exact_torch.exact_arithmetic():
        assert said == ["highest"]
    assert said == ["highest", "medium"]
