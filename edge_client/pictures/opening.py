"""Opens picture files, the only file that decodes them: bad ones get a message with a remedy.

It does not know what a picture is for, nor the size that a model takes.
"""

from __future__ import annotations

import importlib
import io
import sys
import warnings
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from edge_client.pictures.files.memory import (
    bytes_each,
    decoder_bytes,
    memory_for_pictures,
    read_at_once,
)
from edge_client.pictures.geometry import Size
from shared_protocol.errors import ImageError, printable

MEMORY_MIB = 450
"""What the program may hold at its peak, whatever file it is given; all limits follow from it."""
_PROGRAM_MIB = 160
"""What it holds besides pictures: the interpreter, numpy, the models of the built-in bundle."""
_EDIT_BYTES = 12.4
"""For each pixel of a photo while an edit is put into it and all of it is written, as measured."""
MAX_REDUCED = 1_000_000_000
"""Most pixels of a JPEG, which can be decoded at an eighth of its size."""
MAX_FILE_BYTES = 512 * 2**20
MAX_STDIN_BYTES = 48 * 2**20
"""Standard input is held in memory."""
MAX_ASPECT = 256
"""Beyond this, resizing the shorter side would inflate the longer one into gigabytes."""
STDIN = Path("-")
STDIN_NAME = "standard input"
_CLIPBOARDS = ("clipboard", "clipboard:", "clip:", "pasteboard")

_REMEDY = "use a PNG, JPEG or WebP picture"
_READABLE = {
    "PNG": "Png",
    "JPEG": "Jpeg",
    "WEBP": "WebP",
    "AVIF": "Avif",
    "BMP": "Bmp",
    "GIF": "Gif",
    "TIFF": "Tiff",
    "PPM": "Ppm",
    "JPEG2000": "Jpeg2K",
}
"""Formats tried on input, with Pillow's plug-in for each; those that start helper programs (EPS)
are left out on purpose."""
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
_STRANGERS = (
    (b"%PDF", "a PDF document", "save the page as a PNG picture"),
    (b"%!PS", "a PostScript document", "save it as a PNG picture"),
    (b"PK\x03\x04", "a ZIP archive or an office document", "take the picture out of it"),
    (b"\x1f\x8b", "a compressed file", "unpack it first"),
    (b"8BPS", "a Photoshop document", "export it as a PNG picture"),
    (b"gimp xcf", "a GIMP document", "export it as a PNG picture"),
    (b"\x1aE\xdf\xa3", "a video", "save one frame of it as a picture"),
    (b"\x00\x00\x00\x00ftyp", "a video", "save one frame of it as a picture"),
    (b"\x49\x49\x55\x00", "a camera's raw file", "export it as a PNG or JPEG picture"),
    (b"FUJIFILMCCD-RAW", "a camera's raw file", "export it as a PNG or JPEG picture"),
    (b"\x00\x00\x00\x0cJXL", "a JPEG XL picture", "save it as a PNG or JPEG picture"),
    (b"\xff\x0a", "a JPEG XL picture", "save it as a PNG or JPEG picture"),
    (b"version https://git-lfs", "a placeholder of Git LFS", "run 'git lfs pull' first"),
)
"""First bytes, what such a file is, and what to do with it."""


@dataclass(frozen=True, eq=False)
class Photo:
    """A decoded picture, upright, in the colour mode of its file.

    Args:
        name: the file's name.
        image: the pixels; smaller than `size` where a huge picture was read at a part of its size.
        size: (width, height) of the picture, upright.
        notes: what was done to it, in words.
        orientation: EXIF's, 1..8; 1 = it was stored upright.
        profile: ICC profile; None = sRGB.
        path: of the file; None for standard input.
        warnings: what the user should know.
    """

    name: str
    image: Image.Image
    size: Size
    notes: tuple[str, ...] = ()
    orientation: int = 1
    profile: bytes | None = field(default=None, repr=False)
    path: Path | None = None
    warnings: tuple[str, ...] = ()

    @property
    def reduced(self) -> bool:
        """Whether it was read at a part of its size."""
        return self.image.size != self.size

    @property
    def stored(self) -> Size:
        """(width, height) as the file has it, before it is turned upright."""
        return (self.size[1], self.size[0]) if self.orientation >= 5 else self.size


def open_photo(path: Path, whole: bool = False, beside: int = 0) -> Photo:
    """Decode a picture's first frame and turn it upright.

    Args:
        path: of the file.
        whole: refuse one that could only be read at a part of its size.
        beside: bytes that other pictures hold meanwhile.

    Raises:
        ImageError: no picture that can be read, or one that is too large or too narrow.
    """
    if path == STDIN:
        return open_bytes(read_stdin(), STDIN_NAME, whole)
    check_file(path)
    return _open(path.name, path, whole, beside)


