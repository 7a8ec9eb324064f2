"""The image tokenizers in numpy, onnxruntime and torch: one meaning, one check of a file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from edge_client.pictures.images import load_picture
from shared_protocol.bundles.find import load_bundle
from shared_protocol.compute import Compute
from shared_protocol.errors import CheckpointError, ConfigError
from shared_protocol.tokenizers import load, onnx_graphs
from shared_protocol.tokenizers.compact import CompactTokenizer, save_compact
from shared_protocol.tokenizers.image import ImageTokenizer
from shared_protocol.tokenizers.load import load_network
from shared_protocol.tokenizers.magvitv2 import MagvitV2
from shared_protocol.tokenizers.numpy_layers import NumpyLayers
from shared_protocol.tokenizers.sizes import CoderConfig, CompactConfig, MagvitV2Config
from shared_protocol.tokens import ImageTokens

ROOT = Path(load.__file__).parents[2]
SAMPLES = sorted((ROOT / "edge_client" / "samples").rglob("*.webp"))
OTHER_TOKENS = 1 / 10_000
"""Share of tokens that another order of sums may change."""
TINY = MagvitV2Config(CoderConfig(32, (1, 2), (1, 2)), CoderConfig(32, (1, 2), (2, 1)), bits=5)
FAST = [Compute.NUMPY, Compute.ONNX]


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    """Forty-eight pictures of 256 tokens: scenes, turned and mixed, and noise on some."""
    rng = np.random.default_rng(0)
    scenes = [load_picture(path, 256, 256).pixels for path in SAMPLES][:6]
    turned = [np.rot90(scene, turn) for scene in scenes for turn in range(4)]
    mixed = [(0.5 * a + 0.5 * b).astype(np.uint8) for a, b in zip(turned, turned[7:], strict=False)]
    noisy = [np.clip(a + rng.normal(0, 30, a.shape), 0, 255).astype(np.uint8) for a in turned]
    return [np.ascontiguousarray(picture) for picture in (*turned, *mixed, *noisy)][:48]


def tokenizer(compute: Compute) -> ImageTokenizer:
    return load_bundle(compute=compute).image_tokenizer()


@pytest.mark.parametrize(
    "compute",
    [Compute.NUMPY, pytest.param(Compute.ONNX, marks=pytest.mark.slow)],
    ids=["numpy", "onnx"],
)
def test_tokens_are_those_of_torch(compute: Compute, pictures: list[np.ndarray]) -> None:
    ours, theirs = tokenizer(compute), tokenizer(Compute.TORCH)
    pairs = [(ours.tokenize(p).codes, theirs.tokenize(p).codes) for p in pictures]
    different = sum(int((a != b).sum()) for a, b in pairs)
    assert len(pairs) * 256 > 1 / OTHER_TOKENS
    assert different <= OTHER_TOKENS * 256 * len(pairs)


@pytest.mark.parametrize("compute", FAST, ids=lambda compute: compute.value)
@pytest.mark.parametrize("shape", [(16, 16), (1, 1), (3, 20), (16, 32)])
def test_pixels_are_those_of_torch(compute: Compute, shape: tuple[int, int]) -> None:
    codes = np.random.default_rng(1).integers(0, 8192, shape)
    tokens = ImageTokens(codes.astype(np.int32), 8192)
    ours, theirs = (
        tokenizer(compute).detokenize(tokens),
        tokenizer(Compute.TORCH).detokenize(tokens),
    )
    assert ours.shape == theirs.shape == (16 * shape[0], 16 * shape[1], 3)
    levels = np.abs(ours.astype(int) - theirs.astype(int))
    assert levels.max() <= 1
    assert (levels > 0).mean() < 1e-4


def tiny_magvitv2(path: Path, config: MagvitV2Config = TINY) -> MagvitV2:
    torch.manual_seed(0)
    network = MagvitV2(config).eval()
    save_file(network.state_dict(), path)
    return network


def test_magvitv2_of_other_sizes_is_computed_without_a_graph(tmp_path: Path) -> None:
    network = tiny_magvitv2(tmp_path / "w.safetensors")
    ours = load_network("magvitv2", tmp_path / "w.safetensors")
    assert ours.config == TINY
    pixels = np.random.default_rng(0).uniform(-1, 1, (3, 10, 14)).astype(np.float32)
    with torch.inference_mode():
        z = network.encoder(torch.from_numpy(pixels)[None])[0].numpy()
        values = np.where(z > 0, 1, -1).astype(np.float32)
        decoded = network.decoder(torch.from_numpy(values)[None])[0].numpy()
    assert np.abs(ours.encode(pixels) - z).max() < 1e-4
    assert np.abs(ours.decode(values) - decoded).max() < 1e-4
    with pytest.raises(ConfigError, match="no graph"):
        load_network("magvitv2", tmp_path / "w.safetensors", Compute.ONNX)


def test_a_convolution_in_strips_is_the_convolution(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shared_protocol.tokenizers import numpy_layers

    rng = np.random.default_rng(0)
    weights = {"c.weight": rng.normal(size=(4, 3, 3, 3)), "c.bias": rng.normal(size=4)}
    layers = NumpyLayers({name: array.astype(np.float32) for name, array in weights.items()})
    x = rng.normal(size=(3, 9, 11)).astype(np.float32)
    for padding, stride in ((1, 1), ((0, 0, 1, 1), 2), (0, 1)):
        whole = layers.convolve(x, "c", padding, stride)
        monkeypatch.setattr(numpy_layers, "STRIP", 60)
        assert np.allclose(layers.convolve(x, "c", padding, stride), whole, atol=1e-5)
        monkeypatch.undo()
        pads = (padding,) * 4 if isinstance(padding, int) else padding
        padded = torch.nn.functional.pad(torch.from_numpy(x), (pads[1], pads[3], pads[0], pads[2]))
        named = [torch.from_numpy(weights[n].astype(np.float32)) for n in ("c.weight", "c.bias")]
        expected = torch.nn.functional.conv2d(padded[None], *named, stride=stride)[0].numpy()
        assert np.allclose(whole, expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["compact", "magvitv2"])
def test_the_graphs_are_those_that_the_command_writes(kind: str) -> None:
    pytest.importorskip("onnx")
    written = onnx_graphs.all_graphs()
    for half in ("encoder", "decoder"):
        name = f"{kind}_{half}.onnx"
        assert (onnx_graphs.GRAPHS / name).read_bytes() == written[name]


@pytest.mark.slow
def test_published_magvitv2_runs_in_onnxruntime_by_default(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    network = tiny_magvitv2(tmp_path / "w.safetensors", MagvitV2Config())
    ours = load_network("magvitv2", tmp_path / "w.safetensors")
    assert type(ours).__name__ == "OnnxNetwork"
    pixels = np.random.default_rng(0).uniform(-1, 1, (3, 48, 32)).astype(np.float32)
    with torch.inference_mode():
        z = network.encoder(torch.from_numpy(pixels)[None])[0].numpy()
        values = np.where(z > 0, 1, -1).astype(np.float32)
        decoded = network.decoder(torch.from_numpy(values)[None])[0].numpy()
    assert np.abs(ours.encode(pixels) - z).max() < 1e-3
    assert np.abs(ours.decode(values) - decoded).max() < 1e-3


def missing(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Take packages away."""
    real = load.find_spec
    monkeypatch.setattr(load, "find_spec", lambda name: None if name in names else real(name))


