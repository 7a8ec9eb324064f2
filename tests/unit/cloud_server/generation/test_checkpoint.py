"""Checkpoints: Show-o's layouts, the compact form, and clear errors."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from official_files import write_shards
from safetensors.torch import load_file, save_file
from tiny_backbone import WEIGHTS, positions, tiny_backbone

from cloud_server.generation.backbone.checkpoint import (
    BackboneCard,
    config_of,
    load_builtin_backbone,
    load_showo_backbone,
    pack_state,
    save_builtin_backbone,
    unpack_state,
)
from cloud_server.generation.backbone.showo import ShowoConfig, build_phi
from cloud_server.generation.prompting import causal_mask
from shared_protocol.bundles.tensor_files import open_tensors
from shared_protocol.errors import CheckpointError

IDS = torch.arange(12)[None]
PUBLISHED_KEYS = 437
PUBLISHED_PARAMETERS = 1_448_176_770
PUBLISHED_KEYS_SHA256 = "52740cd5eaf784a30ded63fe498198bb9110aadb7b018bdc128758efd107ce8e"
BF16 = torch.bfloat16
BF16_TOLERANCE = 0.1  # eight bits of mantissa, two layers


def _state() -> dict[str, torch.Tensor]:
    return load_file(WEIGHTS / "pytorch_model.safetensors")


def _plain() -> dict[str, torch.Tensor]:
    return {name.removeprefix("showo."): tensor for name, tensor in _state().items()}


def _logits(backbone: object) -> torch.Tensor:
    allow = causal_mask(IDS.shape[1])[None, None]
    logits: torch.Tensor = backbone.logits(IDS, allow, positions(IDS))  # type: ignore[attr-defined]
    return logits


def test_sharded_and_pickled_files_load_alike(tmp_path: Path) -> None:
    state, expected = _state(), _logits(tiny_backbone())
    names = sorted(state)
    files = {"a.safetensors": names[:20], "b.safetensors": names[20:]}
    sharded = tmp_path / "sharded"
    sharded.mkdir()
    for file, part in files.items():
        save_file({name: state[name] for name in part}, sharded / file)
    index = {"weight_map": {name: file for file, part in files.items() for name in part}}
    (sharded / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    pickled = tmp_path / "pytorch_model.bin"
    torch.save(state, pickled)
    for path in (sharded, pickled, WEIGHTS / "pytorch_model.safetensors"):
        assert torch.equal(_logits(load_showo_backbone(path)), expected)


def test_keys_and_shapes_are_the_published_ones() -> None:
    with torch.device("meta"):
        phi = build_phi(ShowoConfig())
    shapes = {f"showo.{name}": tensor.shape for name, tensor in phi.state_dict().items()}
    lines = sorted(f"{name}:{'x'.join(map(str, shape))}" for name, shape in shapes.items())
    assert len(lines) == PUBLISHED_KEYS
    assert sum(parameter.numel() for parameter in phi.parameters()) == PUBLISHED_PARAMETERS
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == PUBLISHED_KEYS_SHA256


def test_shards_of_random_weights_in_the_published_layout_load(tmp_path: Path) -> None:
    config = ShowoConfig(377, 32, 64, 3, 2)
    with torch.device("meta"):
        shapes = {f"showo.{n}": t.shape for n, t in build_phi(config).state_dict().items()}
    write_shards(shapes, tmp_path / "show-o", torch.float16)
    backbone = load_showo_backbone(tmp_path / "show-o", dtype=torch.bfloat16)
    assert {tensor.dtype for tensor in backbone.phi.parameters()} == {torch.bfloat16}
    assert config_of(open_tensors(tmp_path / "show-o", _plain_name)) == config
    assert torch.isfinite(_logits(backbone)).all()


def test_half_precision_stays_close(tmp_path: Path) -> None:
    exact, rounded = _logits(tiny_backbone()), _logits(load_showo_backbone(WEIGHTS, dtype=BF16))
    assert rounded.dtype == torch.float32
    assert not torch.equal(exact, rounded)
    assert float((exact - rounded).abs().max()) < BF16_TOLERANCE * float(exact.std())


def _plain_name(name: str) -> str:
    return name.removeprefix("showo.")


def test_clip_projection_is_ignored(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    save_file({**_state(), "mm_projector.0.weight": torch.zeros(2, 2)}, file)
    assert torch.equal(_logits(load_showo_backbone(tmp_path)), _logits(tiny_backbone()))


def test_errors_name_the_keys(tmp_path: Path) -> None:
    state = _state()
    state["showo.extra"] = state.pop("showo.model.final_layernorm.bias")
    state["showo.lm_head.bias"] = torch.zeros(3)
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError) as caught:
        load_showo_backbone(tmp_path)
    assert "1 missing: model.final_layernorm.bias;" in str(caught.value)
    assert "1 unexpected: extra;" in str(caught.value)
    assert "lm_head.bias is (3,)" in str(caught.value)


def test_missing_and_broken_files_are_checkpoint_errors(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no weights"):
        load_showo_backbone(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match="cannot read"):
        load_showo_backbone(tmp_path)
    with pytest.raises(CheckpointError, match="no compact backbone"):
        load_builtin_backbone(tmp_path / "absent")


def test_compact_weights_survive_saving_bit_for_bit(tmp_path: Path) -> None:
    state = _plain()
    config = config_of(open_tensors(WEIGHTS, _plain_name))
    card = BackboneCard(config, 334, 32, 4, 16)
    paths = save_builtin_backbone(state, card, tmp_path, max_bytes=60_000)
    assert len(paths) > 1
    assert all(path.stat().st_size < 80_000 for path in paths)
    loaded = load_builtin_backbone(tmp_path)
    assert loaded.card == card
    stored = unpack_state(pack_state(state))
    direct = tmp_path / "direct.safetensors"
    save_file({f"showo.{name}": tensor for name, tensor in stored.items()}, direct)
    assert torch.equal(_logits(loaded.backbone), _logits(load_showo_backbone(direct)))


def test_compact_weights_are_close_to_the_trained_ones() -> None:
    state = _plain()
    for name, tensor in unpack_state(pack_state(state)).items():
        scale = state[name].abs().max().clamp(min=1e-6)
        assert ((tensor - state[name]).abs().max() / scale) < 1 / 200


def test_packing_twice_changes_nothing() -> None:
    once = unpack_state(pack_state(_plain()))
    twice = unpack_state(pack_state(once))
    for name, tensor in once.items():
        torch.testing.assert_close(tensor, twice[name], atol=0, rtol=2e-3)
