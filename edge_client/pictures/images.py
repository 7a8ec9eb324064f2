"""Pictures as the tokenizer takes them: from a photo, by way of one geometry, to pixels.

It does not know tasks or the network. Geometry follows Show-o: RGB, shorter side resized with
antialiased bicubic interpolation, centre crop; a mask goes through the geometry of its photo.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from edge_client.pictures.colour import WHITE, to_rgb
from edge_client.pictures.geometry import CENTRE, MOST_LOST, Fit, Geometry
from edge_client.pictures.opening import Photo, open_photo
from shared_protocol.tokenizers.image import Pixels
from shared_protocol.tokens import ImageTokens

_MUCH_ENLARGED = 4
"""Times a small picture is enlarged before that is worth a warning."""


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture as the tokenizer takes it.

    Args:
        name: the file's name.
        pixels: (H, W, 3) uint8.
        geometry: how it was brought to that size.
        notes: what else was done to it, in words.
        tokens: those that the file carries for these pixels.
        photo: where it comes from; None for tokens without a picture.
    """

    name: str
    pixels: Pixels
    geometry: Geometry
    notes: tuple[str, ...] = ()
    tokens: ImageTokens | None = None
    photo: Photo | None = None

    def grid(self, stride: int) -> tuple[int, int]:
        """(H, W) in tokens of `stride` pixels."""
        return self.pixels.shape[0] // stride, self.pixels.shape[1] // stride

    @property
    def description(self) -> str:
        """One line: name, size and everything that was done to the picture."""
        width, height = self.geometry.source
        head = f"{self.name} {width}x{height}"
        return ", ".join([head, *self.notes, str(self.geometry)])

    @property
    def content(self) -> Pixels | ImageTokens:
        """What a client is given: the tokens where they are known, else the pixels."""
        return self.pixels if self.tokens is None else self.tokens

    def lost(self, stride: int, remedy: str = "--fit pad shows all of it") -> list[str]:
        """Warnings about what of the photo the model does not see, with the remedy."""
        told, loss = self.told(stride), self.geometry.loss(stride)
        if loss.share > MOST_LOST:
            told.append(
                f"{loss.share:.0%} of {self.name} ({loss.tokens} of {loss.of} tokens) lies outside "
                f"the part that the model sees, {self.geometry.seen} of "
                f"{self.geometry.source[0]}x{self.geometry.source[1]}; {remedy}"
            )
        return told

    def told(self, stride: int) -> list[str]:
        """Warnings about the photo as such: frames that are left out, pixels that are too few."""
        told = [] if self.photo is None else list(self.photo.warnings)
        across, down = self.geometry.pixels_each
        if max(across, down) * _MUCH_ENLARGED < 1:
            width, height = self.geometry.used[2:]
            told.append(
                f"{self.name} has only {width}x{height} pixels for the {stride}-pixel tokens of "
                f"the model and is enlarged {1 / min(across, down):.0f} times; use a larger picture"
            )
        return told


def view(photo: Photo, geometry: Geometry) -> Picture:
    """What the model sees of a photo by this geometry."""
    rgb, more = to_rgb(photo.image, photo.profile)
    way = geometry.of_size(rgb.size)
    pixels = np.array(applied(way, rgb, WHITE), dtype=np.uint8)
    return Picture(photo.name, pixels, geometry, (*photo.notes, *more), photo=photo)


def applied(
    geometry: Geometry, image: Image.Image, fill: int | tuple[int, int, int]
) -> Image.Image:
    """`image` (of the geometry's source size), cut, resized, and cropped or padded with `fill`."""
    if geometry.region is not None:
        x, y, width, height = geometry.region
        image = image.crop((x, y, x + width, y + height))
    if image.size != geometry.resized:
        image = image.resize(geometry.resized, Image.Resampling.BICUBIC)
    if image.size == geometry.target:
        return image
    canvas = Image.new(image.mode, geometry.target, fill)
    x, y = geometry.corner
    canvas.paste(image, (-x, -y))
    return canvas


def load_picture(
    path: Path,
    height: int,
    width: int,
    fit: Fit = Fit.CROP,
    at: tuple[float, float] = CENTRE,
) -> Picture:
    """Read a picture and bring it to (height, width) pixels.

    Raises:
        ImageError: not a readable picture, too large to decode, or too narrow to use.
    """
    photo = open_photo(path)
    return view(photo, Geometry(photo.size, (width, height), fit, at=at))
