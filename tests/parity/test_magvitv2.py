"""MAGVIT-v2 against the official implementation: activations, codes, pixels, keys and shapes."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from shared_protocol.compute import Compute
from shared_protocol.errors import CheckpointError
from shared_protocol.tokenizers.image import LfqNetwork, NetworkTokenizer, codes_of, values_of
from shared_protocol.tokenizers.load import load_network
from shared_protocol.tokenizers.magvitv2 import MagvitV2, load_magvitv2
from shared_protocol.tokenizers.sizes import MagvitV2Config, coder_config, config_of
from shared_protocol.tokens import ImageTokens

PIXEL_TOLERANCE = 1e-4  # float32 kernels differ by about 1e-5 on these models
PUBLISHED_KEYS = 382
PUBLISHED_PARAMETERS = 95_387_004
PUBLISHED_KEYS_SHA256 = "025cd44fb0ad4fe2e01c0ac23b42cfb332e10c47e9b3c7edc76938dbd6b79a38"


@pytest.fixture(scope="module")
def config(golden: Path) -> MagvitV2Config:
    shape = json.loads((golden / "magvit_tiny" / "tiny_hparams.json").read_text())
    encoder, decoder = (
        coder_config(half["ch"], half["ch_mult"], half["num_res_blocks"])
        for half in (shape["encoder"], shape["decoder"])
    )
    return MagvitV2Config(encoder, decoder, shape["quantizer"]["codebook_dim"])


@pytest.fixture(scope="module")
def network(golden: Path, config: MagvitV2Config) -> MagvitV2:
    return load_magvitv2(golden / "magvit_tiny" / "pytorch_model.safetensors", config)


@pytest.fixture(scope="module")
def vectors(golden: Path) -> dict[str, torch.Tensor]:
    return load_file(golden / "magvit_io.safetensors")


def test_encoder_output_equals_the_reference(
    network: MagvitV2, vectors: dict[str, torch.Tensor]
) -> None:
    z = network.encode(vectors["pixels"])
    torch.testing.assert_close(z, vectors["z"], atol=PIXEL_TOLERANCE, rtol=0)


def test_codes_equal_the_reference(network: MagvitV2, vectors: dict[str, torch.Tensor]) -> None:
    codes = network.encode_codes(vectors["pixels"])
    assert torch.equal(codes.flatten(1), vectors["indices"])


def test_decoded_pixels_equal_the_reference(
    network: MagvitV2, vectors: dict[str, torch.Tensor]
) -> None:
    side = int(vectors["indices"].shape[1] ** 0.5)
    pixels = network.decode_codes(vectors["indices"].unflatten(1, (side, side)))
    torch.testing.assert_close(pixels, vectors["decoded"], atol=PIXEL_TOLERANCE, rtol=0)


def test_wide_grid_decodes_like_the_reference(
    network: MagvitV2, vectors: dict[str, torch.Tensor]
) -> None:
    expected = vectors["rect.decoded"]
    shape = (expected.shape[2] // network.config.stride, expected.shape[3] // network.config.stride)
    pixels = network.decode_codes(vectors["rect.indices"].unflatten(1, shape))
    torch.testing.assert_close(pixels, expected, atol=PIXEL_TOLERANCE, rtol=0)


@pytest.fixture(scope="module", params=[Compute.NUMPY, Compute.TORCH], ids=str)
def layers(golden: Path, request: pytest.FixtureRequest) -> LfqNetwork:
    path = golden / "magvit_tiny" / "pytorch_model.safetensors"
    return load_network("magvitv2", path, request.param)


def test_whatever_computes_gives_the_codes_and_pixels_of_the_reference(
    layers: LfqNetwork, vectors: dict[str, torch.Tensor]
) -> None:
    side = int(vectors["indices"].shape[1] ** 0.5)
    rows = (vectors[name].numpy() for name in ("pixels", "z", "indices", "decoded"))
    for pixels, expected, indices, decoded in zip(*rows, strict=True):
        z = layers.encode(pixels)
        assert np.abs(z - expected).max() < PIXEL_TOLERANCE
        codes = codes_of(z)
        assert np.array_equal(codes.ravel(), indices)
        found = layers.decode(values_of(codes, layers.config.bits))
        assert found.shape == (3, side * layers.config.stride, side * layers.config.stride)
        assert np.abs(found - decoded).max() < PIXEL_TOLERANCE


def test_whatever_computes_decodes_a_wide_grid_like_the_reference(
    layers: LfqNetwork, vectors: dict[str, torch.Tensor]
) -> None:
    expected = vectors["rect.decoded"].numpy()
    shape = [side // layers.config.stride for side in expected.shape[2:]]
    for row, pixels in zip(vectors["rect.indices"].numpy(), expected, strict=True):
        found = layers.decode(values_of(row.reshape(shape), layers.config.bits))
        assert np.abs(found - pixels).max() < PIXEL_TOLERANCE


def test_uint8_picture_is_truncated_like_the_reference(
    network: MagvitV2, layers: LfqNetwork, vectors: dict[str, torch.Tensor]
) -> None:
    size = network.config.codebook_size
    tokenizer = NetworkTokenizer(lambda: layers, network.config.stride, size)
    side = int(vectors["indices"].shape[1] ** 0.5)
    for row, expected in zip(vectors["indices"], vectors["decoded_uint8"], strict=True):
        pixels = tokenizer.detokenize(ImageTokens(row.reshape(side, side).numpy(), size))
        difference = torch.from_numpy(pixels).int() - expected.int()
        assert int(difference.abs().max()) <= 1


def test_published_keys_and_shapes_are_ours() -> None:
    with torch.device("meta"):
        network = MagvitV2()
    state = network.state_dict()
    lines = sorted(f"{key}:{'x'.join(map(str, value.shape))}" for key, value in state.items())
    assert len(lines) == PUBLISHED_KEYS
    assert sum(p.numel() for p in network.parameters()) == PUBLISHED_PARAMETERS
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == PUBLISHED_KEYS_SHA256


def test_checkpoint_in_half_precision_loads_as_float32(
    network: MagvitV2, config: MagvitV2Config, tmp_path: Path
) -> None:
    state = network.state_dict()
    halves = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    save_file(halves, tmp_path / "half.safetensors")
    loaded = load_magvitv2(tmp_path / "half.safetensors", config).state_dict()
    assert loaded["encoder.conv_in.weight"].dtype == torch.float32


def test_checkpoint_of_another_shape_is_refused(network: MagvitV2, tmp_path: Path) -> None:
    save_file(network.state_dict(), tmp_path / "tiny.safetensors")
    with pytest.raises(CheckpointError, match=r"missing: .*misshapen: "):
        load_magvitv2(tmp_path / "tiny.safetensors", MagvitV2Config())


def test_shape_of_the_network_is_read_off_the_tensors(
    network: MagvitV2, config: MagvitV2Config
) -> None:
    assert config_of(_shapes(network)) == config
    with torch.device("meta"):
        assert config_of(_shapes(MagvitV2())) == MagvitV2Config()
    with pytest.raises(CheckpointError, match="not those of a MAGVIT-v2"):
        config_of({"encoder.conv_in.weight": (32, 3, 3, 3)})


def _shapes(network: MagvitV2) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