def read_stdin() -> bytes:
    """All of standard input, up to the size of a picture's file.

    Raises:
        ImageError: there is more.
    """
    try:
        data = sys.stdin.buffer.read(MAX_STDIN_BYTES + 1)
    except (OSError, AttributeError, ValueError) as error:  # closed, or never opened
        raise ImageError(f"cannot read {STDIN_NAME}: {error}", "name a file instead") from error
    if len(data) > MAX_STDIN_BYTES:
        raise ImageError(f"{STDIN_NAME} has over {MAX_STDIN_BYTES:,} bytes", "name a file instead")
    return data


def open_bytes(data: bytes, name: str, whole: bool = False) -> Photo:
    """The same for a picture's bytes, such as those of standard input."""
    if not data:
        raise ImageError(f"{name} is empty", _REMEDY)
    return _open(name, io.BytesIO(data), whole, len(data))


def _open(name: str, source: Path | io.BytesIO, whole: bool, beside: int) -> Photo:
    head, path = _head(source), source if isinstance(source, Path) else None
    formats = [*_readable(), *_heif(name, head)]
    try:
        with warnings.catch_warnings(), memory_for_pictures(picture_bytes()):
            # Pillow's warnings would reach the user's terminal; the size has our own, lower limit.
            warnings.simplefilter("ignore")
            with Image.open(source, formats=formats) as image:
                stored = image.size
                _check_size(name, stored)
                _fit_memory(name, image, whole, beside)
                image.load()
                return _photo(name, image, stored, path)
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise _stranger(name, head) from error
    except (Image.DecompressionBombError, MemoryError) as error:
        raise ImageError(
            f"{name} takes more than the {MEMORY_MIB} MiB of memory that there are for it",
            "scale it down first",
        ) from error
    except Exception as error:  # decoders raise nearly anything on damaged files
        raise ImageError(
            f"{name} is damaged or cut short: {error}", "copy or download it again"
        ) from error


def _photo(name: str, image: Image.Image, stored: Size, path: Path | None) -> Photo:
    turned, orientation = _upright(image)
    animated = getattr(image, "is_animated", False) and image.format != "MPO"
    notes = ["first frame only"] if animated else []
    if image.size != stored:
        notes.append(f"read at {image.width}x{image.height}")
    if orientation != 1:
        notes.append("rotated by EXIF")
    if animated or image.format == "GIF":
        turned = turned.copy()  # a file of several frames would be read again at each use
    size = (stored[1], stored[0]) if orientation >= 5 else stored
    profile = image.info.get("icc_profile") or None
    told = f"{name} has several frames or pages: the first is used" if animated else ""
    return Photo(
        name, turned, size, tuple(notes), orientation, profile, path, (told,) if told else ()
    )


def most_edited() -> int:
    """Most pixels of a photo that an edit gives back in full size."""
    return int(picture_bytes() / _EDIT_BYTES)


def picture_bytes() -> int:
    """Memory for pictures and what is made of them."""
    return (MEMORY_MIB - _PROGRAM_MIB) << 20


def too_large_to_edit(name: str, size: Size) -> ImageError:
    """What to say of a photo that an edit could not give back."""
    return ImageError(
        f"{name} is {size[0]}x{size[1]}, over the {most_edited():,} pixels that an edit gives back "
        f"in full size in {MEMORY_MIB} MiB",
        "scale it down first, or take the model's own size with --native",
    )


def _readable() -> list[str]:
    """The formats that this build of Pillow has; importing all of its plug-ins takes far longer."""
    for plugin in _READABLE.values():
        with suppress(ImportError):
            importlib.import_module(f"PIL.{plugin}ImagePlugin")
    return [name for name in _READABLE if name in Image.OPEN]


def _heif(name: str, head: bytes) -> list[str]:
    """The format of HEIC files, for such a file where the extra is installed."""
    if head[4:8] != b"ftyp" or head[8:12] not in _HEIF_BRANDS:
        return []
    try:
        import pillow_heif
    except ImportError:
        raise ImageError(
            f"{name} is a HEIC picture, which needs a further package",
            "pip install pillow-heif, or save it as a JPEG",
        ) from None
    pillow_heif.register_heif_opener()
    return ["HEIF"]


def _head(source: Path | io.BytesIO) -> bytes:
    if isinstance(source, io.BytesIO):
        return source.getvalue()[:512]
    try:
        with source.open("rb") as file:
            return file.read(512)
    except OSError as error:
        raise ImageError(f"cannot read {source}: {error.strerror}", "check the path") from error


