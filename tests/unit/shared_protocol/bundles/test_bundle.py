"""The bundle manifest: read, checked against the files, and fingerprinted."""

import json
from pathlib import Path
from typing import Any

import pytest
from manifests import manifest_content

from shared_protocol.bundles.find import bundle_folder, load_bundle
from shared_protocol.bundles.manifest import MANIFEST, canonical_json, read_manifest, write_manifest
from shared_protocol.errors import CheckpointError, ConfigError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "text.json").write_text("{}")
    write_manifest(tmp_path, manifest_content())
    return tmp_path


def test_written_manifest_reads_back(folder: Path) -> None:
    manifest = read_manifest(folder)
    assert manifest.name == "test"
    assert manifest.grid == (16, 16)
    assert manifest.vocabulary.mask_id == 300 + 10 + 8192
    assert manifest.defaults.guidance == 1.5
    assert len(manifest.fingerprint) == 32


def test_fingerprint_changes_with_every_file_and_every_default(folder: Path) -> None:
    first = read_manifest(folder).fingerprint
    (folder / "text.json").write_text("{ }")
    write_manifest(folder, manifest_content())
    second = read_manifest(folder).fingerprint
    write_manifest(
        folder, manifest_content(defaults={"steps": 9, "guidance": 1.5, "max_new_tokens": 16})
    )
    assert len({first, second, read_manifest(folder).fingerprint}) == 3


def test_fingerprint_ignores_the_order_of_keys() -> None:
    assert canonical_json({"a": 1, "b": 2}) == canonical_json({"b": 2, "a": 1})


def test_changed_file_is_refused(folder: Path) -> None:
    (folder / "text.json").write_text("tampered")
    with pytest.raises(CheckpointError, match="changed or damaged"):
        load_bundle(str(folder)).path("text_tokenizer")


def test_missing_file_is_refused(folder: Path) -> None:
    (folder / "text.json").unlink()
    with pytest.raises(CheckpointError, match="cannot read"):
        load_bundle(str(folder)).path("text_tokenizer")


def test_missing_bundle_names_the_folder_and_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing.*builtin"):
        load_bundle(str(tmp_path / "nothing"))


@pytest.mark.parametrize(
    "change",
    [
        {"files": {"text_tokenizer": "../text.json"}},
        {"image_tokenizer": "other"},
        {"grid": [16]},
        {"vocabulary": {"text_size": 0, "codebook_size": 8192}},
        {"defaults": {}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_broken_manifest_is_refused(folder: Path, change: dict[str, Any]) -> None:
    (folder / MANIFEST).write_text(json.dumps({**manifest_content(**change), "sha256": {}}))
    with pytest.raises(ConfigError, match="not a bundle manifest"):
        read_manifest(folder)


def test_manifest_that_is_not_json_is_refused(folder: Path) -> None:
    (folder / MANIFEST).write_text("{")
    with pytest.raises(ConfigError, match="not JSON"):
        read_manifest(folder)


def test_bundle_without_priors_and_models_still_opens(folder: Path) -> None:
    bundle = load_bundle(str(folder))
    assert bundle.text_prior is None
    assert bundle.mask_prior is None


def test_unknown_name_is_looked_up_in_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNIMIC_CACHE", "/somewhere")
    assert bundle_folder("show-o") == Path("/somewhere/bundles/show-o")