def test_what_is_not_installed_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    missing(monkeypatch, "torch", "onnxruntime")
    path = load_bundle().path("image_tokenizer")
    for compute, words in (
        (Compute.TORCH, r"unimic\[torch\]"),
        (Compute.CUDA, r"unimic\[torch\]"),
        (Compute.ONNX, r"unimic\[onnx\]"),
    ):
        with pytest.raises(ConfigError, match=words):
            load_network("compact", path, compute)
    assert load_network("compact", path).config == CompactConfig()


@pytest.mark.slow
def test_a_broken_onnxruntime_is_passed_over_unless_it_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_magvitv2(tmp_path / "w.safetensors", MagvitV2Config())
    real = load.importlib.import_module

    def broken(name: str) -> object:
        if name == "onnxruntime":
            raise OSError("libgomp.so.1: cannot open shared object file")
        return real(name)

    monkeypatch.setattr(load.importlib, "import_module", broken)
    network = load_network("magvitv2", tmp_path / "w.safetensors")
    assert network.computed_by.startswith("numpy")
    with pytest.raises(ConfigError, match="libgomp"):
        load_network("magvitv2", tmp_path / "w.safetensors", Compute.ONNX)


def test_a_pickle_needs_torch_and_says_how_to_do_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = MagvitV2(TINY).eval()
    torch.save(network.state_dict(), tmp_path / "w.bin")
    assert load_network("magvitv2", tmp_path / "w.bin").config == TINY
    missing(monkeypatch, "torch")
    with pytest.raises(CheckpointError, match="export-edge"):
        load_network("magvitv2", tmp_path / "w.bin")


def test_bfloat16_is_named_with_its_remedy(tmp_path: Path) -> None:
    state = {name: value.bfloat16() for name, value in MagvitV2(TINY).state_dict().items()}
    save_file(state, tmp_path / "w.safetensors")
    network = load_network("magvitv2", tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match=r"BF16.*export-edge"):
        network.encode(np.zeros((3, 4, 4), dtype=np.float32))


@pytest.mark.parametrize("change", ["missing", "unexpected", "misshapen"])
@pytest.mark.parametrize("kind", ["compact", "magvitv2"])
def test_a_file_of_another_network_is_refused(tmp_path: Path, kind: str, change: str) -> None:
    path = tmp_path / "w.safetensors"
    network = CompactTokenizer() if kind == "compact" else MagvitV2(TINY)
    state = {name: value.detach().clone() for name, value in network.state_dict().items()}
    name = "decoder.conv_out.bias"
    if change == "missing":
        del state[name]
    elif change == "unexpected":
        state["decoder.more.weight"] = torch.zeros(1)
    else:
        state[name] = torch.zeros(7)
    if kind == "compact":
        save_compact(CompactTokenizer(), path, {})
        from safetensors import safe_open

        with safe_open(path, framework="pt") as file:
            save_file(state, path, file.metadata())
    else:
        save_file(state, path)
    with pytest.raises(CheckpointError, match=change):
        load_network(kind, path, Compute.NUMPY)


@pytest.mark.parametrize("content", [b"", b"x" * 100, (1 << 60).to_bytes(8, "little") + b"{}"])
def test_a_file_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match="cannot read"):
        load_network("compact", tmp_path / "w.safetensors")


def test_unknown_names_are_refused() -> None:
    assert Compute.named("onnx") is Compute.ONNX
    with pytest.raises(ConfigError, match="auto, numpy"):
        Compute.named("tpu")


def test_numpy_tokenizes_without_torch_or_onnx() -> None:
    script = (
        "import sys, numpy\n"
        "from shared_protocol.bundles.find import load_bundle\n"
        "t = load_bundle().image_tokenizer()\n"
        "t.detokenize(t.tokenize(numpy.zeros((16, 16, 3), numpy.uint8)))\n"
        "print([name for name in ('torch', 'onnxruntime', 'onnx') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
