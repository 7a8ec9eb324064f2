"""Which files hold the weights at a path, and whether tensors have the names and shapes they must.

It does not read tensors (see `tensor_files`), nor know networks.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, TypeAlias

from shared_protocol.errors import CheckpointError
from shared_protocol.files import open_regular, read_regular

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
_MAX_HEADER, _MAX_INDEX = 4 << 20, 16 << 20
_MAX_TENSORS, _MAX_DIMENSIONS = 1 << 14, 8
_BYTES = {
    **dict.fromkeys(("BOOL", "I8", "U8", "F8_E4M3", "F8_E5M2"), 1),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 2),
    **dict.fromkeys(("I32", "U32", "F32"), 4),
    **dict.fromkeys(("I64", "U64", "F64"), 8),
}
"""safetensors' names of types to their sizes."""


def check_safe_file(path: Path, limit: int | None = None) -> dict[str, Any]:
    """The header of a safetensors file, once it fits the file to the byte.

    Nothing is allocated for what the header promises: its own length, the number of tensors, their
    shapes and where they lie are bounded by the bytes that are there.

    Args:
        path: the file.
        limit: most bytes that it may have; None = any number.

    Raises:
        CheckpointError: it is no regular file, too large, or its header makes no sense.
    """
    try:
        with open_regular(path, limit) as file:
            size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(_MAX_HEADER, size - 8):
                raise ValueError(f"a header of {length:,} bytes in a file of {size:,}")
            header: dict[str, Any] = json.loads(file.read(length))
        _check_header(header, size - 8 - length)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}", "fetch it again") from error
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
        told = f"cannot read {path}: its header makes no sense ({error})"
        raise CheckpointError(told, "the file is damaged or incomplete; fetch it again") from error
    return header


def _check_header(header: dict[str, Any], room: int) -> None:
    if len(header) > _MAX_TENSORS:
        raise ValueError(f"{len(header):,} tensors")
    for name, told in header.items():
        if name == "__metadata__":
            if not all(isinstance(value, str) for value in told.values()):
                raise ValueError("metadata that is no text")
            continue
        shape, (start, end) = told["shape"], told["data_offsets"]
        numbers = [*shape, start, end]
        if len(shape) > _MAX_DIMENSIONS or not all(type(each) is int for each in numbers):
            raise ValueError(f"{name[:80]} has the shape {str(shape)[:80]}")
        if min(numbers) < 0 or not start <= end <= room:
            raise ValueError(f"{name[:80]} lies at {start} to {end} of {room}")
        if prod(shape) * _BYTES[told["dtype"]] != end - start:
            raise ValueError(f"{name[:80]} is {told['dtype']}{shape} in {end - start} bytes")


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
        weight_map = json.loads(read_regular(index, _MAX_INDEX))["weight_map"]
        names = sorted(set(map(str, weight_map.values())))
    except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
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
