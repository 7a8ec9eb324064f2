"""Published bundles: found in folders and in the hub's cache, and one fingerprint everywhere."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from official_files import small_files

from shared_protocol.bundles import digests
from shared_protocol.bundles import manifest as bundles
from shared_protocol.bundles.catalogue import CATALOGUE
from shared_protocol.bundles.digests import digest_of
from shared_protocol.bundles.find import load_bundle
from shared_protocol.bundles.published import find_transformer, load_published
from shared_protocol.errors import CheckpointError, ConfigError
from shared_protocol.tokens import ImageTokens


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine that holds nothing."""
    monkeypatch.setenv("UNIMIC_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("UNIMIC_MODELS", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


@pytest.fixture
def files(home: Path) -> Path:
    return small_files(home / "files")


def in_hub_cache(home: Path, repository: str, source: Path) -> Path:
    """Files as the hub's own client leaves them."""
    place = home / "hub" / f"models--{repository.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text("abc")
    snapshot = place / "snapshots" / "abc"
    (place / "snapshots").mkdir()
    source.rename(snapshot)
    return snapshot


def test_both_sizes_are_described_as_published() -> None:
    small, large = CATALOGUE["show-o"], CATALOGUE["show-o-512"]
    assert (small.side, large.side) == (16, 32)
    assert small.vocabulary.size == large.vocabulary.size == 58498
    assert small.vocabulary.image_offset == 50305
    assert (large.defaults.steps, large.defaults.guidance) == (50, 5.0)


@pytest.mark.parametrize("name", ["show-o", "show-o-512"])
def test_missing_files_name_the_commands_that_get_them(name: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        load_bundle(name)
    said = str(caught.value)
    for words in ("showlab/magvitv2", "microsoft/phi-1_5", f"'cloud-server fetch {name}'"):
        assert words in said
    assert "'edge-client fetch'" in said


def test_files_make_the_same_bundle_wherever_they_lie(
    home: Path, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNIMIC_MODELS", str(files))
    named = load_published("show-o")
    monkeypatch.delenv("UNIMIC_MODELS")
    in_hub_cache(home, "showlab/magvitv2", files / "magvitv2")
    in_hub_cache(home, "microsoft/phi-1_5", files / "phi-1_5")
    cached = load_published("show-o")
    assert named.fingerprint == cached.fingerprint
    assert named.fingerprint != load_published("show-o-512").fingerprint


def test_the_transformer_is_no_part_of_the_fingerprint(files: Path) -> None:
    first = load_bundle(str(files)).fingerprint
    (files / "show-o" / "pytorch_model.safetensors").write_bytes(b"another one")
    assert load_bundle(str(files)).fingerprint == first
    (files / "phi-1_5" / "tokenizer.json").write_bytes(b"{}")
    assert load_bundle(str(files)).fingerprint != first


def test_a_folder_is_described_by_the_configuration_in_it(files: Path) -> None:
    bundle = load_bundle(str(files))
    assert bundle.grid == (4, 4)
    assert bundle.vocabulary.size == 377
    assert bundle.text_tokenizer.size == 334
    assert bundle.entropy.available() == ()
    codes = bundle.image_tokenizer().tokenize(np.zeros((64, 64, 3), dtype=np.uint8))
    assert bundle.image_tokenizer().detokenize(codes).shape == (64, 64, 3)
    assert isinstance(codes, ImageTokens)


def test_a_device_needs_no_transformer_in_its_folder(files: Path) -> None:
    folder = files.rename(files.with_name("show-o"))
    (folder / "show-o" / "config.json").unlink()
    (folder / "show-o" / "pytorch_model.safetensors").unlink()
    (folder / "show-o").rmdir()
    assert load_bundle(str(folder)).vocabulary == CATALOGUE["show-o"].vocabulary


def test_a_folder_of_two_bundles_asks_which(files: Path) -> None:
    (files / "show-o-512x512").mkdir()
    with pytest.raises(ConfigError, match=r"UNIMIC_MODELS=.*show-o-512"):
        load_bundle(str(files))


@pytest.mark.parametrize("content", ["{", "{}", '{"num_vq_tokens": "many"}', "[]"])
def test_a_broken_configuration_is_refused(files: Path, content: str) -> None:
    (files / "show-o" / "config.json").write_text(content)
    with pytest.raises(ConfigError, match="not a Show-o configuration"):
        load_bundle(str(files))


def test_tokenizers_of_another_model_are_refused(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNIMIC_MODELS", str(files))
    bundle = load_bundle("show-o")  # in full size, with the tokenizers of the small one
    with pytest.raises(CheckpointError, match="334 ids, the bundle show-o needs 50295"):
        bundle.text_tokenizer.encode("a")
    with pytest.raises(CheckpointError, match="has 32 codes"):
        bundle.image_tokenizer().tokenize(np.zeros((64, 64, 3), dtype=np.uint8))


def test_the_transformer_is_found_beside_in_the_models_folder_or_in_the_hubs_cache(
    home: Path, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_transformer("show-o") is None
    assert find_transformer("another") is None
    assert find_transformer("show-o", files) == files / "show-o"
    monkeypatch.setenv("UNIMIC_MODELS", str(files))
    assert find_transformer("show-o") == files / "show-o"
    monkeypatch.delenv("UNIMIC_MODELS")
    snapshot = in_hub_cache(home, "showlab/show-o", files / "show-o")
    assert find_transformer("show-o") == snapshot


def test_an_installed_bundle_goes_before_published_files(
    home: Path, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNIMIC_MODELS", str(files))
    installed = home / "cache" / "bundles" / "show-o"
    installed.mkdir(parents=True)
    bundle = load_published("show-o")
    content = json.loads(bundle.manifest.canonical)
    (installed / bundles.MANIFEST).write_text(json.dumps({**content, "name": "mine"}))
    assert load_bundle("show-o").name == "mine"


@pytest.fixture
def large(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file whose digest is kept."""
    monkeypatch.setattr(digests, "LARGE_BYTES", 4)
    path = home / "large"
    path.write_bytes(b"0123456789")
    return path


def test_digests_of_large_files_are_kept_until_the_file_changes(
    large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = digest_of(large)
    stat = large.stat()
    large.write_bytes(b"9876543210")
    os.utime(large, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert digest_of(large) == first  # same size and time: not read again
    os.utime(large, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    second = digest_of(large)
    assert second != first
    large.write_bytes(b"0123456789")
    os.utime(large, ns=(stat.st_atime_ns, stat.st_mtime_ns + 2))
    assert digest_of(large) == first


def test_digests_need_no_cache(large: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = digest_of(large)
    (home / "cache" / "digests.json").write_text("not JSON")
    assert digest_of(large) == first
    monkeypatch.setenv("UNIMIC_CACHE", str(large / "no folder"))
    assert digest_of(large) == first
    with pytest.raises(CheckpointError, match="cannot read"):
        digest_of(home / "absent")
