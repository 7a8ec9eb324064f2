"""A bundle for devices without torch: copied where numpy reads it, converted where it does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from cloud_server import cli
from shared_protocol.bundles.bundle import Bundle
from shared_protocol.bundles.export import export_edge
from shared_protocol.bundles.find import load_bundle
from shared_protocol.bundles.manifest import MANIFEST, read_manifest, write_manifest
from shared_protocol.compute import Compute
from shared_protocol.errors import CheckpointError, ConfigError
from shared_protocol.tokenizers.magvitv2 import MagvitV2
from shared_protocol.tokenizers.sizes import CoderConfig, MagvitV2Config
from shared_protocol.tokens import ImageTokens

TINY = MagvitV2Config(
    CoderConfig(32, (1, 1, 1, 1, 2), (1,) * 5), CoderConfig(32, (1,) * 5, (1,) * 5)
)


@pytest.fixture
def bundle(tmp_path: Path, request: pytest.FixtureRequest) -> Bundle:
    """The built-in bundle with a small MAGVIT-v2 in the form that the test asks for."""
    builtin, folder = load_bundle(), tmp_path / "source"
    folder.mkdir()
    name = request.param
    torch.manual_seed(0)
    state = MagvitV2(TINY).state_dict()
    if name.endswith(".bin"):
        torch.save(state, folder / name)
    elif name.startswith("bf16"):
        kept = {k: v.bfloat16() if v.is_floating_point() else v for k, v in state.items()}
        save_file(kept, folder / name)
    else:
        save_file(state, folder / name)
    files = {"image_tokenizer": name}
    for role in ("text_tokenizer", "mask_prior"):
        source = builtin.path(role)
        (folder / source.name).write_bytes(source.read_bytes())
        files[role] = source.name
    content: dict[str, Any] = {
        "name": "tiny", "vocabulary": vars(builtin.vocabulary), "grid": [2, 2],
        "stride": 16, "max_text_tokens": 40, "image_tokenizer": "magvitv2", "files": files,
        "defaults": {"steps": 4, "guidance": 1.0, "max_new_tokens": 10},
    }  # fmt: skip
    write_manifest(folder, content)
    return load_bundle(str(folder))


def pixels_of(folder: Path, compute: Compute) -> np.ndarray:
    codes = np.random.default_rng(0).integers(0, 8192, (2, 2)).astype(np.int32)
    tokenizer = load_bundle(str(folder), compute).image_tokenizer()
    return tokenizer.detokenize(ImageTokens(codes, 8192)).astype(int)


@pytest.mark.parametrize("bundle", ["w.safetensors"], indirect=True)
def test_what_numpy_reads_is_copied_and_keeps_its_fingerprint(
    bundle: Bundle, tmp_path: Path
) -> None:
    done = export_edge(bundle, tmp_path / "out")
    assert done.same
    assert done.fingerprint == bundle.fingerprint.hex()
    assert done.size == sum(path.stat().st_size for path in (tmp_path / "out").iterdir())
    assert read_manifest(tmp_path / "out").fingerprint == bundle.fingerprint
    copied = (tmp_path / "out" / "w.safetensors").read_bytes()
    assert copied == bundle.path("image_tokenizer").read_bytes()


@pytest.mark.parametrize("bundle", ["w.bin", "bf16.safetensors"], indirect=True)
def test_what_numpy_cannot_read_is_converted_and_is_another_bundle(
    bundle: Bundle, tmp_path: Path
) -> None:
    done = export_edge(bundle, tmp_path / "out")
    assert not done.same
    with safe_open(tmp_path / "out" / "image_tokenizer.safetensors", framework="np") as file:
        assert file.get_slice("encoder.conv_in.weight").get_dtype() == "F32"
    ours, theirs = pixels_of(done.folder, Compute.NUMPY), pixels_of(bundle.folder, Compute.TORCH)
    assert np.abs(ours - theirs).max() <= 1


@pytest.mark.parametrize("bundle", ["w.safetensors"], indirect=True)
def test_a_folder_with_files_and_a_damaged_bundle_are_refused(
    bundle: Bundle, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="already"):
        export_edge(bundle, bundle.folder)
    path = bundle.folder / "w.safetensors"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(CheckpointError, match="SHA-256"):
        export_edge(load_bundle(str(bundle.folder)), tmp_path / "other")
    (tmp_path / "a file").write_text("")
    with pytest.raises(ConfigError, match="cannot write"):
        export_edge(bundle, tmp_path / "a file" / "below")


@pytest.mark.parametrize("bundle", ["w.bin"], indirect=True)
def test_the_command_says_what_to_serve(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert cli.main(["export-edge", str(bundle.folder), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert (out / MANIFEST).is_file()
    assert f"cloud-server --bundle {out}" in said
    assert cli.main(["export-edge", str(bundle.folder), "--out", str(out)]) == cli.EXIT_CONFIG
