"""A mask's file as cells: any convention that the commands take, too.

It does not know HTTP.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from edge_client.gateway.desk.lattice import Lattice
from edge_client.pictures.mask_files import Mask, load_mask_file
from edge_client.pictures.opening import Photo
from edge_client.pictures.sources import Source
from shared_protocol.errors import MaskError


def cells_of(source: Source, data: bytes, name: str) -> tuple[bytes, list[str]]:
    """The cells that a mask's file marks of a picture, and warnings.

    Args:
        source: the picture.
        data: content of the file.
        name: what it is called.

    Raises:
        ImageError: not a readable picture.
        MaskError: its shape is not the picture's, or it marks nothing.
    """
    photo = source.photo or Photo(source.name, Image.new("RGB", source.size), source.size)
    with tempfile.TemporaryDirectory() as folder:
        # The reader of masks takes files, since it looks for what lies beside them.
        path = Path(folder) / Path(name.replace("\\", "/")).name
        path.write_bytes(data)
        mask = load_mask_file(path, photo)
    marked = _marked(mask)
    if not marked.any():
        raise MaskError(f"{name} marks nothing", "paint white, or opaque, what is to be repainted")
    return Lattice.of(source).packed(marked), list(mask.warnings)


def _marked(mask: Mask) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    found: np.ndarray[tuple[int, ...], np.dtype[np.uint8]] = np.where(
        np.asarray(mask.image) >= mask.threshold, 255, 0
    ).astype(np.uint8)
    return found
