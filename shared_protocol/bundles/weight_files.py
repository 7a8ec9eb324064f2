"""Which files hold the weights at a path, and whether tensors have the names and shapes they must.

It does not read tensors (see `tensor_files`), nor know networks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from shared_protocol.errors import CheckpointError

Shape: TypeAlias = tuple[int, ...]

WEIGHT_NAMES = (
    "diffusion_pytorch_model.safetensors.index.json",
    "model.safetensors.index.json",
    "pytorch_model.safetensors.index.json",
    "diffusion_pytorch_model.bin.index.json",
    "pytorch_model.bin.index.json",
    "pytorch_model.safetensors",
    "model.safetensors",
    "diffusion_pytorch_model.safetensors",
    "pytorch_model.bin",
    "diffusion_pytorch_model.bin",
)
"""Under which names published weights are found in a folder, in this order; safetensors first."""
SAFE, INDEX = ".safetensors", ".json"
SUFFIXES = (SAFE, ".bin", ".pt", ".pth")
_MAX_LISTED = 8


def weight_files(path: Path) -> list[Path]:
    """The files with the weights at `path`: a folder, an index of shards, or one file.

    Raises:
        CheckpointError: there is none, a shard is missing, or the index is no index.
    """
    if path.is_dir():
        found = [path / name for name in WEIGHT_NAMES if (path / name).is_file()]
        if not found:
            names = ", ".join(WEIGHT_NAMES)
            raise CheckpointError(f"no weights in {path}", f"expected one of {names}")
        path = found[0]
    if not path.is_file():
        raise CheckpointError(f"no weights at {path}", "check the path")
    files = [path.parent / name for name in shards_of(path)] if path.suffix == INDEX else [path]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise CheckpointError(
            f"{path} names shards that are not there: {_listed(missing)}", "fetch them again"
        )
    return files


def shards_of(index: Path) -> list[str]:
    """The names of the files that an index of shards lists, each once.

    Raises:
        CheckpointError: it cannot be read, or names something else than files beside it.
    """
    try:
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        names = sorted(set(weight_map.values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{index} is no index of shards: {error!r}") from error
    strange = [name for name in names if Path(name).name != name or name in ("", ".", "..")]
    if strange or not names:
        raise CheckpointError(f"{index} names {strange or 'no files'}", "it must name files beside")
    return names


def check_shapes(
    expected: Mapping[str, Shape], found: Mapping[str, Shape], files: Sequence[Path]
) -> None:
    """Raise a `CheckpointError` that lists the tensors that are not as they should be, if any."""
    misshapen = [
        f"{name} is {found[name]}, not {shape}"
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]
    kinds = {
        "missing": sorted(expected.keys() - found.keys()),
        "unexpected": sorted(found.keys() - expected.keys()),
        "misshapen": misshapen,
    }
    if any(kinds.values()):
        listed = [
            f"{len(names)} {kind}: {_listed(names)}" for kind, names in kinds.items() if names
        ]
        where = f"{files[0].parent}/{_listed([file.name for file in files])}"
        raise CheckpointError(
            f"the checkpoint {where} does not fit the network ({'; '.join(listed)})",
            "check that the files are complete and of the model that was asked for",
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_MAX_LISTED]) + (", ..." if len(names) > _MAX_LISTED else "")
