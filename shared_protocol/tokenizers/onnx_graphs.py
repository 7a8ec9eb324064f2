"""Writes the image tokenizers down as ONNX graphs: layers and names of weights, no weights.

It does not know how a graph is run (see `onnx_network`). Every weight is an external initializer,
which the runtime gets from the bundle's safetensors file, so a graph takes a few kilobytes.
`python -m shared_protocol.tokenizers.onnx_graphs` makes the files in `graphs/` again; it needs the
package `onnx`, running them does not.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from shared_protocol.bundles.weight_files import Shape
from shared_protocol.errors import ConfigError
from shared_protocol.files import write_atomically
from shared_protocol.tokenizers.load import ARCHITECTURES
from shared_protocol.tokenizers.networks import Layers, Padding
from shared_protocol.tokenizers.numpy_layers import GROUP_FLOOR, GROUPS, UNIT_FLOOR
from shared_protocol.tokenizers.onnx_network import GRAPHS, INPUT

OUTPUT = "output"
OPSET, IR_VERSION = 18, 9
"""Old enough for every onnxruntime of the last years, new enough for `Shape` with ends."""


class GraphLayers:
    """`networks.Layers` that write nodes; a feature map is the name of a (1, C, H, W) tensor.

    Args:
        shapes: of all weights, by name.
        half: the weights are float16 and are computed with as float32.
    """

    def __init__(self, shapes: Mapping[str, Shape], half: bool) -> None:
        from onnx import helper

        self._make = helper
        self._shapes = shapes
        self._half = half
        self._weights: dict[str, str] = {}
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []

    def convolve(self, x: str, name: str, padding: int | Padding = 0, stride: int = 1) -> str:
        """See `Layers.convolve`."""
        pads = (padding,) * 4 if isinstance(padding, int) else padding
        weights = self._weight(f"{name}.weight"), self._weight(f"{name}.bias")
        side = self._shapes[f"{name}.weight"][2]
        sizes = {"kernel_shape": [side, side], "strides": [stride, stride]}
        return self._node("Conv", x, *weights, pads=list(pads), **sizes)

    def relu(self, x: str) -> str:
        """See `Layers.relu`."""
        return self._node("Relu", x)

    def silu(self, x: str) -> str:
        """See `Layers.silu`."""
        return self._node("Mul", x, self._node("Sigmoid", x))

    def add(self, x: str, y: str) -> str:
        """See `Layers.add`."""
        return self._node("Add", x, y)

    def to_depth(self, x: str, block: int) -> str:
        """See `Layers.to_depth`; ONNX's own SpaceToDepth orders channels in another way."""
        channels = self._node("Shape", x, start=1, end=2)
        cells = [
            self._node("Div", self._node("Shape", x, start=axis, end=axis + 1), self._whole(block))
            for axis in (2, 3)
        ]
        one, side = self._whole(1), self._whole(block)
        split = self._concat([one, channels, cells[0], side, cells[1], side])
        more = self._node("Mul", channels, self._whole(block**2))
        parted = self._node("Reshape", x, split)
        moved = self._node("Transpose", parted, perm=[0, 1, 3, 5, 2, 4])
        return self._node("Reshape", moved, self._concat([one, more, *cells]))

    def to_space(self, x: str, block: int) -> str:
        """See `Layers.to_space`."""
        return self._node("DepthToSpace", x, blocksize=block, mode="CRD")

    def double(self, x: str) -> str:
        """See `Layers.double`."""
        scales = self._constant(_FLOAT, [4], [1.0, 1.0, 2.0, 2.0])
        modes = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return self._node("Resize", x, "", scales, mode="nearest", **modes)

    def unit_norm(self, x: str) -> str:
        """See `Layers.unit_norm`."""
        squares = self._node("Mul", x, x)
        mean = self._node("ReduceMean", squares, self._whole(1), keepdims=1)
        root = self._node("Sqrt", self._node("Add", mean, self._real(UNIT_FLOOR)))
        return self._node("Div", x, root)

    def group_norm(self, x: str, name: str) -> str:
        """See `Layers.group_norm`."""
        rows = self._node("Reshape", x, self._constant(_INT64, [3], [0, GROUPS, -1]))
        plain = [self._constant(_FLOAT, [GROUPS], [value] * GROUPS) for value in (1.0, 0.0)]
        normed = self._node("InstanceNormalization", rows, *plain, epsilon=GROUP_FLOOR)
        back = self._node("Reshape", normed, self._node("Shape", x))
        gain, bias = (
            self._node(
                "Reshape",
                self._weight(f"{name}.{part}"),
                self._constant(_INT64, [4], [1, -1, 1, 1]),
            )
            for part in ("weight", "bias")
        )
        return self._node("Add", self._node("Mul", back, gain), bias)

    def attend(self, queries: str, keys: str, values: str) -> str:
        """See `Layers.attend`."""
        flat = self._constant(_INT64, [3], [0, 0, -1])
        q, k, v = (self._node("Reshape", part, flat) for part in (queries, keys, values))
        scores = self._node("MatMul", self._node("Transpose", q, perm=[0, 2, 1]), k)
        channels = self._node("Cast", self._node("Shape", queries, start=1, end=2), to=_FLOAT)
        shares = self._node(
            "Softmax", self._node("Div", scores, self._node("Sqrt", channels)), axis=-1
        )
        mixed = self._node("MatMul", v, self._node("Transpose", shares, perm=[0, 2, 1]))
        return self._node("Reshape", mixed, self._node("Shape", queries))

    def _node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(self._make.make_node(kind, list(inputs), [name], **attributes))
        return name

    def _concat(self, parts: Sequence[str]) -> str:
        return self._node("Concat", *parts, axis=0)

    def _whole(self, value: int) -> str:
        return self._constant(_INT64, [1], [value])

    def _real(self, value: float) -> str:
        return self._constant(_FLOAT, [1], [value])

    def _constant(self, kind: int, shape: list[int], values: list[Any]) -> str:
        key = f"{kind} {shape} {values}"
        if key not in self._weights:
            name = f"c{len(self.initializers)}"
            self.initializers.append(self._make.make_tensor(name, kind, shape, values))
            self._weights[key] = name
        return self._weights[key]

    def _weight(self, name: str) -> str:
        """The float32 tensor of that weight; it is stored elsewhere."""
        from onnx import StringStringEntryProto, TensorProto

        if name not in self._weights:
            kind = _HALF if self._half else _FLOAT
            tensor = TensorProto(name=name, data_type=kind, dims=self._shapes[name])
            tensor.data_location = TensorProto.EXTERNAL
            tensor.external_data.append(StringStringEntryProto(key="location", value="weights"))
            self.initializers.append(tensor)
            self._weights[name] = self._node("Cast", name, to=_FLOAT) if self._half else name
        return self._weights[name]


