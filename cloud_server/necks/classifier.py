"""What a server needs of a neck with its encoder: token grids in, answers of that encoder out.

It does not know networks, files or messages.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from torch import Tensor

Int64Array = npt.NDArray[np.int64]
Float32Array = npt.NDArray[np.float32]


@runtime_checkable
class Classifier(Protocol):
    """A neck whose encoder has labels: token grids in, a probability for each label out."""

    @property
    def labels(self) -> tuple[str, ...]:
        """At most 65,536, unique, each 1..200 characters."""
        ...

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the neck file, hex, 64 characters."""
        ...

    def classify(self, tokens: Int64Array) -> Float32Array:
        """(batch, 256) ids 0..8191 to (batch, labels), float32; rows sum to 1."""
        ...


@runtime_checkable
class FeatureNeck(Protocol):
    """A neck whose encoder's features another model reads, such as CLIP's by a language model."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the neck file, hex, 64 characters."""
        ...

    def features(self, tokens: Int64Array) -> Tensor:
        """(batch, 256) ids 0..8191 to (batch, n, d) float32, one row a patch in raster order."""
        ...
