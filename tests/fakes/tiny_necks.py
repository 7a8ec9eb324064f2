"""Files of necks with random weights, for the built-in tokenizer's grid."""

from __future__ import annotations

from pathlib import Path

import torch

from cloud_server.necks.cell_net import CellNet
from cloud_server.necks.encoders import CELLS
from cloud_server.necks.neck_file import NeckFile, write_neck_file
from cloud_server.necks.networks import NeckSizes, build_neck

TOKENIZER = "ab" * 32
NAMES = ("fox", "car", "boat")


def neck_content(tokenizer: str = TOKENIZER) -> NeckFile:
    """A neck into a detector of three objects, random weights."""
    torch.manual_seed(5)
    sizes = NeckSizes("conv", 128, blocks=1)
    net = CellNet(len(NAMES), 2)
    parts = {"neck.": build_neck(sizes), "encoder.": net}
    tensors = {
        f"{prefix}{name}": tensor
        for prefix, part in parts.items()
        for name, tensor in part.state_dict().items()
    }
    return NeckFile(sizes, tokenizer, CELLS, 0, NAMES, tensors, {"recipe": "none"})


def write_tiny_neck(path: Path, tokenizer: str = TOKENIZER) -> Path:
    """Write it; returns the path."""
    write_neck_file(path, neck_content(tokenizer))
    return path
