"""Opens an image tokenizer's file and chooses what computes it.

It does not know how layers are computed, nor pixels. A file's names and shapes are checked before
anything is computed, by walking through the network with numbers of channels instead of maps.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from shared_protocol.bundles.weight_files import SAFE, Shape, check_safe_file, check_shapes
from shared_protocol.compute import Compute
from shared_protocol.errors import CheckpointError, ConfigError
from shared_protocol.tokenizers import networks
from shared_protocol.tokenizers.networks import Layers, Padding
from shared_protocol.tokenizers.sizes import (
    COMPACT_FORMAT,
    CompactConfig,
    MagvitV2Config,
    config_from_json,
    config_of,
)

if TYPE_CHECKING:
    from shared_protocol.tokenizers.image import Floats, LfqNetwork

_KEPT_BYTES = 64 * 2**20
"""Of a smaller file every array is converted once and kept; of a larger one it is read each time,
so that memory holds one layer's weights and not all."""
_TYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}
"""safetensors' names of types to numpy's."""
_SAY_EXPORT = "'cloud-server export-edge' makes a bundle that needs no torch; or install torch"


@dataclass(frozen=True)
class Architecture:
    """A kind of image tokenizer.

    Args:
        config: sizes of a file, from its metadata and shapes.
        encoder, decoder: walk through the network; see `networks`.
        published: the sizes that the graphs are made for.
        half: the graphs take weights as float16, as the shipped file holds them.
        constants: names of arrays that a file may hold besides the network's.
        large: it takes so long that onnxruntime is worth its start.
    """

    config: Callable[[Mapping[str, str], Mapping[str, Shape], Path], Any]
    encoder: Callable[[Layers, Any, Any], Any]
    decoder: Callable[[Layers, Any, Any], Any]
    published: Any
    half: bool = False
    constants: frozenset[str] = frozenset()
    large: bool = False


def _compact_config(
    metadata: Mapping[str, str], shapes: Mapping[str, Shape], path: Path
) -> CompactConfig:
    if metadata.get("format") != COMPACT_FORMAT:
        found = metadata.get("format")
        raise CheckpointError(
            f"{path}: format {found!r}, expected {COMPACT_FORMAT!r}",
            "name a compact tokenizer's file",
        )
    return config_from_json(metadata.get("config", ""))


def _magvitv2_config(
    metadata: Mapping[str, str], shapes: Mapping[str, Shape], path: Path
) -> MagvitV2Config:
    return config_of(shapes)


ARCHITECTURES = {
    "compact": Architecture(
        _compact_config,
        networks.compact_encoder,
        networks.compact_decoder,
        CompactConfig(),
        half=True,
    ),
    "magvitv2": Architecture(
        _magvitv2_config,
        networks.magvitv2_encoder,
        networks.magvitv2_decoder,
        MagvitV2Config(),
        constants=frozenset({"quantize.embedding", "quantize.power_vals"}),
        large=True,
    ),
}
"""The kinds of image tokenizer that there are, by the name that a manifest gives them."""


def load_network(kind: str, path: Path, compute: Compute = Compute.AUTO) -> LfqNetwork:
    """The network in a file, ready to compute.

    Args:
        kind: one of `ARCHITECTURES`.
        path: its weights.
        compute: what computes; see `Compute`.

    Raises:
        CheckpointError: the file cannot be read, or its tensors are not those of such a network.
        ConfigError: what should compute is not installed.
    """
    if compute in (Compute.TORCH, Compute.CUDA):
        return _by_torch(kind, path, compute)
    if path.suffix != SAFE:
        if find_spec("torch") is None:
            raise CheckpointError(f"{path} cannot be read without torch", _SAY_EXPORT)
        return _by_torch(kind, path, Compute.TORCH)
    file = WeightFile(path)
    architecture = ARCHITECTURES[kind]
    config = architecture.config(file.metadata, file.shapes, path)
    _check(file, architecture, config)
    if _wants_onnx(architecture, config, compute):
        from shared_protocol.tokenizers.onnx_network import OnnxNetwork

        return OnnxNetwork(kind, file, config, architecture.half)
    return _by_numpy(file, architecture, config)


def _wants_onnx(architecture: Architecture, config: Any, compute: Compute) -> bool:
    fits = config == architecture.published
    if compute is not Compute.ONNX:
        wanted = compute is Compute.AUTO and architecture.large and fits
        return wanted and not _fault_of_onnx()
    fault = _fault_of_onnx()
    if fault:
        raise ConfigError(f"onnxruntime {fault}", 'pip install "unimic[onnx]"')
    if not fits:
        raise ConfigError(
            "there is no graph for an image tokenizer of these sizes", "compute with numpy"
        )
    return True


def _fault_of_onnx() -> str:
    """Why onnxruntime cannot be used; nothing if it can."""
    if find_spec("onnxruntime") is None:
        return "is not installed"
    try:
        options = importlib.import_module("onnxruntime").SessionOptions
    except Exception as error:  # a broken installation of a compiled package raises nearly anything
        return f"cannot be imported: {error}"
    return "" if hasattr(options, "add_external_initializers") else "is too old"


