"""The bundle manifest: read, checked against the files, and fingerprinted."""

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from manifests import manifest_content

from shared_protocol.bundles.digests import digest_of
from shared_protocol.bundles.find import bundle_folder, load_bundle
from shared_protocol.bundles.manifest import (
    MANIFEST,
    canonical_json,
    manifest_from,
    read_manifest,
    write_manifest,
)
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


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"grid": [0, 16]}, "grid height is 0"),
        ({"grid": [16, 10**9]}, "grid width is 1000000000"),
        ({"grid": [16.0, 16]}, "grid height is 16.0"),
        ({"stride": 0}, "stride is 0"),
        ({"stride": True}, "stride is True"),
        ({"max_text_tokens": -1}, "max_text_tokens is -1"),
        ({"vocabulary": {"text_size": 2**40, "codebook_size": 8192}}, "number of ids"),
        ({"grid": [64, 16], "stride": 64}, "picture height in pixels is 4096"),
        ({"name": "red\x1b[31m"}, "the name is"),
        ({"name": "n" * 65}, "the name is"),
        ({"name": 7}, "the name is"),
        ({"files": {"text_tokenizer": "a\0b"}}, "not a plain file name"),
        ({"files": {"text_tokenizer": "nul.json"}}, "not a plain file name"),
        ({"files": {"text_tokenizer": "..\\text.json"}}, "not a plain file name"),
        ({"files": {"text_tokenizer": "\u202etxt.json"}}, "not a plain file name"),
        ({"files": {"text_tokenizer": ".profile"}}, "not a plain file name"),
        ({"files": {"text_tokenizer": "t" * 300}}, "is no name of up to 128"),
        ({"files": {"text_tokenizer": "other.json"}}, "no digest of other.json"),
        ({"sha256": {"text.json": "aa"}}, "for a digest"),
        ({"typing": {"text": "plain", "world": "w.json", "sha256": "aa"}}, "is no digest"),
        ({"vocabulary": {"text_size": 2**64, "codebook_size": 8192}}, "number of ids"),
        ({"defaults": {"steps": 8, "guidance": "1", "max_new_tokens": 16}}, "TypeError"),
        ({"defaults": {"steps": 0, "guidance": 1.5, "max_new_tokens": 16}}, "steps is 0"),
        ({"defaults": {"steps": 8, "guidance": float("nan"), "max_new_tokens": 16}}, "guidance"),
        ({"defaults": {"steps": 8, "guidance": 1e9, "max_new_tokens": 16}}, "guidance"),
        ({"defaults": {"steps": 8, "guidance": 1.5, "max_new_tokens": 10**6}}, "max_new_tokens"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_manifest_with_a_value_out_of_range_is_refused(
    folder: Path, change: dict[str, Any], said: str
) -> None:
    content = {"sha256": {"text.json": "aa" * 32}, **manifest_content(**change)}
    (folder / MANIFEST).write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=said):
        read_manifest(folder)


def test_nesting_that_json_can_read_and_not_write_is_refused(folder: Path) -> None:
    deep: Any = []
    for _ in range(900):
        deep = [deep]
    text = json.dumps({**manifest_content(sha256={"text.json": "aa" * 32}), "more": "HERE"})
    nested = "[" * 20_000 + "]" * 20_000
    for inner in (json.dumps(deep), nested):
        (folder / MANIFEST).write_text(text.replace('"HERE"', inner))
        with suppress(ConfigError):
            read_manifest(folder)


def test_deeply_nested_json_is_refused(folder: Path) -> None:
    (folder / MANIFEST).write_text("[" * 100_000)
    with pytest.raises(ConfigError, match="not JSON"):
        read_manifest(folder)


def test_the_tokenizers_fingerprint_hangs_on_what_gives_codes_their_meaning_alone() -> None:
    def fingerprint(digest: str = "aa" * 32, **changes: Any) -> bytes:
        files = {"image_tokenizer": "i", "text_tokenizer": "t", "entropy_generic": "e"}
        content = manifest_content(files=files, **changes)
        other = hashlib.sha256(changes.get("name", "").encode()).hexdigest()
        digests = {"i": digest, "t": other, "e": other}
        return manifest_from({**content, "sha256": digests}).tokenizer_fingerprint

    first = fingerprint()
    assert fingerprint(name="another name, text tokenizer and entropy models") == first
    assert fingerprint(grid=[8, 8], max_text_tokens=9) == first
    others = {
        fingerprint("bb" * 32),
        fingerprint(stride=8),
        fingerprint(image_tokenizer="magvitv2"),
        fingerprint(vocabulary={"text_size": 300, "codebook_size": 4096}),
    }
    assert len({first, *others}) == 5


def test_every_file_is_hashed_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[Path] = []

    def counted(path: Path) -> str:
        hashed.append(path)
        return digest_of(path)

    monkeypatch.setattr("shared_protocol.bundles.bundle.digest_of", counted)
    bundle = load_bundle(str(folder))
    for _ in range(3):
        bundle.path("text_tokenizer")
        bundle.file("text.json")
    assert hashed == [folder / "text.json"]


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
