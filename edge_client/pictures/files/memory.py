"""How much memory it takes to read a picture, by format and mode, before it is taken.

It decodes nothing and knows no limit; the bytes for each pixel were measured with Pillow 13 (see
`tests/integration/test_picture_memory.py`).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

_STORED = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}
"""Bytes that Pillow keeps for a pixel of a mode; 4 of all others."""
_RGB = 4
_ALPHA_STRIPS = 2
_OWN = {"WEBP": 14.0, "HEIF": 8.0, "BMP": 4.0, "GIF": 4.0}
"""Bytes for a pixel that a format's decoder holds besides Pillow's, at most."""
_IN_ONE = ("WEBP", "AVIF", "HEIF", "JPEG2000")
"""Formats whose files are read whole."""
_BITS, _STRIP_ROWS, _TILE_WIDTH, _TILE_HEIGHT, _SAMPLES = 258, 278, 322, 323, 277
_SCAN, _FRAMES = 0xDA, (0xC0, 0xC1, 0xC2)
_MOST_MARKERS = 20_000
_HEAD = 1 << 16


def bytes_each(image: Image.Image, turned: bool) -> tuple[float, float]:
    """Bytes for each pixel: while it is decoded, and while what the model sees is made of it.

    Args:
        image: opened, not loaded.
        turned: whether it is to be turned upright.
    """
    stored = _STORED.get(image.mode, 4)
    rgb = image.mode == "RGB" and not image.has_transparency_data
    seen = stored + (0 if rgb and "icc_profile" not in image.info else _RGB)
    if image.has_transparency_data or image.mode.startswith(("I", "F")):
        seen += _ALPHA_STRIPS
    return stored, max(seen, 2 * stored if turned else 0)


def decoder_bytes(image: Image.Image) -> float:
    """Bytes for each pixel that the decoder itself holds; they do not shrink with the result."""
    kind = image.format or ""
    if kind in ("JPEG", "MPO"):
        return _coefficients(image)
    if kind == "JPEG2000":
        return 4.0 * len(image.getbands()) + 4
    if kind == "TIFF":
        return _of_tiff(image)
    if kind == "AVIF":
        return (12.0 if "A" in image.mode else 7.0) * (1.6 if _is_deep(image) else 1.0)
    if kind == "PPM":  # numbers of 16 bits are decoded in Python
        return 9.0 if image.mode == "I" else 4.0
    return _OWN.get(kind, 1.0)


def read_at_once(image: Image.Image) -> int:
    """Bytes of the file that its decoder holds."""
    file = _file_of(image)
    if image.format not in _IN_ONE or file is None:
        return 0
    if isinstance(file, BytesIO):
        return len(file.getbuffer())
    try:
        return os.fstat(file.fileno()).st_size
    except OSError:
        return 0


def _file_of(image: Image.Image) -> Any:
    return getattr(image, "fp", None)


def _coefficients(image: Image.Image) -> float:
    """Of a JPEG in several scans: all coefficients are kept, whatever size is asked for."""
    layers = [(each[1], each[2]) for each in getattr(image, "layer", ())]
    if not layers or not (image.info.get("progressive") or _in_several_scans(image)):
        return 0.5
    across, down = (max(each[axis] for each in layers) for axis in (0, 1))
    return float(sum(2 * wide * high / (across * down) for wide, high in layers))


def _in_several_scans(image: Image.Image) -> bool:
    """Whether the first scan lacks a component; True for what cannot be told."""
    file = _file_of(image)
    place = file.tell()
    try:
        file.seek(2)
        for _ in range(_MOST_MARKERS):
            head = file.read(4)
            if len(head) < 4 or head[0] != 0xFF:
                return True
            if head[1] == _SCAN:
                return int(file.read(1)[0]) < len(getattr(image, "layer", ()))
            file.seek(int.from_bytes(head[2:], "big") - 2, os.SEEK_CUR)
        return True
    finally:
        file.seek(place)


def _is_deep(image: Image.Image) -> bool:
    """Whether an AVIF has more than 8 bits a channel; True for what cannot be told."""
    file = _file_of(image)
    place = file.tell()
    try:
        file.seek(0)
        head = file.read(_HEAD)
    finally:
        file.seek(place)
    at = head.find(b"av1C")
    return at < 0 or len(head) < at + 7 or bool(head[at + 6] & 0x40)


def _of_tiff(image: Image.Image) -> float:
    """One strip or tile, which a file may make larger than the picture; a raw file is mapped."""
    tags: Any = getattr(image, "tag_v2", {})
    bits = tags.get(_BITS, (8,))
    samples = max(len(bits), int(tags.get(_SAMPLES, 1)))
    each = max(bits) * samples / 8
    pixels = max(1, image.width * image.height)
    tile = int(tags.get(_TILE_WIDTH, 0)) * int(tags.get(_TILE_HEIGHT, 0))
    return float(max(each, each * tile / pixels))


@contextmanager
def memory_for_pictures(most: int) -> Iterator[None]:
    """While the block runs, this program gets no more than `most` further bytes of memory.

    Limits by format cannot know every field that makes a decoder take memory: a TIFF of a few
    bytes may name the same megabytes in each of 65,535 tags. Only where the system tells and
    obeys, and only in the main thread, since it concerns all of them.

    Raises:
        MemoryError: a decoder asks for more.
    """
    used = _data_bytes() if threading.current_thread() is threading.main_thread() else None
    if used is None:
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = used + most
    if soft != resource.RLIM_INFINITY:
        wanted = min(soft, wanted)
    resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _data_bytes() -> int | None:
    """Memory of this program's own, as the system counts it against `RLIMIT_DATA`; Linux only."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(status.split("VmData:")[1].split()[0]) << 10
    except (OSError, ValueError, IndexError):
        return None