def _by_torch(kind: str, path: Path, compute: Compute) -> LfqNetwork:
    if find_spec("torch") is None:
        raise ConfigError("torch is not installed", 'pip install "unimic[torch]"')
    from shared_protocol.tokenizers.torch_network import load_torch_network

    return load_torch_network(kind, path, "cuda" if compute is Compute.CUDA else "cpu")


def _by_numpy(file: WeightFile, architecture: Architecture, config: Any) -> LfqNetwork:
    from shared_protocol.tokenizers.numpy_layers import NumpyNetwork

    keeps = file.path.stat().st_size <= _KEPT_BYTES
    floats = FloatWeights(file.stored, keeps)
    return NumpyNetwork(config, floats, architecture.encoder, architecture.decoder)


class FloatWeights(dict[str, "Floats"]):
    """Arrays as float32 by name, converted when they are first asked for.

    Args:
        stored: gives an array as it is stored.
        keeps: whether an array stays once it is converted.
    """

    def __init__(self, stored: Callable[[str], npt.NDArray[Any]], keeps: bool) -> None:
        super().__init__()
        self._stored, self._keeps = stored, keeps

    def __missing__(self, name: str) -> Floats:
        array: Floats = self._stored(name).astype(np.float32, copy=False)
        if self._keeps:
            self[name] = array
        return array


class WeightFile:
    """The arrays of a safetensors file by name; what is not asked for is not read.

    Raises:
        CheckpointError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        from safetensors import SafetensorError, safe_open

        self.path = path
        header = check_safe_file(path)
        try:
            file: Any = safe_open(path, framework="numpy")
            self.metadata: dict[str, str] = file.metadata() or {}
            names = list(file.keys())
            self.shapes = {name: tuple(file.get_slice(name).get_shape()) for name in names}
        except (OSError, SafetensorError, ValueError) as error:
            raise CheckpointError(
                f"cannot read {path}: {error}", "the file is damaged or incomplete; fetch it again"
            ) from error
        if any(0 in shape for shape in self.shapes.values()):
            raise CheckpointError(f"{path} has tensors without any numbers", "fetch it again")
        self._file = file
        self._starts = {name: header[name]["data_offsets"][0] for name in names}
        self._data = path.stat().st_size - max(
            (header[name]["data_offsets"][1] for name in names), default=0
        )

    def stored(self, name: str) -> npt.NDArray[Any]:
        """An array as it is stored, in memory of its own.

        Raises:
            CheckpointError: in a type that numpy does not have, such as bfloat16.
        """
        self.stored_type(name)
        array: npt.NDArray[Any] = self._file.get_tensor(name)
        return array

    def mapped(self, name: str) -> npt.NDArray[Any]:
        """An array as it is stored, in the file itself: memory is taken as parts are read."""
        place = self._data + self._starts[name]
        return np.memmap(self.path, self.stored_type(name), "r", place, self.shapes[name])

    def stored_type(self, name: str) -> np.dtype[Any]:
        """The type of an array as it is stored; raises as `stored` does."""
        code = str(self._file.get_slice(name).get_dtype())
        if code not in _TYPES:
            raise CheckpointError(f"{self.path}: {name} is {code}, which numpy lacks", _SAY_EXPORT)
        return np.dtype(_TYPES[code])


class Channels:
    """`networks.Layers` over numbers of channels: which weights a network needs, in which shapes.

    Args:
        found: the shapes of a file, which tell how many channels a layer gives.

    Attributes:
        expected: name to shape, of all weights that were asked for.
    """

    def __init__(self, found: Mapping[str, Shape]) -> None:
        self._found = found
        self.expected: dict[str, Shape] = {}

    def convolve(self, x: int, name: str, padding: int | Padding = 0, stride: int = 1) -> int:
        """See `Layers.convolve`."""
        outputs, *_ = self._found.get(f"{name}.weight", (x,)) or (x,)
        side = 1 + (2 if padding else 0)
        self.expected[f"{name}.weight"] = (outputs, x, side, side)
        self.expected[f"{name}.bias"] = (outputs,)
        return outputs

    def group_norm(self, x: int, name: str) -> int:
        """See `Layers.group_norm`."""
        self.expected |= {f"{name}.weight": (x,), f"{name}.bias": (x,)}
        return x

    def add(self, x: int, y: int) -> int:
        """See `Layers.add`."""
        return x

    def to_depth(self, x: int, block: int) -> int:
        """See `Layers.to_depth`."""
        return x * block**2

    def to_space(self, x: int, block: int) -> int:
        """See `Layers.to_space`."""
        return x // block**2

    def attend(self, queries: int, keys: int, values: int) -> int:
        """See `Layers.attend`."""
        return values

    def relu(self, x: int) -> int:
        """See `Layers.relu`, as all that keep the number of channels."""
        return x

    silu = double = unit_norm = relu


def _check(file: WeightFile, architecture: Architecture, config: Any) -> None:
    channels = Channels(file.shapes)
    z = architecture.encoder(channels, 3, config)
    pixels = architecture.decoder(channels, config.bits, config)
    if (z, pixels) != (config.bits, 3):
        raise CheckpointError(
            f"{file.path} makes {z} bits a code and {pixels} colours, not {config.bits} and 3",
            "check that the file is of the model that was asked for",
        )
    found = {n: shape for n, shape in file.shapes.items() if n not in architecture.constants}
    check_shapes(channels.expected, found, [file.path])
