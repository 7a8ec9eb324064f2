"""A picture that somebody names or edits: its photo in full size, and its tokens where it has any.

It does not know tasks or the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Protocol

from PIL import Image

from edge_client.pictures.carried_tokens import (
    find_chunk,
    photo_of,
    tokens_in_chunk,
    tokens_with,
)
from edge_client.pictures.geometry import CENTRE, Fit, Geometry, Size
from edge_client.pictures.images import Picture, view
from edge_client.pictures.opening import (
    STDIN,
    STDIN_NAME,
    Photo,
    check_file,
    open_bytes,
    open_photo,
    read_stdin,
    too_large_to_edit,
)
from edge_client.pictures.pasting import Step, rendered
from shared_protocol.errors import ImageError
from shared_protocol.message.picture_file import (
    MAGIC,
    MAX_FILE,
    PictureBundle,
    StoredPicture,
    read_picture,
)
from shared_protocol.tokenizers.image import ImageTokenizer
from shared_protocol.tokens import ImageTokens

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".avif", ".heic")
"""Suffixes of files that a folder or a `.umic` file is searched for."""


class SourceBundle(PictureBundle, Protocol):
    """What reading pictures needs of a bundle; `bundles.Bundle` is one."""

    @property
    def grid(self) -> tuple[int, int]:
        """Native (H, W) in tokens."""

    @property
    def stride(self) -> int:
        """Pixels per token side."""

    def image_tokenizer(self) -> ImageTokenizer:
        """Pixels to codes and back."""


@dataclass(frozen=True, eq=False)
class Source:
    """A photo with what was done to it, and the tokens of the part that a model knows.

    Args:
        name: to call it by.
        bundle: whose tokens they are.
        base: the photo as it was opened; None for tokens without one.
        steps: what edits changed of it.
        tokens: of what `geometry` shows of the photo after all steps; None if not known.
        geometry: of the photo after all steps to its tokens.
    """

    name: str
    bundle: SourceBundle
    base: Photo | None = None
    steps: tuple[Step, ...] = ()
    tokens: ImageTokens | None = None
    geometry: Geometry | None = None

    @property
    def target(self) -> Size:
        """(width, height) in pixels of what the model sees at once."""
        height, width = self.bundle.grid
        return width * self.bundle.stride, height * self.bundle.stride

    @property
    def photo(self) -> Photo | None:
        """The photo after all steps; it is made anew at each call."""
        if self.base is None or not self.steps:
            return self.base
        image, profile, notes = rendered(self.base, self.steps)
        told = (*self.base.notes, *notes)
        return Photo(self.name, image, image.size, told, profile=profile, path=self.base.path)

    @property
    def size(self) -> Size:
        """(width, height) in pixels of the photo, or of what its tokens decode to."""
        if self.geometry is not None:
            return self.geometry.source
        assert self.base is not None, "a source without tokens has a photo"
        return self.base.size

    @property
    def usual(self) -> Geometry:
        """The geometry of its tokens, unless they show less of it than the crop would."""
        crop = Geometry(self.size, self.target)
        known = self.geometry
        if known is None or (self.base is not None and known.seen.area < 0.99 * crop.seen.area):
            return crop
        return known

    def seen(self, geometry: Geometry | None = None) -> Picture:
        """What the model sees of it by a geometry; None = the usual one."""
        geometry = geometry or self.usual
        known = self.tokens is not None and geometry.same_as(self.geometry)
        photo = self.photo
        if photo is not None:
            picture = view(photo, geometry)
            return replace(picture, tokens=self.tokens, notes=_kept(picture)) if known else picture
        assert self.tokens is not None, "a source has a photo or tokens"
        pixels = self.bundle.image_tokenizer().detokenize(self.tokens)
        return Picture(self.name, pixels, geometry, ("tokens from the file",), self.tokens)

    def check_editable(self) -> None:
        """Raise `ImageError` for a photo that was read at a part of its size only."""
        if self.base is not None and self.base.reduced:
            raise too_large_to_edit(self.name, self.base.size)

    def native(self) -> Source:
        """Its tokens alone, without the photo."""
        assert self.tokens is not None, "asked of what a model has seen"
        return of_tokens(self.tokens, self.bundle, self.name)

    def edited(self, step: Step | None, tokens: ImageTokens, geometry: Geometry) -> Source:
        """What results of an edit; without a step, or a photo, it is its tokens alone."""
        if step is None or self.base is None:
            return of_tokens(tokens, self.bundle, self.name)
        steps = (*self.steps, step)
        return replace(self, steps=steps, tokens=tokens, geometry=geometry)


def of_tokens(tokens: ImageTokens, bundle: SourceBundle, name: str) -> Source:
    """Tokens without a photo: their picture is what they decode to."""
    height, width = tokens.shape
    size = width * bundle.stride, height * bundle.stride
    return Source(name, bundle, None, (), tokens, Geometry(size, size))


def open_source(
    path: Path, bundle: SourceBundle, whole: bool = False, photo: Path | None = None
) -> Source:
    """A picture's file, a `.umic` file, or "-" for a picture on standard input.

    Args:
        path: of the file.
        bundle: decides whose tokens are of use.
        whole: refuse a photo that could only be read at a part of its size.
        photo: the picture that a `.umic` file belongs to; None = the one beside it, if any.

    Raises:
        ImageError: not a readable picture.
        BadMessageError, BundleMismatchError: a `.umic` file that is damaged, or of another
            tokenizer.
    """
    if path == STDIN:
        return open_content(read_stdin(), STDIN_NAME, bundle, whole)
    check_file(path)
    if _is_token_file(path):
        return _from_tokens(path, bundle, whole, photo)
    opened = open_photo(path, whole)
    stored = None if opened.reduced else tokens_with(path, opened.image, bundle)
    return _with_tokens(opened, bundle, stored)


def load_source(
    path: Path, bundle: SourceBundle, fit: Fit = Fit.CROP, at: tuple[float, float] = CENTRE
) -> Picture:
    """A picture, or a `.umic` file, as the bundle's tokenizer takes it.

    Where the file carries tokens they are kept, whatever their grid; otherwise the picture is
    brought to the bundle's own size. Errors as of `open_source`.
    """
    source = open_source(path, bundle)
    if source.base is None or (source.tokens is not None and fit is Fit.CROP and at == CENTRE):
        return source.seen()
    return source.seen(Geometry(source.size, source.target, fit, at=at))


def _kept(picture: Picture) -> tuple[str, ...]:
    return (*picture.notes, "its tokens kept")


def open_content(data: bytes, name: str, bundle: SourceBundle, whole: bool = False) -> Source:
    """The same from a file's content; a PNG that carries its tokens keeps them.

    Args:
        data: of the file.
        name: to call it by.
        bundle, whole: as of `open_source`.
    """
    if data.startswith(MAGIC):
        return of_tokens(read_picture(data, bundle).image, bundle, name)
    photo, chunk = open_bytes(data, name, whole), find_chunk(BytesIO(data))
    if chunk is None or photo.reduced:
        return Source(name, bundle, photo)
    return _with_tokens(photo, bundle, tokens_in_chunk(chunk, photo.image, bundle))


def _from_tokens(path: Path, bundle: SourceBundle, whole: bool, photo: Path | None) -> Source:
    stored = read_picture(path.read_bytes(), bundle)
    found = photo or photo_of(path, stored, PICTURES)
    if found is not None:
        source = _with_tokens(open_photo(found, whole), bundle, stored)
        if source.tokens is not None:
            return source
        if photo is not None:
            raise ImageError(
                f"the tokens in {path.name} are not of a photo like {photo.name}",
                "name the photo that they were made of, or leave --photo out",
            )
    return of_tokens(stored.image, bundle, path.name)


def _with_tokens(photo: Photo, bundle: SourceBundle, stored: StoredPicture | None) -> Source:
    """A photo with its tokens, as far as they tell which part of it they are."""
    plain = Source(photo.name, bundle, photo)
    if stored is None:
        return plain
    height, width = stored.image.shape
    target = width * bundle.stride, height * bundle.stride
    geometry = Geometry.from_metadata(stored.metadata, target)
    if geometry is None and photo.size == target:
        geometry = Geometry(target, target)
    if geometry is None or geometry.source != photo.size:
        return plain
    return replace(plain, tokens=stored.image, geometry=geometry)


def _is_token_file(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            found = file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False  # loading it as a picture says what is wrong
    if found and path.stat().st_size > MAX_FILE:
        raise ImageError(f"{path.name} is over {MAX_FILE:,} bytes", "it is no picture file")
    return found


def full_image(
    source: Source, notes: Sequence[str] = ()
) -> tuple[Image.Image, bytes | None, list[str]]:
    """The picture in full size, its colour profile, and notes on its mode."""
    if source.base is None:
        return Image.fromarray(source.seen().pixels), None, list(notes)
    image, profile, more = rendered(source.base, source.steps)
    return image, profile, [*notes, *more]
