"""Picture files of many pixels in every format and mode, written without holding the pixels."""

from __future__ import annotations

import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from PIL import Image

_ROWS = 256


def png(path: Path, side: int, depth: int, colour: int, interlaced: bool = False) -> None:
    """A black PNG of side x side pixels, of this bit depth and colour type."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    packer = zlib.compressobj(1)
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        _chunk(file.write, b"IHDR", struct.pack(">IIBBBBB", side, side, depth, colour, 0, 0,
                                                interlaced))  # fmt: skip
        if colour == 3:
            _chunk(file.write, b"PLTE", bytes(range(6)))
        for size in _rows(side, depth * channels, interlaced):
            data = packer.compress(bytes(size))
            if data:
                _chunk(file.write, b"IDAT", data)
        _chunk(file.write, b"IDAT", packer.flush())
        _chunk(file.write, b"IEND", b"")


def _rows(side: int, bits: int, interlaced: bool) -> Iterator[int]:
    """Bytes of blocks of rows, the filter of each row included."""
    steps = [(0, 0, 1, 1)]
    if interlaced:
        steps = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4),
                 (1, 0, 2, 2), (0, 1, 1, 2)]  # fmt: skip
    for left, top, across, down in steps:
        width, height = -(-(side - left) // across), -(-(side - top) // down)
        for start in range(0, height, _ROWS):
            yield (1 + (width * bits + 7) // 8) * min(_ROWS, height - start)


def _chunk(write: Callable[[bytes], object], kind: bytes, data: bytes) -> None:
    write(struct.pack(">I", len(data)) + kind + data)
    write(struct.pack(">I", zlib.crc32(kind + data)))


def bmp(path: Path, side: int) -> None:
    """A black BMP of 24 bits a pixel."""
    row = (side * 3 + 3) // 4 * 4
    with path.open("wb") as file:
        file.write(b"BM" + struct.pack("<IHHI", 54 + row * side, 0, 0, 54))
        file.write(struct.pack("<IiiHHIIiiII", 40, side, side, 1, 24, 0, row * side, 0, 0, 0, 0))
        file.truncate(54 + row * side)


def ppm(path: Path, side: int, kind: str = "P6", top: int = 255) -> None:
    """A black PPM or PGM."""
    each = (3 if kind == "P6" else 1) * (2 if top > 255 else 1)
    with path.open("wb") as file:
        head = f"{kind}\n{side} {side}\n{top}\n".encode()
        file.write(head)
        file.truncate(len(head) + each * side * side)


def by_pillow(mode: str, kind: str, **options: object) -> Callable[[Path, int], None]:
    """Written by Pillow, which holds all pixels."""

    def write(path: Path, side: int) -> None:
        Image.new(mode, (side, side), 0).save(path, kind, **options)  # type: ignore[arg-type]

    return write


def turned(path: Path, side: int) -> None:
    """A JPEG that is to be turned by a quarter."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (side, side)).save(path, "JPEG", exif=exif)


def profiled(path: Path, side: int) -> None:
    """A JPEG with a colour profile that is not sRGB."""
    from PIL import ImageCms

    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ"))
    Image.new("RGB", (side, side)).save(path, "JPEG", icc_profile=lab.tobytes())


def frames(kind: str, **options: object) -> Callable[[Path, int], None]:
    """An animation of several frames."""

    def write(path: Path, side: int) -> None:
        pictures = [Image.new("RGB", (side, side), (shade, 0, 0)) for shade in (0, 90, 180)]
        pictures[0].save(path, kind, save_all=True, append_images=pictures[1:], **options)

    return write


def tiny_tiff(path: Path, side: int) -> None:
    """A TIFF of a few bytes that claims side x side pixels in one strip."""
    tags = [(256, 4, side), (257, 4, side), (258, 3, 8), (259, 3, 5), (262, 3, 2), (273, 4, 8),
            (277, 3, 3), (278, 4, side), (279, 4, 8)]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    head = b"II*\0" + struct.pack("<I", 16) + bytes(8)
    path.write_bytes(head + struct.pack("<H", len(tags)) + entries + bytes(4))


Write = Callable[[Path, int], None]
PICTURES: dict[str, tuple[str, Write]] = {
    "png grey": ("png", lambda p, s: png(p, s, 8, 0)),
    "png 1 bit": ("png", lambda p, s: png(p, s, 1, 0)),
    "png 16-bit grey": ("png", lambda p, s: png(p, s, 16, 0)),
    "png rgb": ("png", lambda p, s: png(p, s, 8, 2)),
    "png 16-bit rgb": ("png", lambda p, s: png(p, s, 16, 2)),
    "png palette": ("png", lambda p, s: png(p, s, 8, 3)),
    "png rgba": ("png", lambda p, s: png(p, s, 8, 6)),
    "png 16-bit rgba": ("png", lambda p, s: png(p, s, 16, 6)),
    "png grey alpha": ("png", lambda p, s: png(p, s, 8, 4)),
    "png interlaced": ("png", lambda p, s: png(p, s, 8, 2, True)),
    "jpeg": ("jpg", by_pillow("RGB", "JPEG")),
    "jpeg grey": ("jpg", by_pillow("L", "JPEG")),
    "jpeg cmyk": ("jpg", by_pillow("CMYK", "JPEG")),
    "jpeg progressive": ("jpg", by_pillow("RGB", "JPEG", progressive=True, subsampling=0)),
    "jpeg progressive cmyk": ("jpg", by_pillow("CMYK", "JPEG", progressive=True)),
    "jpeg turned": ("jpg", turned),
    "jpeg with a profile": ("jpg", profiled),
    "webp": ("webp", by_pillow("RGB", "WEBP", quality=1, method=0)),
    "webp rgba lossless": ("webp", by_pillow("RGBA", "WEBP", lossless=True, quality=0, method=0)),
    "webp animated": ("webp", frames("WEBP", quality=1, method=0)),
    "tiff": ("tif", by_pillow("RGB", "TIFF")),
    "tiff lzw": ("tif", by_pillow("RGB", "TIFF", compression="tiff_lzw")),
    "tiff one strip": (
        "tif", by_pillow("RGB", "TIFF", compression="tiff_adobe_deflate", strip_size=1 << 30)),
    "tiff tiny": ("tif", tiny_tiff),
    "tiff of integers": ("tif", by_pillow("I", "TIFF")),
    "tiff of floats": ("tif", by_pillow("F", "TIFF", compression="tiff_lzw")),
    "tiff cmyk": ("tif", by_pillow("CMYK", "TIFF", compression="packbits")),
    "gif": ("gif", by_pillow("P", "GIF")),
    "gif animated": ("gif", frames("GIF")),
    "bmp": ("bmp", bmp),
    "ppm": ("ppm", ppm),
    "pgm 16-bit": ("pgm", lambda p, s: ppm(p, s, "P5", 65535)),
    "avif": ("avif", by_pillow("RGB", "AVIF", speed=10, quality=30)),
    "avif rgba": ("avif", by_pillow("RGBA", "AVIF", speed=10, quality=30, subsampling="4:4:4")),
    "jpeg 2000": ("jp2", by_pillow("RGB", "JPEG2000", irreversible=True)),
}  # fmt: skip
"""Name to suffix and what writes such a file of side x side pixels."""

if __name__ == "__main__":
    PICTURES[sys.argv[1]][1](Path(sys.argv[2]), int(sys.argv[3]))
