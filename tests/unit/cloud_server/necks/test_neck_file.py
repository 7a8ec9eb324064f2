"""Files of necks: there and back, and every way in which one cannot be used."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_clip import save_tiny_clip
from tiny_necks import NAMES, TOKENIZER, neck_content, write_tiny_neck

from cloud_server.necks.classifier import Classifier, FeatureNeck
from cloud_server.necks.load import load_neck
from cloud_server.necks.neck_file import NeckFile, read_neck_file, write_neck_file
from cloud_server.necks.networks import NeckSizes, build_neck
from shared_protocol.errors import CheckpointError, InvalidInputError, TokenRangeError

TOKENS = np.arange(512, dtype=np.int64).reshape(2, 256)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_tiny_neck(tmp_path / "neck.safetensors")


def test_a_loaded_neck_is_a_classifier(path: Path) -> None:
    neck = load_neck(path, tokenizer_fingerprint=TOKENIZER)
    assert isinstance(neck, Classifier)
    assert not isinstance(neck, FeatureNeck)
    assert neck.labels == NAMES
    assert neck.fingerprint == hashlib.sha256(path.read_bytes()).hexdigest()
    found = neck.classify(TOKENS)
    assert found.shape == (2, 3)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(found, neck.classify(TOKENS))


def test_a_picture_does_not_depend_on_its_neighbours(path: Path) -> None:
    neck = load_neck(path, tokenizer_fingerprint=TOKENIZER)
    assert isinstance(neck, Classifier)
    alone = np.concatenate([neck.classify(TOKENS[:1]), neck.classify(TOKENS[1:])])
    np.testing.assert_allclose(neck.classify(TOKENS), alone, atol=1e-6)


def test_serving_needs_no_stem(path: Path, tmp_path: Path) -> None:
    content = neck_content()
    tail = {n: t for n, t in content.tensors.items() if not n.startswith("encoder.stem.")}
    assert len(tail) < len(content.tensors)
    other = tmp_path / "tail.safetensors"
    write_neck_file(other, replace(content, tensors=tail))
    whole, half = (load_neck(each, tokenizer_fingerprint=TOKENIZER) for each in (path, other))
    assert isinstance(whole, Classifier)
    assert isinstance(half, Classifier)
    np.testing.assert_array_equal(whole.classify(TOKENS), half.classify(TOKENS))


def test_what_was_written_is_read(path: Path) -> None:
    content, read = neck_content(), read_neck_file(path)
    assert replace(read, tensors={}) == replace(content, tensors={})
    assert read.tensors.keys() == content.tensors.keys()


@pytest.mark.parametrize(
    ("tokens", "error"),
    [
        (np.zeros(256, np.int64), InvalidInputError),
        (np.zeros((1, 250), np.int64), InvalidInputError),
        (np.zeros((1, 0), np.int64), InvalidInputError),
        (np.full((1, 256), 8192), TokenRangeError),
        (np.full((1, 256), -1), TokenRangeError),
    ],
)
def test_tokens_that_are_none_are_refused(
    path: Path, tokens: np.ndarray, error: type[Exception]
) -> None:
    neck = load_neck(path, tokenizer_fingerprint=TOKENIZER)
    assert isinstance(neck, Classifier)
    with pytest.raises(error):
        neck.classify(tokens)


def test_a_neck_of_another_tokenizer_is_refused(path: Path) -> None:
    with pytest.raises(CheckpointError, match="abababababababab") as caught:
        load_neck(path, tokenizer_fingerprint="cd" * 32)
    assert "train neck" in caught.value.remedy


def _changed(path: Path, **metadata: str) -> Path:
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    save_file(load_file(path), path, {**header["__metadata__"], **metadata})
    return path


@pytest.mark.parametrize(
    ("metadata", "told"),
    [
        ({"encoder": "resnet"}, "'resnet'"),
        ({"format": "unimic-judge"}, "no neck"),
        ({"version": "2"}, "version '2'"),
        ({"labels": "[1]"}, "damaged"),
        ({"labels": '["fox", "fox", "car"]'}, "2 of them different"),
        ({"labels": '["", "b", "c"]'}, "0 characters"),
        ({"labels": '["fox"]'}, "does not fit"),
        ({"labels": "[" * 100_000}, "damaged"),
        ({"sizes": "{}"}, "damaged"),
        ({"sizes": '{"kind": "conv", "width": 64}'}, "does not fit"),
        ({"sizes": '{"kind": "conv", "width": 128, "blocks": 1, "side": 1e99}'}, "side is"),
        ({"entry": "x"}, "damaged"),
        ({"kind": "vit"}, "kind"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused(
    path: Path, metadata: dict[str, str], told: str
) -> None:
    with pytest.raises(CheckpointError, match=told) as caught:
        load_neck(_changed(path, **metadata), tokenizer_fingerprint=TOKENIZER)
    assert caught.value.remedy


@pytest.mark.parametrize("damage", [b"", b"\x00" * 40, b"not a neck at all" * 9])
def test_bytes_that_are_no_file_of_tensors_are_refused(path: Path, damage: bytes) -> None:
    path.write_bytes(damage)
    with pytest.raises(CheckpointError):
        load_neck(path, tokenizer_fingerprint=TOKENIZER)


def test_a_shortened_or_missing_file_is_refused(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError):
        load_neck(path, tokenizer_fingerprint=TOKENIZER)
    path.unlink()
    with pytest.raises(CheckpointError):
        load_neck(path, tokenizer_fingerprint=TOKENIZER)


def test_weights_that_are_no_numbers_are_refused(path: Path) -> None:
    content = neck_content()
    name = next(iter(content.tensors))
    broken = {**content.tensors, name: torch.full_like(content.tensors[name], float("nan"))}
    write_neck_file(path, replace(content, tensors=broken))
    with pytest.raises(CheckpointError, match="not finite"):
        load_neck(path, tokenizer_fingerprint=TOKENIZER)


def clip_neck(path: Path, labels: tuple[str, ...] = (), side: int = 4) -> Path:
    torch.manual_seed(6)
    sizes = NeckSizes("vit", 16, side=side, heads=2)
    tensors: dict[str, Any] = {f"neck.{n}": t for n, t in build_neck(sizes).state_dict().items()}
    if labels:
        tensors["label_rows"] = torch.nn.functional.normalize(torch.rand(len(labels), 8), dim=1)
    write_neck_file(path, NeckFile(sizes, TOKENIZER, "clip", 2, labels, tensors))
    return path


def test_a_neck_into_clip_gives_features_of_every_patch(tmp_path: Path) -> None:
    save_tiny_clip(tmp_path / "encoder")
    neck = load_neck(clip_neck(tmp_path / "neck.safetensors"), tokenizer_fingerprint=TOKENIZER)
    assert isinstance(neck, FeatureNeck)
    assert not isinstance(neck, Classifier)
    assert neck.features(TOKENS).shape == (2, 16, 16)


def test_a_neck_into_clip_with_labels_does_both(tmp_path: Path) -> None:
    folder = save_tiny_clip(tmp_path / "elsewhere")
    path = clip_neck(tmp_path / "neck.safetensors", ("cat", "dog"))
    neck = load_neck(path, tokenizer_fingerprint=TOKENIZER, encoder=folder)
    assert isinstance(neck, FeatureNeck)
    assert isinstance(neck, Classifier)
    np.testing.assert_allclose(neck.classify(TOKENS).sum(axis=1), 1, atol=1e-6)


def test_a_clip_of_another_size_or_place_is_told(tmp_path: Path) -> None:
    path = clip_neck(tmp_path / "neck.safetensors", side=8)
    with pytest.raises(CheckpointError, match="no CLIP"):
        load_neck(path, tokenizer_fingerprint=TOKENIZER)
    folder = save_tiny_clip(tmp_path / "encoder")
    with pytest.raises(CheckpointError, match=r"8x8.*4x4"):
        load_neck(path, tokenizer_fingerprint=TOKENIZER, encoder=folder)


FORBIDDEN = (
    "shared_protocol.tokenizers.compact",
    "shared_protocol.tokenizers.magvitv2",
    "shared_protocol.tokenizers.numpy_layers",
    "shared_protocol.tokenizers.onnx_network",
    "shared_protocol.tokenizers.torch_network",
    "cloud_server.training",
)


def test_a_classification_loads_no_image_tokenizer_and_no_recipe(path: Path) -> None:
    code = (
        "import sys, numpy\n"
        "from pathlib import Path\n"
        "from cloud_server.necks.load import load_neck\n"
        f"neck = load_neck(Path({str(path)!r}), tokenizer_fingerprint={TOKENIZER!r})\n"
        "neck.classify(numpy.zeros((1, 256), numpy.int64))\n"
        f"print([m for m in sys.modules if m.startswith({FORBIDDEN!r})])\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
