"""What computes an image tokenizer: why it cannot, and what it says of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hostile_bundles import BUILTIN, IMAGES

from shared_protocol.compute import Compute
from shared_protocol.errors import CheckpointError, ConfigError
from shared_protocol.tokenizers import load, onnx_network, torch_network
from shared_protocol.tokenizers.load import load_network


def test_without_a_gpu_torch_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="torch finds no GPU here") as caught:
        load_network("compact", BUILTIN / IMAGES, Compute.CUDA)
    assert caught.value.remedy == "compute with numpy"
    with pytest.raises(ConfigError, match="no GPU"):
        torch_network.load_torch_network("compact", BUILTIN / IMAGES, "cuda")
    monkeypatch.setitem(torch_network.LOADERS, "compact", lambda path: torch.nn.Identity())
    network = torch_network.load_torch_network("compact", BUILTIN / IMAGES)
    assert network.computed_by == f"torch {torch.__version__} on cpu"


def test_why_onnxruntime_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def runtime(module: Any) -> str:
        def imported(name: str) -> Any:
            if isinstance(module, Exception):
                raise module
            return module

        monkeypatch.setattr(load, "find_spec", lambda name: object())
        monkeypatch.setattr(load.importlib, "import_module", imported)
        return load._fault_of_onnx()

    new = type("Options", (), {"add_external_initializers": None})
    assert runtime(type("new", (), {"SessionOptions": new})) == ""
    assert runtime(type("old", (), {"SessionOptions": object})) == "is too old"
    assert runtime(OSError("libgomp is gone")) == "cannot be imported: libgomp is gone"
    with pytest.raises(ConfigError, match="onnxruntime cannot be imported") as caught:
        load_network("compact", BUILTIN / IMAGES, Compute.ONNX)
    assert caught.value.remedy == 'pip install "unimic[onnx]"'
    monkeypatch.setattr(load, "find_spec", lambda name: None)
    assert load._fault_of_onnx() == "is not installed"


def test_onnxruntime_encodes_and_says_what_it_cannot_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    pixels = np.random.default_rng(0).uniform(-1, 1, (3, 32, 16)).astype(np.float32)
    ours = load_network("compact", BUILTIN / IMAGES, Compute.ONNX)
    plain = load_network("compact", BUILTIN / IMAGES, Compute.NUMPY)
    assert np.abs(ours.encode(pixels) - plain.encode(pixels)).max() < 1e-3
    for half in ("encoder", "decoder"):
        (tmp_path / f"compact_{half}.onnx").write_bytes(b"no graph")
    monkeypatch.setattr(onnx_network, "GRAPHS", tmp_path)
    broken = load_network("compact", BUILTIN / IMAGES, Compute.ONNX)
    with pytest.raises(CheckpointError, match=f"onnxruntime cannot take {IMAGES}") as caught:
        broken.encode(pixels)
    assert caught.value.remedy == "compute with numpy, or update onnxruntime"
