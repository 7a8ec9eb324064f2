import shutil
from pathlib import Path

import pytest

from shared_protocol.bundles.digests import digest_of_weights
from shared_protocol.errors import CheckpointError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = tmp_path / "model"
    model.mkdir()
    (model / "a-0.safetensors").write_bytes(b"first")
    (model / "a-1.safetensors").write_bytes(b"second")
    return model


def test_weights_have_one_digest_wherever_they_lie(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "config.json").write_text("{}")  # no weights
    assert digest_of_weights(copy) == digest_of_weights(folder)
    assert digest_of_weights(folder / "a-0.safetensors") != digest_of_weights(folder)


def test_another_weight_is_another_digest(folder: Path) -> None:
    before = digest_of_weights(folder)
    (folder / "a-1.safetensors").write_bytes(b"other")
    assert digest_of_weights(folder) != before


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"gone\.safetensors"):
        digest_of_weights(tmp_path / "gone.safetensors")


def test_nothing_has_no_digest(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "gone"):
        with pytest.raises(CheckpointError, match="no weights at"):
            digest_of_weights(path)
