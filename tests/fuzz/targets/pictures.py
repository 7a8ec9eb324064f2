"""Pictures and masks as devices get them, in every format that is opened."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from edge_client.pictures.geometry import Geometry
from edge_client.pictures.images import view
from edge_client.pictures.mask_files import load_mask_file
from edge_client.pictures.masks import placed
from edge_client.pictures.opening import open_bytes
from shared_protocol.errors import ImageError, MaskError
from targets.target import Read, Target

CASES = Path(__file__).parents[2] / "cases"
SIDE = 64
LONGEST = 8000
FORMATS = {
    "PNG": ("RGB", "L", "1", "P", "LA", "RGBA", "I;16"),
    "JPEG": ("RGB", "L", "CMYK"),
    "GIF": ("P", "L"),
    "BMP": ("RGB", "P", "1"),
    "TIFF": ("RGB", "L", "CMYK", "F", "1"),
    "PPM": ("RGB", "L"),
    "WEBP": ("RGB", "RGBA"),
    "JPEG2000": ("RGB", "L"),
    "AVIF": ("RGB",),
}
PICTURES = "edge_client.pictures"


def prepare_pictures(folder: Path) -> Read:
    """Opened, turned and brought to what a model sees."""

    def read(data: bytes) -> None:
        photo = open_bytes(data, "a picture")
        seen = view(photo, Geometry(photo.size, (SIDE, SIDE)))
        assert seen.pixels.shape == (SIDE, SIDE, 3)
        assert seen.pixels.dtype == np.uint8

    return read


def prepare_masks(folder: Path) -> Read:
    """A mask's file for a photo of 64x64, brought to the token grid."""
    path = folder / "mask"
    square = BytesIO()
    Image.fromarray(_waves()).save(square, "PNG")
    photo = open_bytes(square.getvalue(), "a photo")
    shown = view(photo, Geometry(photo.size, (SIDE, SIDE)))

    def read(data: bytes) -> None:
        path.write_bytes(data)
        mask = load_mask_file(path, photo)
        assert mask.image.mode == "L"
        assert 0 <= mask.brightest <= 255
        tokens, _ = placed(mask, shown, 16)
        assert tokens.shape == (4, 4)

    return read


def _waves() -> np.ndarray:
    rows, columns = np.indices((SIDE, SIDE))
    waves = np.stack([rows * 4, columns * 4, rows * columns // 16], axis=2)
    return waves.astype(np.uint8)


@cache
def _pictures() -> tuple[bytes, ...]:
    return tuple(_drawn())


def _drawn() -> Iterator[bytes]:
    whole = Image.fromarray(_waves()).resize((24, 24))
    for kind, modes in FORMATS.items():
        for mode in modes:
            file = BytesIO()
            image = whole.convert("L").convert(mode) if mode[0] in "IF1" else whole.convert(mode)
            image.save(file, kind)
            if len(file.getvalue()) <= LONGEST:
                yield file.getvalue()
    file, turned = BytesIO(), Image.Exif()
    turned[0x0112] = 6
    whole.save(file, "JPEG", exif=turned)
    yield file.getvalue()
    file = BytesIO()
    whole.save(file, "GIF", save_all=True, append_images=[whole.rotate(90)])
    yield file.getvalue()
    for path in sorted(CASES.iterdir()):
        if path.stat().st_size <= LONGEST and path.suffix != ".md":
            yield path.read_bytes()


TARGETS = (
    Target(
        "pictures",
        prepare_pictures,
        _pictures,
        (f"{PICTURES}.opening", f"{PICTURES}.colour", f"{PICTURES}.images"),
        (ImageError,),
        LONGEST,
    ),
    Target(
        "mask_files",
        prepare_masks,
        _pictures,
        (f"{PICTURES}.mask_files", f"{PICTURES}.masks"),
        (ImageError, MaskError),
        LONGEST,
    ),
)
