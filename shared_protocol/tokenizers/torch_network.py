"""An image tokenizer computed by torch, behind the interface that numpy arrays go through.

It does not know files beyond which reader takes which kind, nor pixels in bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from shared_protocol.errors import ConfigError
from shared_protocol.tokenizers.compact import load_compact
from shared_protocol.tokenizers.image import Floats
from shared_protocol.tokenizers.magvitv2 import load_magvitv2

LOADERS: dict[str, Callable[[Path], nn.Module]] = {
    "compact": load_compact,
    "magvitv2": load_magvitv2,
}


class TorchNetwork:
    """An `LfqNetwork` around a network with MAGVIT-v2's parts `encoder` and `decoder`.

    Args:
        network: in evaluation mode.
        device: where it computes.
    """

    def __init__(self, network: nn.Module, device: str = "cpu") -> None:
        self._network: Any = network.to(device)
        self._device = device
        self.computed_by = f"torch {torch.__version__} on {device}"

    @property
    def config(self) -> Any:
        """Its sizes."""
        return self._network.config

    def encode(self, pixels: Floats) -> Floats:
        """See `LfqNetwork.encode`."""
        return self._run(self._network.encoder, pixels)

    def decode(self, values: Floats) -> Floats:
        """See `LfqNetwork.decode`."""
        return self._run(self._network.decoder, values)

    def _run(self, half: Callable[[Tensor], Tensor], x: Floats) -> Floats:
        with torch.inference_mode():
            found = half(torch.from_numpy(x)[None].to(self._device))[0]
        result: Floats = found.cpu().numpy()
        return result


def load_torch_network(kind: str, path: Path, device: str = "cpu") -> TorchNetwork:
    """The network in a file, computed by torch on `device`.

    Raises:
        ConfigError: there is no such device here.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("torch finds no GPU here", "compute with numpy")
    return TorchNetwork(LOADERS[kind](path), device)
