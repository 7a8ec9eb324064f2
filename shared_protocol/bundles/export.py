"""Writes a bundle as a folder that a device without torch can use.

It does not know the backbone. Files that numpy can read are copied as they are, so that both ends
still have one fingerprint; pickles and bfloat16 become float32 safetensors, which makes another
bundle: the server then serves the folder, too.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from shared_protocol.bundles.bundle import Bundle
from shared_protocol.bundles.manifest import (
    MANIFEST,
    canonical_json,
    read_manifest,
    write_manifest,
)
from shared_protocol.bundles.weight_files import SAFE
from shared_protocol.errors import CheckpointError, ConfigError
from shared_protocol.files import write_atomically

_TOKENIZER = "image_tokenizer"
_NUMPY_TYPES = ("F16", "F32", "F64", "I64", "I32")


@dataclass(frozen=True)
class Exported:
    """What was written.

    Args:
        folder: the bundle.
        fingerprint: of its content, 64 hex digits.
        same: whether it is the fingerprint of the bundle that was exported.
        size: bytes of all files.
    """

    folder: Path
    fingerprint: str
    same: bool
    size: int


def export_edge(bundle: Bundle, folder: Path) -> Exported:
    """Write the files of `bundle` that an edge needs into `folder`, which is made.

    Raises:
        ConfigError: there are files in it already, or it cannot be written.
        CheckpointError: a file of the bundle is missing or cannot be read.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise ConfigError(f"there are files in {folder} already", "name a new folder")
        converted = _write_files(bundle, folder)
    except OSError as error:
        raise ConfigError(f"cannot write {folder}: {error.strerror}", "name another") from error
    if converted is None:
        write_atomically(folder / MANIFEST, canonical_json(bundle.manifest.content()))
    else:
        content = bundle.manifest.content()
        del content["sha256"]
        content["files"][_TOKENIZER] = converted
        write_manifest(folder, content)
    found = read_manifest(folder).fingerprint
    size = sum(path.stat().st_size for path in folder.iterdir())
    return Exported(folder, found.hex(), found == bundle.fingerprint, size)


def _write_files(bundle: Bundle, folder: Path) -> str | None:
    """Copy or convert every file; the new name of the image tokenizer's, if it was converted."""
    converted = None
    world = bundle.manifest.typing.world
    for name in sorted({*bundle.manifest.files.values(), *([world] if world else [])}):
        source = bundle.file(name)
        if name != bundle.manifest.files[_TOKENIZER] or _numpy_reads(source):
            shutil.copyfile(source, folder / name)
        else:
            converted = f"{_TOKENIZER}{SAFE}"
            _convert(source, folder / converted)
    return converted


def _numpy_reads(path: Path) -> bool:
    from safetensors import SafetensorError, safe_open

    if path.suffix != SAFE:
        return False
    try:
        with safe_open(path, framework="numpy") as file:
            kinds = {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot read {path}: {error}", "fetch it again") from error
    return kinds <= set(_NUMPY_TYPES)


def _convert(source: Path, target: Path) -> None:
    import torch
    from safetensors.torch import save_file

    from shared_protocol.bundles.tensor_files import open_tensors, placed

    state = {name: placed(tensor, "cpu", torch.float32) for name, tensor in open_tensors(source)}
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, target)
