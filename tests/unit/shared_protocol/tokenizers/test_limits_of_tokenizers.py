"""Files and pixels that no tokenizer takes, at the last value that is taken and the first not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hostile_bundles import BUILTIN, IMAGES, TEXT, safe_file, with_header
from safetensors.torch import save_file

from shared_protocol.compute import Compute
from shared_protocol.errors import CheckpointError, ImageError
from shared_protocol.tokenizers import load, text
from shared_protocol.tokenizers.image import NetworkTokenizer, codes_of, values_of
from shared_protocol.tokenizers.load import Channels, FloatWeights, WeightFile, load_network
from shared_protocol.tokenizers.sizes import (
    CoderConfig,
    CompactConfig,
    MagvitV2Config,
    config_from_json,
    config_of,
)
from shared_protocol.tokenizers.text import TextTokenizer

BYTES = json.loads((BUILTIN / TEXT).read_bytes())


class Panic(BaseException):
    """What a panic of the library looks like."""


Panic.__name__ = "PanicException"


def tokenizer_of(path: Path, change: Callable[[dict[str, Any]], None]) -> TextTokenizer:
    content = json.loads((BUILTIN / TEXT).read_bytes())
    change(content)
    path.write_text(json.dumps(content))
    return TextTokenizer.load(path)


def piece(length: int) -> Callable[[dict[str, Any]], None]:
    return lambda told: told["model"]["vocab"].update({"x" * length: 4096})


def added(length: int) -> Callable[[dict[str, Any]], None]:
    usual = BYTES["added_tokens"][0]
    return lambda told: told["added_tokens"].append({**usual, "id": 4096, "content": "x" * length})


@pytest.mark.parametrize("longest", [piece, added])
def test_the_longest_piece_is_taken_and_one_character_more_is_not(
    longest: Callable[[int], Callable[[dict[str, Any]], None]], tmp_path: Path
) -> None:
    assert tokenizer_of(tmp_path / "a", longest(256)).size == 4097
    with pytest.raises(CheckpointError, match="no byte-level BPE without a normalizer") as caught:
        tokenizer_of(tmp_path / "b", longest(257))
    assert caught.value.remedy == "use the tokenizer that belongs to the bundle"


@pytest.mark.parametrize(
    "change",
    [
        lambda told: told.update(normalizer={"type": "Lowercase"}),
        lambda told: told["model"].update(type="WordLevel"),
        lambda told: told.update(pre_tokenizer={"type": "Metaspace"}),
        lambda told: told.update(decoder={"type": "Replace"}),
        lambda told: told.update(
            pre_tokenizer={"type": "Sequence", "pretokenizers": [{"type": "Metaspace"}]}
        ),
    ],
)
def test_other_kinds_of_tokenizers_are_refused(
    change: Callable[[dict[str, Any]], None], tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match="no byte-level BPE without a normalizer"):
        tokenizer_of(tmp_path / "a", change)


@pytest.mark.parametrize(
    "change",
    [
        lambda told: told.update(pre_tokenizer=None),
        lambda told: told.update(decoder=None),
        lambda told: told["model"].update(type=None) or told["model"].pop("type"),
        lambda told: told.update(pre_tokenizer={"type": "Digits", "individual_digits": True}),
    ],
)
def test_what_a_byte_level_tokenizer_may_leave_out(
    change: Callable[[dict[str, Any]], None], tmp_path: Path
) -> None:
    assert tokenizer_of(tmp_path / "a", change).size == 4096


def test_a_tokenizers_file_of_just_the_limit_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert text.MAX_BYTES == 8 * 2**20
    size = (BUILTIN / TEXT).stat().st_size
    monkeypatch.setattr(text, "MAX_BYTES", size)
    assert TextTokenizer.load(BUILTIN / TEXT).size == 4096
    monkeypatch.setattr(text, "MAX_BYTES", size - 1)
    with pytest.raises(CheckpointError, match="the most that are read") as caught:
        TextTokenizer.load(BUILTIN / TEXT)
    assert caught.value.remedy == "use the tokenizer that belongs to the bundle, or fetch it again"


def test_a_panic_of_the_library_is_an_error_of_ours_and_an_interruption_stays_one() -> None:
    tokenizer = TextTokenizer.load(BUILTIN / TEXT)

    class Breaks:
        def encode(self, words: str, add_special_tokens: bool) -> None:
            raise Panic("p" * 500) if words else KeyboardInterrupt

    tokenizer._tokenizer = Breaks()
    with pytest.raises(CheckpointError) as caught:
        tokenizer.encode("a")
    assert caught.value.message == f"the text tokenizer is broken: {'p' * 200}"
    assert caught.value.remedy == "fetch the bundle again"
    with pytest.raises(KeyboardInterrupt):
        tokenizer.encode("")


# ---- pixels --------------------------------------------------------------------------------------


class Nothing:
    """A network of 3 bits that sees its input and gives what it is told."""

    config = CompactConfig(bits=3)
    computed_by = "nothing"

    def __init__(self, pixels: list[float]) -> None:
        self.pixels = pixels
        self.seen: list[Any] = []

    def encode(self, pixels: Any) -> Any:
        self.seen.append(pixels)
        return np.ones((3, pixels.shape[1] // 2, pixels.shape[2] // 2), np.float32)

    def decode(self, values: Any) -> Any:
        self.seen.append(values)
        return np.array(self.pixels, np.float32).reshape(3, 1, -1)


def test_pixels_are_scaled_as_show_o_scales_them() -> None:
    network = Nothing([-2, -1, 0, 1, 2, 0.999])
    tokenizer = NetworkTokenizer(lambda: network, 2, 8)
    assert (tokenizer.stride, tokenizer.codebook_size) == (2, 8)
    assert tokenizer.computed_by == "nothing"
    pixels = np.zeros((2, 4, 3), np.uint8)
    pixels[0, 0], pixels[0, 1, 0], pixels[1, 3, 2] = 255, 51, 204
    found = tokenizer.tokenize(pixels)
    assert found.codes.tolist() == [[7, 7]]
    seen = network.seen[0]
    assert seen.shape == (3, 2, 4)
    assert seen.dtype == np.float32
    assert [float(v) for v in (seen[0, 0, 0], seen[0, 0, 1], seen[1, 0, 1])] == pytest.approx(
        [1, -0.6, -1]
    )
    assert float(seen[2, 1, 3]) == pytest.approx(0.6)
    back = tokenizer.detokenize(found)
    assert back.tolist() == [[[0, 127, 255], [0, 255, 254]]]
    assert network.seen[1].shape == (3, 1, 2)


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((2, 2), np.uint8),
        np.zeros((2, 2, 4), np.uint8),
        np.zeros((2, 2, 3), np.float32),
        np.zeros((0, 2, 3), np.uint8),
        np.zeros((2, 0, 3), np.uint8),
        np.zeros((3, 2, 3), np.uint8),
        np.zeros((2, 5, 3), np.uint8),
    ],
)
def test_pixels_of_another_kind_or_size_are_refused(pixels: Any) -> None:
    tokenizer = NetworkTokenizer(lambda: Nothing([]), 2, 8)
    with pytest.raises(ImageError) as caught:
        tokenizer.tokenize(pixels)
    assert caught.value.message == f"cannot tokenise a {pixels.dtype} array of shape {pixels.shape}"
    assert caught.value.remedy == "give (H, W, 3) uint8 with H and W multiples of 2"


def test_codes_and_signs_are_each_others_inverse() -> None:
    codes = np.arange(32, dtype=np.int32).reshape(4, 8)
    values = values_of(codes, 5)
    assert values[:, 0, 1].tolist() == [-1, -1, -1, -1, 1]
    assert values[:, 2, 0].tolist() == [1, -1, -1, -1, -1]
    assert np.array_equal(codes_of(values), codes)


# ---- weights -------------------------------------------------------------------------------------


def refused(path: Path, said: str, remedy: str, kind: str = "compact") -> None:
    with pytest.raises(CheckpointError, match=said) as caught:
        load_network(kind, path, Compute.NUMPY)
    assert remedy in caught.value.remedy


def test_files_that_are_no_such_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"a": torch.zeros(2)}, path, {"format": "pt"})
    refused(path, "format 'pt', expected 'unimic-compact", "name a compact tokenizer's file")
    save_file({"a": torch.zeros(2)}, path)
    refused(path, "format None, expected", "name a compact tokenizer's file")
    save_file({"a": torch.zeros(2, 0)}, path)
    refused(path, "has tensors without any numbers", "fetch it again")
    each = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    path.write_bytes(safe_file({"a": each, "b": each}, bytes(8)))
    refused(path, "cannot read", "damaged or incomplete; fetch it again")

    def told(**changes: Any) -> bytes:
        def change(header: dict[str, Any]) -> None:
            config = json.loads(header["__metadata__"]["config"])
            header["__metadata__"]["config"] = json.dumps({**config, **changes})

        return with_header(IMAGES, change)

    path.write_bytes(told(bits=12))
    refused(path, "makes 13 bits a code and 3 colours, not 12 and 3", "of the model that was asked")


SIZES = [("bits", 20), ("encoder_channels", 4096), ("decoder_blocks", 64)]


@pytest.mark.parametrize(
    ("name", "most"), [*SIZES, ("decoder_channels", 4096), ("encoder_blocks", 64)]
)
def test_sizes_have_a_smallest_and_a_largest(name: str, most: int) -> None:
    def config(size: Any) -> CompactConfig:
        return CompactConfig(**{name: size if name == "bits" else (size, 1, 1)})

    config(1)
    config(most)
    for wrong in (0, most + 1, 1.0, True, "1"):
        with pytest.raises(CheckpointError, match=f"an image tokenizer's {name} is") as caught:
            config(wrong)
        count = 1 if name == "bits" else 3
        assert caught.value.remedy == f"use {count} whole numbers of 1 to {most:,}"


def test_levels_are_three_and_long_sizes_are_told_briefly() -> None:
    for wrong in ((1, 1), (1, 1, 1, 1), [1, 1, 1], 3):
        with pytest.raises(CheckpointError, match="encoder_channels is"):
            CompactConfig(encoder_channels=wrong)  # type: ignore[arg-type]
    with pytest.raises(CheckpointError) as caught:
        CompactConfig(encoder_blocks=(1,) * 100)  # type: ignore[arg-type]
    assert caught.value.message.endswith(" is " + str((1,) * 100)[:80])
    assert CompactConfig().stride == 16
    assert MagvitV2Config().stride == 16
    assert MagvitV2Config(CoderConfig(8, (1, 2), (1, 1))).stride == 2
    assert MagvitV2Config().codebook_size == 8192
    assert CoderConfig(8, (1, 2), (1, 1)).channels == (8, 16)


def test_a_config_is_read_back_or_refused() -> None:
    told = '{"bits": 5, "encoder_channels": [1, 2, 3]}'
    assert config_from_json(told) == CompactConfig(5, (1, 2, 3))
    for wrong in ("", "[]", "3", '{"more": 1}', "{"):
        with pytest.raises(CheckpointError, match="not an image tokenizer's config") as caught:
            config_from_json(wrong)
        assert caught.value.remedy == "fetch the file again"


def test_a_networks_sizes_are_read_off_its_weights() -> None:
    def conv(*levels: tuple[int, int], side: str) -> dict[str, tuple[int, ...]]:
        return {
            f"{side}.{level}.block.{block}.conv1.weight": (channels, 1)
            for level, (channels, blocks) in enumerate(levels)
            for block in range(blocks)
        }

    shapes: dict[str, tuple[int, ...]] = {
        "encoder.conv_in.weight": (4, 3), "decoder.norm_out.weight": (2,),
        "encoder.quant_conv.weight": (5, 5),
        **conv((4, 64), (8, 2), side="encoder.down"),
        **conv((2, 1), (6, 3), side="decoder.up"),
    }  # fmt: skip
    found = config_of(shapes)
    assert found.encoder == CoderConfig(4, (1, 2), (64, 2))
    assert found.decoder == CoderConfig(2, (1, 3), (1, 3))
    assert found.bits == 5
    for change, missing in (
        ({"encoder.down.1.block.0.conv1.weight": (7, 1)}, "encoder.down.0.block"),
        ({"decoder.norm_out.weight": (0,)}, "decoder.up.0.block"),
        ({"decoder.up.0.block.0.conv1.weight": None}, "decoder.up.0.block"),
        ({"encoder.quant_conv.weight": None}, "encoder.quant_conv.weight"),
    ):
        changed = {k: v for k, v in {**shapes, **change}.items() if v is not None}
        with pytest.raises(CheckpointError, match=f"{missing}.* is missing") as caught:
            config_of(changed)
        assert caught.value.remedy == "use the published file of showlab/magvitv2"


def test_weights_are_kept_or_converted_each_time() -> None:
    asked: list[str] = []

    def stored(name: str) -> Any:
        asked.append(name)
        return np.ones(2, np.float16)

    for keeps, times in ((True, 1), (False, 2)):
        asked.clear()
        weights = FloatWeights(stored, keeps)
        assert weights["a"].dtype == weights["a"].dtype == np.float32
        assert len(asked) == times


def test_a_small_files_weights_are_kept_and_a_larger_ones_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    size = (BUILTIN / IMAGES).stat().st_size
    kept = []
    monkeypatch.setattr(load, "FloatWeights", lambda stored, keeps: kept.append(keeps))
    for limit in (size, size - 1):
        monkeypatch.setattr(load, "_KEPT_BYTES", limit)
        load_network("compact", BUILTIN / IMAGES, Compute.NUMPY)
    assert kept == [True, False]


def test_arrays_are_read_or_mapped_from_where_they_lie(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    state = {
        "a": torch.arange(6.0).reshape(2, 3),
        "b": torch.arange(4, dtype=torch.float64),
        "c": torch.ones(3, dtype=torch.float16),
    }
    save_file({**state, "d": torch.ones(2, dtype=torch.int32)}, path)
    file = WeightFile(path)
    assert file.metadata == {}
    for name, tensor in state.items():
        assert np.array_equal(file.stored(name), tensor.numpy())
        assert np.array_equal(file.mapped(name), tensor.numpy())
        assert file.stored_type(name) == tensor.numpy().dtype
    for read in (file.stored, file.mapped):
        with pytest.raises(CheckpointError, match="d is I32, which numpy lacks"):
            read("d")


def test_channels_are_counted_layer_by_layer() -> None:
    channels = Channels({"a.weight": (7, 3, 3, 3), "e.weight": ()})
    assert channels.convolve(3, "a", 1) == 7
    assert channels.convolve(5, "b") == 5
    assert channels.convolve(5, "e", (0, 1, 0, 1), 2) == 5
    assert channels.group_norm(7, "n") == 7
    assert channels.to_depth(3, 4) == 48
    assert channels.to_space(48, 4) == 3
    assert (channels.add(1, 2), channels.attend(1, 2, 3), channels.silu(4)) == (1, 3, 4)
    assert channels.expected == {
        "a.weight": (7, 3, 3, 3), "a.bias": (7,), "b.weight": (5, 5, 1, 1), "b.bias": (5,),
        "e.weight": (5, 5, 3, 3), "e.bias": (5,), "n.weight": (7,), "n.bias": (7,),
    }  # fmt: skip
