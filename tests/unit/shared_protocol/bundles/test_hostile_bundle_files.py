"""Bundle files that promise what no file should hold: refused, in little memory and at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import hostile_bundles
import pytest
from hostile_bundles import BUILTIN, MASKS, PRIOR, TEXT, make_bundle

from shared_protocol.bundles.digests import digest_of
from shared_protocol.bundles.find import load_bundle
from shared_protocol.bundles.manifest import read_manifest
from shared_protocol.bundles.weight_files import check_safe_file, shards_of
from shared_protocol.coding.mask_codec import load_mask_prior
from shared_protocol.coding.text_codec import load_text_prior
from shared_protocol.entropy.checkpoint import load as load_entropy
from shared_protocol.errors import CheckpointError, ConfigError
from shared_protocol.tokenizers.load import load_network
from shared_protocol.tokenizers.text import TextTokenizer
from shared_protocol.words.known import KnownWords

MOST_MIB = 250
NO_FILES = ("a device", "a pipe", "a folder", "a link to itself", "a link to nothing")
READERS = {
    "digest": digest_of,
    "manifest": lambda path: read_manifest(path.parent),
    "text tokenizer": TextTokenizer.load,
    "text prior": load_text_prior,
    "mask prior": load_mask_prior,
    "words": KnownWords.load,
    "entropy models": load_entropy,
    "safetensors": check_safe_file,
    "image tokenizer": lambda path: load_network("compact", path),
    "index of shards": shards_of,
}


def open_in_child(folders: list[Path]) -> tuple[dict[str, str], float]:
    """What came of opening these bundles, and the most memory that it took, in MiB."""
    done = subprocess.run(
        [sys.executable, hostile_bundles.__file__, *map(str, folders)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout.splitlines()[-1])
    return told["told"], told["peak"]


@pytest.mark.slow
def test_files_that_claim_too_much_are_refused_in_little_memory(tmp_path: Path) -> None:
    files = hostile_bundles.hostile_files()
    folders = [
        make_bundle(tmp_path / name.replace("/", " "), *what) for name, what in files.items()
    ]
    told, peak = open_in_child(folders)
    assert len(told) == len(files)
    assert {name: said for name, said in told.items() if "CheckpointError" not in said} == {}
    assert peak < MOST_MIB


def test_a_bundle_of_good_files_opens(tmp_path: Path) -> None:
    hostile_bundles.open_all(make_bundle(tmp_path / "good"))


def _no_file(folder: Path, kind: str) -> Path:
    path = folder / "bundle.json"
    if kind == "a device":
        path.symlink_to("/dev/zero")
    elif kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a folder":
        path.mkdir()
    elif kind == "a link to itself":
        path.symlink_to(path)
    else:
        path.symlink_to(folder / "none")
    return path


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no devices here")
@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", NO_FILES)
def test_what_is_no_regular_file_is_refused_at_once(kind: str, reader: str, tmp_path: Path) -> None:
    path = _no_file(tmp_path, kind)
    with pytest.raises(ConfigError):
        READERS[reader](path)


def test_a_file_that_grows_is_read_no_further_than_its_limit(tmp_path: Path) -> None:
    path = tmp_path / MASKS
    path.write_bytes(bytes(1 << 20))
    with pytest.raises(CheckpointError, match="the most that are read"):
        load_mask_prior(path)


def test_a_link_to_a_regular_file_will_do(tmp_path: Path) -> None:
    (tmp_path / TEXT).symlink_to(BUILTIN / TEXT)
    assert TextTokenizer.load(tmp_path / TEXT).size == 4096


def test_whatever_a_reader_raises_becomes_an_error_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: Path) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr("shared_protocol.bundles.bundle.load_text_prior", broken)
    bundle = load_bundle(str(make_bundle(tmp_path / "good")))
    with pytest.raises(CheckpointError, match=rf"{PRIOR}: MemoryError.*install"):
        _ = bundle.text_prior
