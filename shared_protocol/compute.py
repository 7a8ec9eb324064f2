"""What computes on the device: the one choice that tokenizers and entropy models share.

It changes times and sizes, never a bit of a message: entropy models are integers everywhere. Image
tokenizers are floats, whose sums differ in the last places: about one token in 100,000 may differ.
"""

from __future__ import annotations

from enum import Enum

from shared_protocol.errors import ConfigError


class Compute(Enum):
    """What computes.

    * auto: numpy with the compiled decoder; onnxruntime for large tokenizers, where it is installed
    * numpy: numpy alone
    * onnx: as auto, with onnxruntime for every image tokenizer
    * torch: torch on the CPU for everything
    * cuda: torch on a GPU; the compiled decoder for the entropy models' single steps
    """

    AUTO = "auto"
    NUMPY = "numpy"
    ONNX = "onnx"
    TORCH = "torch"
    CUDA = "cuda"

    @classmethod
    def named(cls, name: str) -> Compute:
        """The one of that name.

        Raises:
            ConfigError: there is none.
        """
        try:
            return cls(name)
        except ValueError as error:
            known = ", ".join(each.value for each in cls)
            raise ConfigError(f"nothing computes with {name!r}", f"known are {known}") from error
