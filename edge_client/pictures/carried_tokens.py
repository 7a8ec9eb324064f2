"""Tokens that a picture's file carries, so that the next command need not find them again.

It does not open pictures, and knows neither tasks nor the network. FILE.md has the layout.

* A PNG carries them in a chunk of its own, `umIC`: ancillary, private, and unsafe to copy (the last
  letter is upper-case), since a program that changes pixels must drop it. Some copy it all the
  same, so a digest of the pixels stands before the tokens.
* Beside a picture of any format lies `NAME.umic`, which names the picture's file by its digest.
"""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from pathlib import Path
from typing import IO

from PIL import Image

from shared_protocol.errors import BadMessageError, BundleMismatchError
from shared_protocol.files import read_regular
from shared_protocol.message.picture_file import (
    MAX_FILE,
    Coding,
    Metadata,
    PictureBundle,
    StoredPicture,
    read_picture,
    write_picture,
)
from shared_protocol.tokens import ImageTokens

CHUNK = b"umIC"
SUFFIX = ".umic"
DIGEST_KEY = "picture_sha256"
PHOTO_KEY = "photo_sha256"
_PNG = b"\x89PNG\r\n\x1a\n"
_DIGEST_BYTES = 8
_MOST_CHUNKS = 100_000
_STRIP = 512


def chunk_of(
    tokens: ImageTokens, image: Image.Image, bundle: PictureBundle, metadata: Metadata | None = None
) -> bytes:
    """What a PNG of `image` carries: a digest of its pixels, and a `.umic` file."""
    return _digest(image) + write_picture(tokens, bundle, Coding.DURABLE, metadata)


def tokens_in_chunk(
    chunk: bytes, image: Image.Image, bundle: PictureBundle
) -> StoredPicture | None:
    """The tokens of a chunk; None where they are not those of `image`, or of this bundle."""
    if chunk[:_DIGEST_BYTES] != _digest(image):
        return None
    return _tokens(chunk[_DIGEST_BYTES:], bundle)


def find_chunk(file: IO[bytes]) -> bytes | None:
    """The content of the chunk in a PNG's file, if it has a whole one; nothing else is read."""
    if file.read(len(_PNG)) != _PNG:
        return None
    for _ in range(_MOST_CHUNKS):
        head = file.read(8)
        if len(head) < 8:
            return None
        size, kind = int.from_bytes(head[:4], "big"), head[4:]
        if kind == CHUNK:
            if size > MAX_FILE + _DIGEST_BYTES:
                return None
            content, check = file.read(size), file.read(4)
            whole = len(check) == 4 and zlib.crc32(kind + content) == int.from_bytes(check, "big")
            return content if whole else None
        file.seek(size + 4, os.SEEK_CUR)
    return None


def beside(path: Path) -> Path:
    """Where the tokens of a picture's file lie."""
    return path.with_suffix(SUFFIX)


def write_beside(
    path: Path, tokens: ImageTokens, bundle: PictureBundle, metadata: Metadata | None = None
) -> bytes:
    """The content of the file beside the picture at `path`, which is there already.

    Raises:
        OSError: the picture cannot be read.
    """
    told = {**(metadata or {}), DIGEST_KEY: file_digest(path)}
    return write_picture(tokens, bundle, Coding.DURABLE, told)


def tokens_with(path: Path, image: Image.Image, bundle: PictureBundle) -> StoredPicture | None:
    """The tokens that a picture's file carries, or that lie beside it; None without any.

    Args:
        path: the picture's file.
        image: all of it as it was decoded, upright.
        bundle: decides whose tokens are of use.
    """
    with path.open("rb") as file:
        chunk = find_chunk(file)
    if chunk is not None:
        return tokens_in_chunk(chunk, image, bundle)
    try:
        stored = _tokens(read_regular(beside(path), MAX_FILE), bundle)
    except OSError:
        return None
    told = () if stored is None else tuple(map(stored.metadata.get, (DIGEST_KEY, PHOTO_KEY)))
    return stored if any(told) and file_digest(path) in told else None


def photo_of(path: Path, stored: StoredPicture, suffixes: tuple[str, ...]) -> Path | None:
    """The picture that the tokens at `path` were made of or into, if it lies beside them."""
    wanted = {stored.metadata.get(DIGEST_KEY), stored.metadata.get(PHOTO_KEY)} - {None}
    if not wanted:
        return None
    stem = path.with_suffix("").name
    for each in sorted(path.parent.iterdir()):
        fits = each.suffix.lower() in suffixes and each.with_suffix("").name == stem
        if fits and each.is_file() and file_digest(each) in wanted:
            return each
    return None


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _tokens(data: bytes, bundle: PictureBundle) -> StoredPicture | None:
    """The tokens in a `.umic` file's bytes; None for a damaged one, or one of something else."""
    try:
        return read_picture(data, bundle)
    except (BadMessageError, BundleMismatchError):
        return None


def _digest(image: Image.Image) -> bytes:
    """First bytes of a SHA-256 over height, width and pixels, row by row."""
    found = hashlib.sha256(struct.pack(">II", image.height, image.width))
    for top in range(0, image.height, _STRIP):
        found.update(image.crop((0, top, image.width, min(image.height, top + _STRIP))).tobytes())
    return found.digest()[:_DIGEST_BYTES]
