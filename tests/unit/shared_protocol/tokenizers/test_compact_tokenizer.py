"""The built-in tokenizer network: shapes, locality, files; the weights are random."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from shared_protocol.errors import CheckpointError
from shared_protocol.tokenizers.compact import CompactTokenizer, load_compact, save_compact
from shared_protocol.tokenizers.sizes import CompactConfig

SMALL = CompactConfig(encoder_channels=(8, 8, 16), decoder_channels=(8, 8, 16))
HALF_BYTES = 8_000_000


@pytest.fixture
def tokenizer() -> CompactTokenizer:
    torch.manual_seed(0)
    return CompactTokenizer(SMALL)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (64, 64), (32, 80)])
def test_any_multiple_of_sixteen_is_tokenised(
    tokenizer: CompactTokenizer, height: int, width: int
) -> None:
    codes = tokenizer.encode_codes(torch.rand(2, 3, height, width) * 2 - 1)
    assert codes.shape == (2, height // 16, width // 16)
    assert codes.dtype == torch.int64
    assert tokenizer.decode_codes(codes).shape == (2, 3, height, width)


def test_other_sizes_are_refused_with_the_remedy(tokenizer: CompactTokenizer) -> None:
    with pytest.raises(ValueError, match="multiples of 16"):
        tokenizer.encode_codes(torch.zeros(1, 3, 40, 32))


def test_a_code_sees_no_further_than_four_pixels_beyond_its_block(
    tokenizer: CompactTokenizer,
) -> None:
    picture = torch.rand(1, 3, 80, 80) * 2 - 1
    changed = torch.rand(1, 3, 80, 80) * 2 - 1
    changed[..., 28:52, 28:52] = picture[..., 28:52, 28:52]
    with torch.no_grad():
        z, z_changed = tokenizer.encoder(picture), tokenizer.encoder(changed)
    assert torch.allclose(z[..., 2, 2], z_changed[..., 2, 2], atol=1e-5)
    assert not torch.allclose(z, z_changed, atol=1e-2)


def test_an_object_moved_by_whole_tokens_keeps_its_codes(tokenizer: CompactTokenizer) -> None:
    thing = torch.rand(3, 40, 40) * 2 - 1  # 32 px and the rim
    first, second = torch.zeros(1, 3, 96, 96), torch.zeros(1, 3, 96, 96)
    first[0, :, 12:52, 12:52] = thing
    second[0, :, 44:84, 28:68] = thing
    codes, moved = tokenizer.encode_codes(first), tokenizer.encode_codes(second)
    assert torch.equal(codes[0, 1:3, 1:3], moved[0, 3:5, 2:4])


def test_training_pass_gives_gradients_to_every_weight(tokenizer: CompactTokenizer) -> None:
    output, z = tokenizer(torch.rand(2, 3, 32, 32))
    (output.square().mean() + z.square().mean()).backward()
    assert all(p.grad is not None for p in tokenizer.parameters())


def test_the_file_gives_back_the_config_and_the_rounded_weights(
    tokenizer: CompactTokenizer, tmp_path: Path
) -> None:
    path = tmp_path / "tokenizer.safetensors"
    save_compact(tokenizer, path, {"recipe": "none"})
    loaded = load_compact(path)
    assert loaded.config == SMALL
    for name, value in loaded.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, tokenizer.state_dict()[name].half().float())


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="expected"):
        load_compact(path)


def test_the_shipped_size_fits_the_limit() -> None:
    assert 2 * sum(p.numel() for p in CompactTokenizer().parameters()) < HALF_BYTES
