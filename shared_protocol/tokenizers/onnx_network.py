"""An image tokenizer computed by onnxruntime, with the weights of the bundle's own file.

It does not know layers: graphs come from `graphs/`, which `onnx_graphs` writes. The runtime gets
every weight as an array that it uses in place, so that nothing is stored twice.
"""

from __future__ import annotations

from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shared_protocol.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from shared_protocol.tokenizers.image import Floats
    from shared_protocol.tokenizers.load import WeightFile

GRAPHS = Path(__file__).parent / "graphs"
_ERRORS_ONLY = 3


class OnnxNetwork:
    """An `LfqNetwork` in two sessions, each made when it is first needed.

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
        self._type = np.float16 if half else np.float32

    def encode(self, pixels: Floats) -> Floats:
        """See `LfqNetwork.encode`."""
        return self._run(self._encoder, pixels)

    def decode(self, values: Floats) -> Floats:
        """See `LfqNetwork.decode`."""
        return self._run(self._decoder, values)

    @cached_property
    def _encoder(self) -> Any:
        return self._session("encoder")

    @cached_property
    def _decoder(self) -> Any:
        return self._session("decoder")

    def _run(self, session: Any, x: Floats) -> Floats:
        (found,) = session.run(None, {"input": x[None]})
        result: Floats = found[0]
        return result

    def _session(self, half: str) -> Any:
        try:
            import onnxruntime
        except ImportError as error:
            raise ConfigError(f"onnxruntime cannot be used: {error}", "install it again") from error
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        names = [name for name in self._file.shapes if name.startswith(f"{half}.")]
        values = [self._file.stored(name).astype(self._type, copy=False) for name in names]
        options.add_external_initializers(
            names, [onnxruntime.OrtValue.ortvalue_from_numpy(value) for value in values]
        )
        graph = (GRAPHS / f"{self._kind}_{half}.onnx").read_bytes()
        try:
            return onnxruntime.InferenceSession(graph, options, ["CPUExecutionProvider"])
        except Exception as error:  # its errors share no other base
            fault = f"onnxruntime cannot take {self._file.path.name}: {str(error)[:200]}"
            raise CheckpointError(fault, "compute with numpy, or update onnxruntime") from error
