"""Tokens that a picture's file carries, so that the next command need not find them again.

It does not open pictures, and knows neither tasks nor the network. FILE.md has the layout.

* A PNG carries them in a chunk of its own, `umIC`: ancillary, private, and unsafe to copy (the last
  letter is upper-case), since a program that changes pixels must drop it. Some copy it all the
  same, so a digest of the pixels stands before the tokens.
* Beside a picture of any format lies `NAME.umic`, which names the picture's file by its digest.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from pathlib import Path

from shared_protocol.errors import BadMessageError, BundleMismatchError
from shared_protocol.message.picture_file import (
    MAX_FILE,
    Coding,
    PictureBundle,
    read_picture,
    write_picture,
)
from shared_protocol.tokenizers.image import Pixels
from shared_protocol.tokens import ImageTokens

CHUNK = b"umIC"
SUFFIX = ".umic"
DIGEST_KEY = "picture_sha256"
_PNG = b"\x89PNG\r\n\x1a\n"
_DIGEST_BYTES = 8
_MAX_PNG = 1 << 26


def chunk_of(tokens: ImageTokens, pixels: Pixels, bundle: PictureBundle) -> bytes:
    """What a PNG of `pixels` (H, W, 3) carries: their digest and a `.umic` file."""
    return _digest(pixels) + write_picture(tokens, bundle, Coding.DURABLE)


def tokens_in_chunk(chunk: bytes, pixels: Pixels, bundle: PictureBundle) -> ImageTokens | None:
    """The tokens of a chunk; None where they are not those of `pixels`, or of this bundle."""
    if chunk[:_DIGEST_BYTES] != _digest(pixels):
        return None
    return _tokens(chunk[_DIGEST_BYTES:], bundle)


def find_chunk(data: bytes) -> bytes | None:
    """The content of the chunk in a PNG's bytes, if it has a whole one."""
    if not data.startswith(_PNG):
        return None
    place = len(_PNG)
    while place + 12 <= len(data):
        (size,) = struct.unpack(">I", data[place : place + 4])
        kind, end = data[place + 4 : place + 8], place + 8 + size
        if kind == CHUNK:
            content, check = data[place + 8 : end], data[end : end + 4]
            whole = len(check) == 4 and zlib.crc32(kind + content) == int.from_bytes(check, "big")
            return content if whole else None
        place = end + 4
    return None


def beside(path: Path) -> Path:
    """Where the tokens of a picture's file lie."""
    return path.with_suffix(SUFFIX)


def write_beside(path: Path, tokens: ImageTokens, bundle: PictureBundle) -> bytes:
    """The content of the file beside the picture at `path`, which is there already.

    Raises:
        OSError: the picture cannot be read.
    """
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return write_picture(tokens, bundle, Coding.DURABLE, {DIGEST_KEY: digest})


def tokens_with(path: Path, pixels: Pixels, bundle: PictureBundle) -> ImageTokens | None:
    """The tokens that a picture's file carries, or that lie beside it; None without any.

    Args:
        path: the picture's file.
        pixels: (H, W, 3) uint8, all of it as it was decoded.
        bundle: decides whose tokens are of use.
    """
    if path.stat().st_size > _MAX_PNG:
        return None
    data = path.read_bytes()
    chunk = find_chunk(data)
    if chunk is not None:
        return tokens_in_chunk(chunk, pixels, bundle)
    file = beside(path)
    if not file.is_file() or file.stat().st_size > MAX_FILE:
        return None
    return _tokens(file.read_bytes(), bundle, hashlib.sha256(data).hexdigest())


def _tokens(data: bytes, bundle: PictureBundle, digest: str | None = None) -> ImageTokens | None:
    """The tokens in a `.umic` file's bytes; None for a damaged one, or one of something else."""
    try:
        stored = read_picture(data, bundle)
    except (BadMessageError, BundleMismatchError):
        return None
    if digest is not None and stored.metadata.get(DIGEST_KEY) != digest:
        return None
    return stored.image


def _digest(pixels: Pixels) -> bytes:
    shape = struct.pack(">II", pixels.shape[0], pixels.shape[1])
    return hashlib.sha256(shape + pixels.tobytes()).digest()[:_DIGEST_BYTES]
