"""Pictures from file to codes and back, as the official scripts do it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from cloud_server.training.recipes.image_tokenizer.lfq_losses import lfq_losses
from edge_client.pictures.images import load_picture
from edge_client.pictures.masks import load_mask, token_mask
from shared_protocol.bundles.catalogue import STRIDE
from shared_protocol.compute import Compute
from shared_protocol.tokenizers.image import NetworkTokenizer
from shared_protocol.tokenizers.lfq import bit_weights, codes_to_z, quantize, z_to_codes
from shared_protocol.tokenizers.load import load_network
from shared_protocol.tokenizers.magvitv2 import MagvitV2, load_magvitv2
from shared_protocol.tokens import ImageTokens

PIXEL_STEP = 1 / 127.5
RESIZE_TOLERANCE = 1.01 * PIXEL_STEP  # one level of 255, should two builds of Pillow round apart
ACTIVATION_TOLERANCE = 1e-4  # float32 kernels differ by about 1e-5
LOSS_TOLERANCE = 1e-5
WEIGHT = 0.1
"""The reference multiplies both losses of the quantiser with it."""


@pytest.fixture(scope="module")
def network(golden: Path) -> MagvitV2:
    return load_magvitv2(golden / "magvit_tiny")


@pytest.fixture(scope="module", params=[Compute.NUMPY, Compute.TORCH], ids=str)
def tokenizer(golden: Path, request: pytest.FixtureRequest) -> NetworkTokenizer:
    path = golden / "magvit_tiny" / "pytorch_model.safetensors"
    layers = load_network("magvitv2", path, request.param)
    return NetworkTokenizer(lambda: layers, STRIDE, 1 << layers.config.bits)


@pytest.fixture(scope="module")
def pipeline(golden: Path) -> dict[str, Tensor]:
    return load_file(golden / "pipeline.safetensors")


@pytest.fixture(scope="module")
def runs(manifest: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = manifest["scalars"]["pipeline.safetensors"]["runs"]["value"]
    return found


@pytest.fixture(scope="module")
def vectors(golden: Path) -> dict[str, Tensor]:
    return load_file(golden / "magvit_io.safetensors")


@pytest.fixture(scope="module")
def lfq(golden: Path) -> dict[str, Tensor]:
    return load_file(golden / "lfq.safetensors")


def test_pixels_of_a_file_equal_the_reference(
    golden: Path,
    pipeline: dict[str, Tensor],
    sizes: dict[str, Any],
    runs: dict[str, Any],
    pictured_run: str,
) -> None:
    side, path = sizes["resolution"], runs[pictured_run]["image_path"]
    picture = load_picture(golden / path, side, side)
    pixels = torch.from_numpy(picture.pixels).permute(2, 0, 1).float() / 127.5 - 1.0
    expected = pipeline[f"{Path(path).stem}.pixels"]
    torch.testing.assert_close(pixels, expected, atol=RESIZE_TOLERANCE, rtol=0)


def test_codes_of_a_file_equal_the_reference(
    golden: Path,
    tokenizer: NetworkTokenizer,
    pipeline: dict[str, Tensor],
    sizes: dict[str, Any],
    runs: dict[str, Any],
    pictured_run: str,
) -> None:
    if f"{pictured_run}.image_codes" not in pipeline:
        pytest.skip(f"the codes of {pictured_run} stand with another run")
    side = sizes["resolution"]
    picture = load_picture(golden / runs[pictured_run]["image_path"], side, side)
    codes = tokenizer.tokenize(picture.pixels).codes.reshape(-1)
    for expected in pipeline[f"{pictured_run}.image_codes"]:
        assert codes.tolist() == expected.tolist()


def test_mask_of_a_file_equals_the_reference(
    golden: Path,
    pipeline: dict[str, Tensor],
    sizes: dict[str, Any],
    runs: dict[str, Any],
    inpainting_run: str,
) -> None:
    side, grid, facts = sizes["resolution"], sizes["grid"], runs[inpainting_run]
    picture = load_picture(golden / facts["image_path"], side, side)
    mask = load_mask(golden / facts["inpainting_mask_path"], picture)
    name = Path(facts["inpainting_mask_path"]).stem
    expected = pipeline[f"{name}.pixels"][0]
    torch.testing.assert_close(
        torch.from_numpy(mask.copy()).float() / 255, expected, atol=1.01 / 255, rtol=0
    )
    flags = token_mask(mask, (grid, grid)).flags
    assert np.array_equal(flags, pipeline[f"{name}.small"][0, 0].numpy() >= 0.5)
    for row in pipeline[f"{inpainting_run}.mask"]:
        assert np.array_equal(flags.reshape(-1), row.numpy())


def test_decoded_pictures_equal_the_reference(
    tokenizer: NetworkTokenizer, pipeline: dict[str, Tensor], sizes: dict[str, Any], script_run: str
) -> None:
    run = script_run
    if f"{run}.images_uint8" not in pipeline:
        pytest.skip(f"{run} was recorded without pictures")
    grid = sizes["grid"]
    if f"{run}.final_tokens" in pipeline:
        grids = pipeline[f"{run}.final_tokens"]
    else:
        grids = pipeline[f"{run}.output"].unflatten(1, (grid, grid))
    for codes, expected in zip(grids, pipeline[f"{run}.images_uint8"], strict=True):
        pixels = tokenizer.detokenize(ImageTokens(codes.numpy(), tokenizer.codebook_size))
        difference = torch.from_numpy(pixels).int() - expected.int()
        assert int(difference.abs().max()) <= 1


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("encoder_mid_block_1", "encoder.mid.block_1"),
        ("encoder_mid_attn_1", "encoder.mid.attn_1"),
        ("decoder_mid_attn_1", "decoder.mid.attn_1"),
    ],
)
def test_activations_inside_the_network_equal_the_reference(
    network: MagvitV2, vectors: dict[str, Tensor], name: str, layer: str
) -> None:
    seen: list[Tensor] = []
    hook = network.get_submodule(layer).register_forward_hook(lambda *args: seen.append(args[2]))
    with torch.inference_mode():
        side = int(vectors["indices"].shape[1] ** 0.5)
        network.encode(vectors["pixels"])
        network.decode_codes(vectors["indices"].unflatten(1, (side, side)))
    hook.remove()
    torch.testing.assert_close(
        seen[0], vectors[f"act.{name}"], atol=ACTIVATION_TOLERANCE, rtol=1e-4
    )


def test_quantised_values_and_losses_equal_the_reference(vectors: dict[str, Tensor]) -> None:
    z = vectors["z"]
    torch.testing.assert_close(quantize(z), vectors["z_q"], atol=1e-6, rtol=0)
    check_losses(z, float(vectors["quantizer_loss"]), float(vectors["entropy_loss"]))


def check_losses(z: Tensor, quantizer: float, entropy: float) -> None:
    losses = lfq_losses(z)
    assert WEIGHT * float(losses.commitment) == pytest.approx(quantizer, abs=LOSS_TOLERANCE)
    difference = float(losses.entropy - losses.diversity)
    assert WEIGHT * difference == pytest.approx(entropy, abs=LOSS_TOLERANCE)


def test_the_real_codebook_equals_the_reference(
    lfq: dict[str, Tensor], manifest: dict[str, Any]
) -> None:
    assert torch.equal(bit_weights(13), lfq["power_vals13"])
    assert torch.equal(z_to_codes(lfq["z13"]), lfq["z13.indices"][:, 0])
    torch.testing.assert_close(quantize(lfq["z13"]), lfq["z13.z_q"], atol=1e-6, rtol=0)
    assert torch.equal(codes_to_z(lfq["z13.indices"][:, 0], 13), lfq["entry13"])
    rows = codes_to_z(lfq["indices13"].view(1, 1, -1), 13)[0, :, 0].T
    assert torch.equal(rows, lfq["codes13"])
    quantize_loss, entropy = manifest["scalars"]["lfq.safetensors"]["losses13"]["value"]
    check_losses(lfq["z13"], quantize_loss, entropy)
    codebook = MagvitV2().quantize
    assert torch.equal(codebook.embedding[lfq["indices13"]], lfq["codes13"])
    assert torch.equal(codebook.power_vals, lfq["power_vals13"])
