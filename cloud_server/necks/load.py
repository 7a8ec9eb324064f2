"""Opens a neck's file with the encoder that it leads into.

It does not know settings, bundles or messages.
"""

from __future__ import annotations

from pathlib import Path

from cloud_server.necks.classifier import Classifier, FeatureNeck
from shared_protocol.bundles.manifest import BUILTIN

SHIPPED = Path(__file__).parents[1] / "weights" / BUILTIN / "neck.safetensors"
"""The built-in bundle's: names the objects of a scene."""


def load_neck(
    path: Path, *, tokenizer_fingerprint: str, device: str = "cpu"
) -> Classifier | FeatureNeck:
    """The neck in a file, ready to answer.

    Args:
        path: a file that `cloud-server train neck` wrote.
        tokenizer_fingerprint: of the image tokenizer whose codes will come, 64 hex digits.
        device: where it computes.
    """
    raise NotImplementedError(f"{path}, {tokenizer_fingerprint}, {device}")
