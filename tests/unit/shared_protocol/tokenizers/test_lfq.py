"""Lookup-free quantisation against golden vectors of the official Show-o modules."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cloud_server.training.recipes.image_tokenizer.lfq_losses import (
    code_log_probabilities,
    lfq_losses,
)
from shared_protocol.tokenizers.lfq import bit_weights, codes_to_z, quantize, z_to_codes

GOLDEN = load_file(Path(__file__).parents[3] / "golden" / "lfq" / "lfq.safetensors")
FLOAT_ROUNDING = 1e-6


def test_channel_zero_is_the_most_significant_bit() -> None:
    assert torch.equal(bit_weights(13), GOLDEN["power_vals13"])


def test_signs_of_z_give_the_golden_codes() -> None:
    assert torch.equal(z_to_codes(GOLDEN["z13"]), GOLDEN["z13.indices"][:, 0])


def test_an_exact_zero_clears_the_bit() -> None:
    assert int(z_to_codes(torch.zeros(1, 13, 1, 1))) == 0


def test_codes_give_the_golden_values() -> None:
    codes = GOLDEN["indices13"].view(1, 1, -1)
    assert torch.equal(codes_to_z(codes, 13)[0, :, 0].T, GOLDEN["codes13"])


def test_quantised_values_are_golden_up_to_rounding() -> None:
    difference = quantize(GOLDEN["z13"]) - GOLDEN["z13.z_q"]
    assert float(difference.abs().max()) < FLOAT_ROUNDING


def test_every_code_survives_a_round_trip() -> None:
    codes = torch.arange(8192).view(1, 64, 128)
    assert torch.equal(z_to_codes(codes_to_z(codes, 13)), codes)


@pytest.mark.parametrize("code", [-1, 8192])
def test_codes_out_of_range_are_refused(code: int) -> None:
    with pytest.raises(ValueError, match=r"0\.\.8191"):
        codes_to_z(torch.tensor([[[code]]]), 13)


def test_gradient_passes_straight_through_the_signs() -> None:
    z = torch.randn(1, 13, 2, 2, requires_grad=True)
    quantize(z).sum().backward()
    assert z.grad is not None
    assert torch.equal(z.grad, torch.ones_like(z))


def test_joint_probabilities_are_products_of_the_bits() -> None:
    z = torch.randn(5, 3)
    joint = code_log_probabilities(z).exp()
    last_bit_set = joint[:, 1::2].sum(dim=1)
    assert torch.allclose(last_bit_set, torch.sigmoid(4 * z[:, 2]), atol=1e-5)


def test_losses_match_the_reference_recipe() -> None:
    losses = lfq_losses(GOLDEN["z13"])
    commitment, entropy = 0.057216811925172806, -0.03287525847554207  # recorded with the vectors
    assert float(losses.commitment) * 0.1 == pytest.approx(commitment, abs=1e-5)
    assert float(losses.entropy - losses.diversity) * 0.1 == pytest.approx(entropy, abs=1e-4)


def test_diversity_is_largest_when_all_codes_are_used_alike() -> None:
    codes = torch.arange(16).view(1, 4, 4)
    all_codes = lfq_losses(5 * codes_to_z(codes, 4), groups=1)
    one_code = lfq_losses(torch.full((1, 4, 4, 4), 5.0), groups=1)
    assert float(all_codes.diversity) > 0.69
    assert float(one_code.diversity) < 0.01