_FLOAT, _INT64, _HALF = 1, 7, 10
"""ONNX's numbers of types."""


def graph_bytes(
    walk: Callable[[Layers, Any, Any], Any],
    config: Any,
    shapes: Mapping[str, Shape],
    half: bool,
    inputs: int,
) -> bytes:
    """A serialised graph.

    Args:
        walk: through the network; one of `networks`.
        config: its sizes.
        shapes: of all weights, by name.
        half: see `GraphLayers`.
        inputs: channels of the input.

    Raises:
        ConfigError: the package `onnx` is missing.
    """
    try:
        from onnx import helper
    except ImportError as error:
        raise ConfigError("writing graphs needs the package onnx", "pip install onnx") from error
    layers = GraphLayers(shapes, half)
    last = walk(layers, INPUT, config)
    layers.nodes.append(helper.make_node("Identity", [last], [OUTPUT]))
    taken = helper.make_tensor_value_info(INPUT, _FLOAT, [1, inputs, "height", "width"])
    given = helper.make_tensor_value_info(OUTPUT, _FLOAT, None)
    graph = helper.make_graph(layers.nodes, "network", [taken], [given], layers.initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version = "unimic", ""
    return bytes(model.SerializeToString(deterministic=True))


def all_graphs() -> dict[str, bytes]:
    """File name to content, of the published sizes of every tokenizer."""
    import torch

    from shared_protocol.tokenizers.compact import CompactTokenizer
    from shared_protocol.tokenizers.magvitv2 import MagvitV2

    networks = {"compact": CompactTokenizer, "magvitv2": MagvitV2}
    files = {}
    for kind, architecture in ARCHITECTURES.items():
        config, half = architecture.published, architecture.half
        with torch.device("meta"):
            shapes = _shapes(networks[kind](config))
        for name, walk, inputs in (
            ("encoder", architecture.encoder, 3),
            ("decoder", architecture.decoder, config.bits),
        ):
            files[f"{kind}_{name}.onnx"] = graph_bytes(walk, config, shapes, half, inputs)
    return files


def _shapes(network: Any) -> dict[str, Shape]:
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write all graphs."""
    parser = argparse.ArgumentParser(
        prog="python -m shared_protocol.tokenizers.onnx_graphs", description=__doc__
    )
    parser.add_argument("--out", type=Path, default=GRAPHS, help="folder [%(default)s]")
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    for name, data in all_graphs().items():
        write_atomically(given.out / name, data)
        sys.stdout.write(f"{name}: {len(data):,} bytes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