def _stranger(name: str, head: bytes) -> ImageError:
    """What to say of a file that is no picture: what it is instead, if that can be told."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if b"<svg" in text:
        return ImageError(
            f"{name} is a vector drawing (SVG)", "export it as a PNG picture of 256 pixels or more"
        )
    if text.startswith((b"<!doctype", b"<html", b"<head", b"<body")) or b"<html" in text:
        return ImageError(
            f"{name} is a web page (HTML), not a picture",
            "download the picture itself, not the page that shows it",
        )
    if head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS:
        return ImageError(
            f"{name} is a HEIC picture that is damaged or cut short", "copy or download it again"
        )
    blank = b"\x00\x00\x00\x00" + head[4:] if head[4:8] == b"ftyp" else head
    for start, what, remedy in _STRANGERS:
        if blank.startswith(start):
            return ImageError(f"{name} is {what}, not a picture that can be read", remedy)
    if _is_text(head):
        return ImageError(
            f"{name} is a text file, not a picture that can be read",
            "a failed download often leaves one: look into it, and fetch the picture again",
        )
    readable = ", ".join(_READABLE)
    return ImageError(
        f"{name} is not a picture that can be read", f"{_REMEDY}; known are {readable} and HEIC"
    )


def _is_text(head: bytes) -> bool:
    try:
        text = head[:-4].decode()  # the end may be cut in the middle of a character
    except UnicodeDecodeError:
        return False
    return bool(text) and all(char.isprintable() or char.isspace() for char in text)


def check_file(path: Path) -> None:
    """Raise `ImageError`, with a remedy, unless `path` is a regular file of a usable size."""
    _check_name(str(path), path)
    if path.is_dir():
        raise ImageError(f"{path} is a folder", "name a picture in it")
    if not path.exists():
        raise ImageError(f"{path} is a link to nothing", "check the path")
    if not path.is_file():
        raise ImageError(f"{path} is no regular file", "copy the picture into a file")
    size = path.stat().st_size
    if size == 0:
        raise ImageError(f"{path.name} is empty", _REMEDY)
    if size > MAX_FILE_BYTES:
        raise ImageError(f"{path.name} is {size:,} bytes, over {MAX_FILE_BYTES:,}", "shrink it")


def _check_name(told: str, path: Path) -> None:
    """Refuse what is no name of a file, with what to do instead."""
    if told.startswith("file:/"):
        raise ImageError(
            f"{printable(told, 100)} is an address, and only files are opened",
            f"name the file itself: {printable('/' + told[5:].lstrip('/'), 100)}",
        )
    if "://" in told or told.startswith(("http:/", "https:/", "ftp:/", "data:")):
        raise ImageError(
            f"{printable(told, 100)} is an address, and only files are opened",
            "download the picture first, or pipe it: curl -L ADDRESS | edge-client … -",
        )
    try:
        path.lstat()
    except FileNotFoundError:
        if told.lower() in _CLIPBOARDS:
            raise ImageError(
                f"{told}: the clipboard is not read",
                "save the picture in a file, or pipe it into '-'",
            ) from None
        raise ImageError(f"there is no file {path}", "check the path") from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ImageError(f"cannot read {printable(told, 80)}: {why}", "check the path") from error


def _check_size(name: str, size: Size) -> None:
    short, long = min(size), max(size)
    if long > MAX_ASPECT * max(1, short):
        raise ImageError(
            f"{name} is {size[0]}x{size[1]}, too narrow: over {MAX_ASPECT} times as long as wide",
            "cut out the part that matters first",
        )


def _fit_memory(name: str, image: Image.Image, whole: bool, beside: int) -> None:
    """Have a JPEG decoded at a part of its size if all of it is too much; refuse others."""
    pixels = image.width * image.height
    if whole and pixels > most_edited():
        raise too_large_to_edit(name, image.size)
    size, buffered, memory = image.size, decoder_bytes(image), picture_bytes() - beside
    memory -= read_at_once(image)
    # Asked for its EXIF, a PNG without any before its pixels decodes them to find some behind.
    asked = image.format != "PNG" or "exif" in image.info
    turned = asked and _orientation(image) != 1
    part, each = 1, bytes_each(image, turned)
    while part < 16 and pixels * max(buffered + each[0] / part**2, each[1] / part**2) > memory:
        part *= 2
    if part == 1:
        return
    if image.format in ("JPEG", "MPO") and part <= 8 and pixels <= MAX_REDUCED:
        if whole:
            raise too_large_to_edit(name, size)
        image.draft("RGB", (size[0] // part, size[1] // part))
        if image.width * image.height * (part - 0.5) ** 2 <= pixels:
            return
    most = int(memory / max(buffered + each[0], each[1]))
    raise ImageError(
        f"{name} is {size[0]}x{size[1]}, over the {max(0, most):,} pixels of such a {image.format} "
        f"picture that are decoded in {MEMORY_MIB} MiB",
        "scale it down first",
    )


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged metadata is no reason to refuse a good picture
        return 1


def _upright(image: Image.Image) -> tuple[Image.Image, int]:
    """The picture turned as its EXIF says, and what that was."""
    try:
        turn = _orientation(image)
        if turn in range(2, 9):
            turned: Any = ImageOps.exif_transpose(image)
            return turned, turn
    except MemoryError:
        raise
    except Exception:  # see above
        return image, 1
    return image, 1
