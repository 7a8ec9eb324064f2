"""A picture that somebody names, as pixels and, where its file carries them, as tokens.

It does not know tasks or the network.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from edge_client.pictures.carried_tokens import beside, chunk_of, tokens_with, write_beside
from edge_client.pictures.images import Fit, Geometry, Picture, load_picture, save_picture
from shared_protocol.errors import ImageError
from shared_protocol.files import write_atomically
from shared_protocol.message.picture_file import MAGIC, MAX_FILE, PictureBundle, read_picture
from shared_protocol.tokenizers.image import ImageTokenizer, Pixels
from shared_protocol.tokens import ImageTokens


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


def load_source(path: Path, bundle: SourceBundle, fit: Fit = Fit.CROP) -> Picture:
    """A picture, or a `.umic` file, for the bundle's tokenizer.

    Where the file carries tokens they are kept, whatever their grid; otherwise the picture is
    brought to the bundle's own size.

    Raises:
        ImageError: not a readable picture.
        BadMessageError, BundleMismatchError: a `.umic` file that is damaged, or of another
            tokenizer.
    """
    if _is_token_file(path):
        tokens = read_picture(path.read_bytes(), bundle).image
        pixels = bundle.image_tokenizer().detokenize(tokens)
        return _as_it_is(path, pixels, tokens, "tokens from the file")
    height, width = (side * bundle.stride for side in bundle.grid)
    picture = load_picture(path, height, width, fit)
    whole = picture.whole
    if fit is not Fit.CROP or whole is None:
        return picture
    found = tokens_with(path, whole, bundle)
    if found is None or whole.shape[:2] != tuple(side * bundle.stride for side in found.shape):
        return picture
    return _as_it_is(path, whole, found, "its tokens kept")


def _is_token_file(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            found = file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False  # loading it as a picture says what is wrong
    if found and path.stat().st_size > MAX_FILE:
        raise ImageError(f"{path.name} is over {MAX_FILE:,} bytes", "it is no picture file")
    return found


def _as_it_is(path: Path, pixels: Pixels, tokens: ImageTokens, note: str) -> Picture:
    size = pixels.shape[1], pixels.shape[0]
    return Picture(path.name, pixels, Geometry(size, size), (note,), tokens)


def save_result(
    path: Path, pixels: Pixels, tokens: ImageTokens | None, bundle: PictureBundle
) -> list[Path]:
    """Write a picture and, unless `tokens` is None, its tokens in it and beside it.

    Args:
        path: ends in .png, .jpg or .webp.
        pixels: (H, W, 3) uint8.
        tokens: those that `pixels` were decoded from.
        bundle: names the tokenizer.

    Returns:
        What was written.

    Raises:
        ImageError: a file cannot be written.
    """
    if tokens is None:
        save_picture(path, pixels)
        return [path]
    save_picture(path, pixels, chunk_of(tokens, pixels, bundle))
    try:
        write_atomically(beside(path), write_beside(path, tokens, bundle))
    except OSError as error:
        raise ImageError(f"cannot write {beside(path)}: {error.strerror}") from error
    return [path, beside(path)]
