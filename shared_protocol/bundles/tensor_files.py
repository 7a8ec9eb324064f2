"""Checkpoints as tensors read one at a time: one file or shards, safetensors or plain pickles.

It does not know networks, nor which keys a checkpoint should hold.

Nothing but tensors is ever read: pickles go through torch's `weights_only` reader, which runs no
code. Files are mapped, not read, so that a tensor costs memory only while it is being copied.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from shared_protocol.bundles.weight_files import (
    SAFE,
    SUFFIXES,
    Shape,
    check_safe_file,
    check_shapes,
    weight_files,
)
from shared_protocol.errors import CheckpointError
from shared_protocol.files import open_regular

_MAPPED_BYTES = 256 * 2**20
"""After so much of it a mapped file is mapped again, or all of it would stay in memory."""


class TensorFiles:
    """The tensors of one checkpoint.

    Args:
        files: see `weight_files`.
        rename: stored name to the name used here; None leaves a tensor out.

    Attributes:
        shapes: name to shape, of all tensors.

    Raises:
        CheckpointError: a file cannot be read, holds anything but tensors, or a name comes twice.
    """

    def __init__(
        self, files: Sequence[Path], rename: Callable[[str], str | None] = lambda name: name
    ) -> None:
        self.files = tuple(files)
        self._rename = rename
        self.shapes: dict[str, Shape] = {}
        for file in self.files:
            for stored, shape in _shapes_in(file).items():
                name = rename(stored)
                if name is not None and name in self.shapes:
                    raise CheckpointError(f"{file} holds {stored} once more", "use one checkpoint")
                if name is not None:
                    self.shapes[name] = shape

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        """Name and tensor, one by one.

        A tensor lies in the mapped file: copy what is to outlive the step.
        """
        for file in self.files:
            reader = _read_safe if file.suffix == SAFE else _read_pickle
            for stored, tensor in reader(file):
                name = self._rename(stored)
                if name is not None:
                    yield name, tensor


def open_tensors(
    path: Path, rename: Callable[[str], str | None] = lambda name: name
) -> TensorFiles:
    """The tensors at `path`, a folder, an index or a file; see `TensorFiles`."""
    return TensorFiles(weight_files(path), rename)


def load_into(
    network: nn.Module,
    tensors: TensorFiles,
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> None:
    """Give a network without memory (on the meta device) its weights, one tensor at a time.

    Args:
        network: its parameters and buffers are replaced.
        tensors: exactly the network's keys and shapes, in any float dtype.
        device: where the weights are to lie.
        dtype: of all floats; integers stay what they are.

    Raises:
        CheckpointError: tensors are missing, unexpected or misshapen.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    check_shapes(expected, tensors.shapes, tensors.files)
    state = {name: placed(tensor, device, dtype) for name, tensor in tensors}
    network.load_state_dict(state, assign=True)


def placed(tensor: Tensor, device: str, dtype: torch.dtype) -> Tensor:
    """A copy of `tensor` on `device`, floats as `dtype`."""
    kind = dtype if tensor.is_floating_point() else tensor.dtype
    # The cast comes first: half the bytes travel to a GPU.
    return tensor.to(kind).to(device) if device != "cpu" else tensor.to(kind, copy=True)


def _shapes_in(file: Path) -> dict[str, Shape]:
    if file.suffix not in SUFFIXES:
        raise CheckpointError(f"cannot read {file}", f"weights end in {', '.join(SUFFIXES)}")
    if file.suffix != SAFE:
        return {name: tuple(tensor.shape) for name, tensor in _read_pickle(file)}
    check_safe_file(file)
    try:
        with safe_open(file, framework="pt") as handle:
            return {name: tuple(handle.get_slice(name).get_shape()) for name in handle.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError) as error:
        raise CheckpointError(f"cannot read {file}: {error}", _INCOMPLETE) from error


_MAP = "it must map names to tensors"
_INCOMPLETE = "the file is damaged or incomplete; fetch it again"


def _read_safe(file: Path) -> Iterator[tuple[str, Tensor]]:
    names = list(_shapes_in(file))
    while names:
        mapped = 0
        try:
            with safe_open(file, framework="pt") as handle:
                while names and mapped < _MAPPED_BYTES:
                    name = names.pop(0)
                    tensor = handle.get_tensor(name)
                    mapped += tensor.nbytes
                    yield name, tensor
        except (OSError, SafetensorError, ValueError) as error:
            raise CheckpointError(f"cannot read {file}: {error}", _INCOMPLETE) from error


def _read_pickle(file: Path) -> Iterator[tuple[str, Tensor]]:
    state = _unpickled(file)
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping):
        raise CheckpointError(
            f"{file} holds a {type(state).__name__}", "it must map names to tensors"
        )
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise CheckpointError(f"{file} holds {name!r}, a {type(tensor).__name__}", _MAP)
        yield name, tensor.detach()


def _unpickled(file: Path) -> object:
    """What the file holds, by torch's reader of plain tensors; mapped where the format allows."""
    try:
        open_regular(file).close()
        try:
            return torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:  # the format before torch 1.6 cannot be mapped
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{file} holds more than tensors, which is not read: {str(error).splitlines()[0]}",
            "use a .safetensors file",
        ) from error
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, AttributeError) as error:
        raise CheckpointError(f"cannot read {file}: {error}", _INCOMPLETE) from error
