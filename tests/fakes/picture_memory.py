"""Reads, edits or takes as a mask one picture, and prints the peak memory and what came of it.

Run as a program: `picture_memory.py view|edit|mask FILE FOLDER`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from peak_memory import peak_mib
from PIL import Image

from edge_client.pictures.edits import Look, for_inpainting
from edge_client.pictures.mask_files import Mask, draw_shapes, load_mask_file, parse_shape
from edge_client.pictures.outputs import destination, save_source
from edge_client.pictures.pasting import inpainted
from edge_client.pictures.sources import Source, load_source, open_source
from shared_protocol.bundles.bundle import Bundle
from shared_protocol.bundles.find import load_bundle
from shared_protocol.errors import UnimicError
from shared_protocol.message.picture_file import write_picture


def _edited(source: Source, mask: Mask, bundle: Bundle, folder: Path) -> None:
    """All that a device does for an edit, but for asking the cloud."""
    tokenizer = bundle.image_tokenizer()
    picture, flags, _ = for_inpainting(source, mask, Look())
    tokens = tokenizer.tokenize(picture.pixels)
    write_picture(tokens, bundle)  # loads the entropy models, as sending does
    step = inpainted(tokenizer.detokenize(tokens), picture, mask, flags)
    out = folder / "out.png"
    save_source(destination(out, out), source.edited(step, tokens, picture.geometry))


def run(what: str, path: Path, folder: Path) -> str:
    """What came of it, in words."""
    bundle = load_bundle()
    if what == "view":
        picture = load_source(path, bundle)
        bundle.image_tokenizer().tokenize(picture.pixels)
        return picture.description
    if what == "edit":
        source = open_source(path, bundle, whole=True)
        box = f"9,9,{source.size[0] // 2},{source.size[1] // 2}"
        mask = draw_shapes([parse_shape("box", box)], source.name, source.size)
        _edited(source, mask, bundle, folder)
        return "edited"
    photo = folder / "photo.jpg"
    if not photo.exists():
        noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((4900, 4900), Image.Resampling.BICUBIC).save(photo)
    source = open_source(photo, bundle, whole=True)
    assert source.photo is not None
    mask = load_mask_file(path, source.photo).inverted()
    _edited(source, mask, bundle, folder)
    return "masked"


if __name__ == "__main__":
    try:
        told = run(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
    except UnimicError as error:
        told = f"{type(error).__name__}: {error}"
    print(json.dumps([peak_mib(), told]))
