"""Pictures and masks as files to arrays and back: the only file that opens images.

It does not know tokens, tasks or the network. Geometry follows Show-o: RGB, shorter side resized
with antialiased bicubic interpolation, centre crop; a mask goes through the geometry of its photo.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps, PngImagePlugin, UnidentifiedImageError

from edge_client.pictures.carried_tokens import CHUNK
from edge_client.pictures.colour import WHITE, eight_bits, flatten, to_rgb
from edge_client.pictures.outputs import WRITABLE, check_output
from shared_protocol.errors import ImageError, MaskError
from shared_protocol.files import replaced
from shared_protocol.tokenizers.image import Pixels
from shared_protocol.tokens import ImageTokens

Size = tuple[int, int]
"""(width, height) in pixels, as pictures are spoken of; arrays are (H, W)."""
Box = tuple[int, int, int, int]
"""x, y, width, height in pixels of the source picture."""

MAX_PIXELS = 100_000_000
MAX_FILE_BYTES = 512 * 2**20
MIN_SIDE = 16
MAX_ASPECT = 256
"""Beyond this, resizing the shorter side would inflate the longer one into gigabytes."""

_MAX_CARRIED = 1024 * 1024
"""Most pixels of a picture that may carry tokens: 64x64 of them, 16 pixels a side."""
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


class Fit(Enum):
    """How a picture of another shape becomes the tokenizer's: `CROP` is Show-o's way."""

    CROP = "crop"
    PAD = "pad"
    STRETCH = "stretch"


@dataclass(frozen=True)
class Geometry:
    """Where the pixels of a source picture land on the target.

    Args:
        source: (width, height) after EXIF rotation.
        target: (width, height) that the tokenizer takes.
        fit: see `Fit`.
    """

    source: Size
    target: Size
    fit: Fit = Fit.CROP

    @property
    def resized(self) -> Size:
        """(width, height) before cropping or padding; the longer side truncates as torchvision's.

        >>> Geometry((4032, 3024), (256, 256)).resized
        (341, 256)
        """
        (width, height), (wide, high) = self.source, self.target
        if self.fit is Fit.STRETCH:
            return self.target
        by_width = (width * high <= height * wide) == (self.fit is Fit.CROP)
        if by_width:
            return wide, max(1, int(wide * height / width))
        return max(1, int(high * width / height)), high

    @property
    def corner(self) -> tuple[int, int]:
        """(x, y) of the target's corner in the resized picture; negative where it is padded."""
        (width, height), (wide, high) = self.resized, self.target
        return round((width - wide) / 2), round((height - high) / 2)

    def apply(self, image: Image.Image, fill: int | tuple[int, int, int]) -> Image.Image:
        """`image`, resized and cropped or padded with `fill`."""
        if image.size != self.resized:
            image = image.resize(self.resized, Image.Resampling.BICUBIC)
        if image.size == self.target:
            return image
        canvas = Image.new(image.mode, self.target, fill)
        x, y = self.corner
        canvas.paste(image, (-x, -y))
        return canvas

    def __str__(self) -> str:
        size = _size(self.target)
        if self.source == self.target:
            return "as it is"
        if self.fit is Fit.STRETCH:
            return f"stretched to {size}"
        grown = self.resized[0] > self.source[0]
        steps = [] if self.resized == self.source else ["enlarged" if grown else "resized"]
        if self.resized != self.target:
            steps.append("centre-cropped" if self.fit is Fit.CROP else "padded with white")
        return f"{' and '.join(steps)} to {size}"


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture as the tokenizer takes it.

    Args:
        name: the file's name.
        pixels: (H, W, 3) uint8.
        geometry: how it was brought to that size.
        notes: what else was done to it, in words.
        tokens: those that the file carries for these pixels.
        whole: the decoded picture, (H, W, 3), where nothing but its size could differ.
    """

    name: str
    pixels: Pixels
    geometry: Geometry
    notes: tuple[str, ...] = ()
    tokens: ImageTokens | None = None
    whole: Pixels | None = None

    def grid(self, stride: int) -> tuple[int, int]:
        """(H, W) in tokens of `stride` pixels."""
        return self.pixels.shape[0] // stride, self.pixels.shape[1] // stride

    @property
    def description(self) -> str:
        """One line: name, size and everything that was done to the picture."""
        head = f"{self.name} {_size(self.geometry.source)}"
        return ", ".join([head, *self.notes, str(self.geometry)])


def load_picture(path: Path, height: int, width: int, fit: Fit = Fit.CROP) -> Picture:
    """Read a picture and bring it to (height, width) pixels.

    Raises:
        ImageError: not a readable picture, too large to decode, or too small or narrow to use.
    """
    image, notes = _open(path)
    rgb, more = to_rgb(image)
    geometry = Geometry(rgb.size, (width, height), fit)
    pixels = np.array(geometry.apply(rgb, WHITE), dtype=np.uint8)
    plain = not notes and not more and rgb.width * rgb.height <= _MAX_CARRIED
    whole = np.array(rgb, dtype=np.uint8) if plain else None
    return Picture(path.name, pixels, geometry, (*notes, *more), whole=whole)


def load_mask(path: Path, picture: Picture) -> Pixels:
    """Read a mask (white = regenerate) through the geometry of its picture.

    Returns:
        (H, W) uint8, as large as `picture.pixels`.

    Raises:
        ImageError: not a readable picture.
        MaskError: its size is neither the photo's nor of the same shape.
    """
    image, _ = _open(path)
    (width, height), (wide, high) = image.size, picture.geometry.source
    if abs(width * high - height * wide) > 0.01 * max(width * high, height * wide):
        raise MaskError(
            f"the mask {path.name} is {_size(image.size)}, "
            f"the photo {picture.name} {_size(picture.geometry.source)}",
            "paint the mask on a copy of the photo, so that both have one shape",
        )
    grey = flatten(image, (0, 0, 0)) if image.has_transparency_data else image
    geometry = Geometry(image.size, picture.geometry.target, picture.geometry.fit)
    return np.asarray(geometry.apply(eight_bits(grey).convert("L"), 0), dtype=np.uint8)


def box_mask(boxes: Sequence[Box], picture: Picture) -> Pixels:
    """A mask that is white inside `boxes`, through the geometry of its picture.

    Returns:
        (H, W) uint8, as large as `picture.pixels`.

    Raises:
        MaskError: a box without area or wholly outside the photo.
    """
    width, height = picture.geometry.source
    mask = Image.new("L", (width, height), 0)
    for x, y, wide, high in boxes:
        left, top, right, bottom = max(0, x), max(0, y), min(width, x + wide), min(height, y + high)
        if left >= right or top >= bottom:
            raise MaskError(
                f"the box {x},{y},{wide},{high} covers nothing of the photo",
                f"{picture.name} is {width}x{height}; a box is x,y,width,height in its pixels",
            )
        mask.paste(255, (left, top, right, bottom))
    return np.asarray(picture.geometry.apply(mask, 0), dtype=np.uint8)


def save_picture(path: Path, pixels: Pixels, chunk: bytes | None = None) -> None:
    """Write (H, W, 3) uint8 in the format of the suffix, without any metadata.

    Args:
        path: ends in one of the suffixes of `WRITABLE`.
        pixels: what is written.
        chunk: what a PNG is to carry behind its pixels, see `carried_tokens`.

    Raises:
        ImageError: the file cannot be written.
    """
    check_output(path)
    kind = WRITABLE[path.suffix.lower()]
    options: dict[str, Any] = {"optimize": True} if kind == "PNG" else {"quality": 95}
    if kind == "WEBP":
        options = {"lossless": True}
    if kind == "PNG" and chunk is not None:
        carried = PngImagePlugin.PngInfo()
        carried.add(CHUNK, chunk, after_idat=True)
        options["pnginfo"] = carried
    try:
        with replaced(path) as file:
            Image.fromarray(pixels).save(file, kind, **options)
    except OSError as error:
        raise ImageError(f"cannot write {path}: {error.strerror or error}") from error


def _open(path: Path) -> tuple[Image.Image, list[str]]:
    """The decoded first frame, upright, and notes on what was done."""
    _check_file(path)
    remedy = "use a PNG, JPEG or WebP picture"
    try:
        with warnings.catch_warnings():
            # Pillow's warnings would reach the user's terminal; the size has our own, lower limit.
            warnings.simplefilter("ignore")
            with Image.open(path, formats=_readable()) as image:
                _check_size(path, image.size)
                image.load()
                turned = _upright(image)
                animated = getattr(image, "is_animated", False) and image.format != "MPO"
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(f"{path.name} is not a picture that can be read", remedy) from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{path.name} has more than {MAX_PIXELS:,} pixels", "scale it") from error
    except Exception as error:  # decoders raise nearly anything on damaged files
        raise ImageError(f"{path.name} is damaged or cut short: {error}", remedy) from error
    notes = ["first frame only"] if animated else []
    if turned is None:
        return image, notes
    return turned, [*notes, "rotated by EXIF"]


def _readable() -> list[str]:
    """The formats that this build of Pillow has; importing all of its plug-ins takes far longer."""
    for plugin in _READABLE.values():
        with suppress(ImportError):
            importlib.import_module(f"PIL.{plugin}ImagePlugin")
    return [name for name in _READABLE if name in Image.OPEN]


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise ImageError(f"{path} is a folder", "name a picture in it")
    if not path.is_file():
        raise ImageError(f"there is no file {path}", "check the path")
    size = path.stat().st_size
    if size == 0:
        raise ImageError(f"{path.name} is empty", "use a PNG, JPEG or WebP picture")
    if size > MAX_FILE_BYTES:
        raise ImageError(f"{path.name} is {size:,} bytes, over {MAX_FILE_BYTES:,}", "shrink it")


def _check_size(path: Path, size: Size) -> None:
    short, long = min(size), max(size)
    if short * long > MAX_PIXELS:
        raise ImageError(f"{path.name} is {_size(size)}, over {MAX_PIXELS:,} pixels", "scale it")
    if short < MIN_SIDE:
        raise ImageError(f"{path.name} is {_size(size)}", f"use at least {MIN_SIDE} pixels a side")
    if long > MAX_ASPECT * short:
        raise ImageError(f"{path.name} is {_size(size)}, too narrow", "crop it first")


def _upright(image: Image.Image) -> Image.Image | None:
    """The picture turned as its EXIF says; None if nothing is to be turned."""
    try:
        turn = image.getexif().get(ExifTags.Base.Orientation, 1)
        return ImageOps.exif_transpose(image) if turn in range(2, 9) else None
    except Exception:  # damaged metadata is no reason to refuse a good picture
        return None


def _size(size: Size) -> str:
    return f"{size[0]}x{size[1]}"
