"""An image tokenizer computed by onnxruntime, with the weights of the bundle's own file.

It does not know layers: graphs come from `graphs/`, which `onnx_graphs` writes. The runtime gets
every weight as an array that it uses in place, so that nothing is stored twice.
"""

from __future__ import annotations

import threading
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from shared_protocol.errors import CheckpointError

if TYPE_CHECKING:
    from shared_protocol.tokenizers.image import Floats
    from shared_protocol.tokenizers.load import WeightFile

GRAPHS = Path(__file__).parent / "graphs"
INPUT = "input"
_ERRORS_ONLY = 3


class OnnxNetwork:
    """An `LfqNetwork` with one session at a time, for the half that is needed.

    Args:
        kind: of the tokenizer; names its graphs.
        file: weights of the published sizes.
        config: those sizes.
        half: the graphs take weights as float16.
    """

    def __init__(self, kind: str, file: WeightFile, config: Any, half: bool) -> None:
        self.config = config
        self.computed_by = f"onnxruntime {version('onnxruntime')}"
        self._kind, self._file = kind, file
        self._one_at_a_time = threading.Lock()
        self._opened: tuple[str, Any, list[npt.NDArray[Any]]] = ("", None, [])
        self._type = np.float16 if half else np.float32

    def encode(self, pixels: Floats) -> Floats:
        """See `LfqNetwork.encode`."""
        return self._run("encoder", pixels)

    def decode(self, values: Floats) -> Floats:
        """See `LfqNetwork.decode`."""
        return self._run("decoder", values)

    def _run(self, half: str, x: Floats) -> Floats:
        with self._one_at_a_time:
            if self._opened[0] != half:
                self._opened = ("", None, [])  # a device may not hold both
                self._opened = self._open(half)
            (found,) = self._opened[1].run(None, {INPUT: x[None]})
        result: Floats = found[0]
        return result

    def _open(self, half: str) -> tuple[str, Any, list[npt.NDArray[Any]]]:
        """Its name, its session, and the arrays that the runtime reads as long as that lives."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        # The level above changes layouts, which holds all weights twice and is no faster here.
        level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.graph_optimization_level = level
        names = [name for name in self._file.shapes if name.startswith(f"{half}.")]
        values = [self._file.mapped(name).astype(self._type, copy=False) for name in names]
        options.add_external_initializers(
            names, [onnxruntime.OrtValue.ortvalue_from_numpy(value) for value in values]
        )
        graph = (GRAPHS / f"{self._kind}_{half}.onnx").read_bytes()
        try:
            session = onnxruntime.InferenceSession(graph, options, ["CPUExecutionProvider"])
        except Exception as error:  # its errors share no other base
            fault = f"onnxruntime cannot take {self._file.path.name}: {str(error)[:200]}"
            raise CheckpointError(fault, "compute with numpy, or update onnxruntime") from error
        return half, session, values
