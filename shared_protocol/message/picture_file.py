"""A tokenised picture as a file (`.umic`): an envelope around its codes; FILE.md is the layout.

It does not know pixels, nor messages: a message lives for one exchange between two ends with one
bundle, a file for as long as the tokenizer that gives its codes their meaning.

::

    'UMIC'  version, flags  tokenizer  grid  [entropy model]  [metadata]  codes  CRC-32
       4          1             4        2          4           varint+n  varint+n   4
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

import msgpack

from shared_protocol.coding.bits import pack_bits, read_varint, unpack_bits, write_varint
from shared_protocol.coding.image_codec import (
    ImageEntropy,
    code_bits,
    decode_codes,
    encode_codes,
    nothing_known,
)
from shared_protocol.errors import (
    BadMagicError,
    BadMessageError,
    BundleMismatchError,
    ChecksumError,
    InvalidInputError,
    LimitError,
    TokenRangeError,
    TrailingBytesError,
    TruncatedError,
    UnsupportedVersionError,
)
from shared_protocol.tasks import Scenario
from shared_protocol.tokens import Codes, ImageTokens, check_grid
from shared_protocol.vocabulary import Vocabulary

MAGIC = b"UMIC"
VERSION = 1
MAX_METADATA = 64 * 1024
"""Most bytes of the metadata map."""
MAX_FILE = 1 << 20
NAME_BYTES = 4
"""Bytes of a fingerprint that stand in a file; the checksum covers all of it."""
_ENTROPY, _METADATA = 0x01, 0x02
_MODEL = Scenario.GENERIC
_OLD_STARTS = (0xC7, 0xC8, 0xC9, 0xD8)
"""First bytes of the messages that files were in format version 1."""

Value = str | int | list[int] | list[str]
Metadata = Mapping[str, Value]
"""What may be said about a picture; the keys that the project writes are in FILE.md."""


class Coding(Enum):
    """How the codes are written."""

    SMALLEST = "smallest"
    """By the bundle's entropy model where that is shorter: readable with that model only."""
    DURABLE = "durable"
    """At ceil(log2 V) bits each: readable as long as the tokenizer exists."""


class PictureBundle(Protocol):
    """What reading and writing files needs of a bundle; `bundles.Bundle` is one."""

    @property
    def name(self) -> str:
        """What people call it."""

    @property
    def vocabulary(self) -> Vocabulary:
        """The unified id space."""

    @property
    def tokenizer_fingerprint(self) -> bytes:
        """32 bytes that name what gives codes their meaning."""

    @property
    def entropy(self) -> ImageEntropy:
        """Entropy models of the image tokens."""

    def entropy_fingerprint(self, scenario: Scenario) -> bytes | None:
        """32 bytes that name a scenario's model; None if there is none."""


@dataclass(frozen=True)
class FileAnatomy:
    """What a file is made of.

    Args:
        version: of the file format.
        grid: (H, W) in tokens.
        tokenizer, entropy: first bytes of the fingerprints; no `entropy` for 13-bit codes.
        envelope, metadata, image: bytes of each.
        uniform: bytes that the codes would take at 13 bits; None where the bundle is not known.
    """

    version: int
    grid: tuple[int, int]
    tokenizer: bytes
    entropy: bytes | None
    envelope: int
    metadata: int
    image: int
    uniform: int | None = None

    @property
    def total(self) -> int:
        """The whole file."""
        return self.envelope + self.metadata + self.image


@dataclass(frozen=True)
class StoredPicture:
    """A picture and what its file says about it."""

    image: ImageTokens
    metadata: Metadata
    anatomy: FileAnatomy


@dataclass(frozen=True)
class _Envelope:
    """A file taken apart, its codes still coded; `covered` are the bytes before the checksum."""

    grid: tuple[int, int]
    tokenizer: bytes
    entropy: bytes | None
    packed_metadata: bytes
    codes: bytes
    checksum: int
    covered: bytes
    metadata: Metadata = field(default_factory=dict)


def write_picture(
    image: ImageTokens,
    bundle: PictureBundle,
    coding: Coding = Coding.SMALLEST,
    metadata: Metadata | None = None,
) -> bytes:
    """The bytes of a file; the mirror of `read_picture`.

    Args:
        image: the codes.
        bundle: names the tokenizer, and the entropy model where one is used.
        coding: see `Coding`.
        metadata: what to say about the picture; costs its bytes.

    Raises:
        TokenRangeError: codes of another codebook than the bundle's.
        InvalidInputError: metadata of another kind than `Metadata`, or too much of it.
    """
    size = bundle.vocabulary.codebook_size
    if image.codebook_size != size:
        raise TokenRangeError(
            f"the image codes are of {image.codebook_size}, the bundle's are of {size}"
        )
    model = bundle.entropy_fingerprint(_MODEL) if coding is Coding.SMALLEST else None
    scenario, codes = _encode(image, bundle, model)
    model = None if scenario is Scenario.UNIFORM else model
    packed = _pack_metadata(metadata or {})
    flags = (_ENTROPY if model else 0) | (_METADATA if packed else 0)
    data = MAGIC + bytes([VERSION << 4 | flags]) + bundle.tokenizer_fingerprint[:NAME_BYTES]
    data += bytes(image.shape)
    data += model[:NAME_BYTES] if model else b""
    data += write_varint(len(packed)) + packed if packed else b""
    data += write_varint(len(codes)) + codes
    return data + _checksum(data, bundle, model, image.codes).to_bytes(4, "big")


def read_picture(data: bytes, bundle: PictureBundle) -> StoredPicture:
    """The picture that `write_picture` wrote.

    Raises:
        BadMessageError: one of its subclasses, whatever is wrong with the bytes.
        BundleMismatchError: written with another tokenizer, or coded by another entropy model.
    """
    envelope = _open(data)
    model = _check_names(envelope, bundle)
    codes = _decode(envelope, bundle)
    if _checksum(envelope.covered, bundle, model, codes) != envelope.checksum:
        raise ChecksumError(
            "the file was damaged, or the entropy models of its writer compute otherwise",
            "copy it again, or have it written as a durable file",
        )
    image = ImageTokens(codes, bundle.vocabulary.codebook_size)
    uniform = (codes.size * code_bits(bundle.vocabulary.codebook_size) + 7) // 8
    return StoredPicture(image, envelope.metadata, _anatomy(envelope, len(data), uniform))


def inspect_picture(data: bytes) -> tuple[FileAnatomy, Metadata]:
    """What the envelope tells without a bundle; the codes and the checksum are not looked at.

    Raises:
        BadMessageError: one of its subclasses, if the bytes are no such file.
    """
    envelope = _open(data)
    return _anatomy(envelope, len(data), None), envelope.metadata


def _encode(
    image: ImageTokens, bundle: PictureBundle, model: bytes | None
) -> tuple[Scenario, bytes]:
    """The scenario used and the coded bytes."""
    codes, size = image.codes.ravel(), bundle.vocabulary.codebook_size
    if model is None:
        return Scenario.UNIFORM, pack_bits(codes, code_bits(size))
    return encode_codes(codes, nothing_known(*image.shape), (_MODEL,), bundle.entropy, size)


def _decode(envelope: _Envelope, bundle: PictureBundle) -> Codes:
    """The (H, W) codes of a file whose names fit the bundle."""
    size, context = bundle.vocabulary.codebook_size, nothing_known(*envelope.grid)
    if envelope.entropy is None:
        codes = unpack_bits(envelope.codes, code_bits(size), context.count)
    else:
        codes = decode_codes(envelope.codes, context, (_MODEL,), bundle.entropy, size, _MODEL)
    if int(codes.max(initial=0)) >= size:
        raise BadMessageError(f"an image code is outside 0..{size - 1}")
    return codes.reshape(envelope.grid)


def _checksum(covered: bytes, bundle: PictureBundle, model: bytes | None, codes: Codes) -> int:
    """CRC-32 over whole fingerprints, everything before the checksum, and the decoded codes."""
    names = bundle.tokenizer_fingerprint + (model or b"")
    return zlib.crc32(names + covered + codes.astype("<u4").tobytes())


def _check_names(envelope: _Envelope, bundle: PictureBundle) -> bytes | None:
    """The fingerprint of the entropy model that the file needs, if any."""
    ours = bundle.tokenizer_fingerprint
    if envelope.tokenizer != ours[:NAME_BYTES]:
        raise BundleMismatchError(
            f"the file was written with image tokenizer {envelope.tokenizer.hex()}, "
            f"the bundle {bundle.name} here has {ours[:NAME_BYTES].hex()}",
            "name the bundle that it was written with by --bundle; 'edge-client fetch' gets that "
            "of the server",
        )
    if envelope.entropy is None:
        return None
    model = bundle.entropy_fingerprint(_MODEL)
    if model is None or model[:NAME_BYTES] != envelope.entropy:
        found = "none" if model is None else model[:NAME_BYTES].hex()
        raise BundleMismatchError(
            f"the file was coded by entropy model {envelope.entropy.hex()}, "
            f"the bundle {bundle.name} here has {found}",
            "name the bundle that it was written with by --bundle, get that of the server with "
            "'edge-client fetch', or have it encoded again with --durable: durable files need no "
            "entropy model",
        )
    return model


def _open(data: bytes) -> _Envelope:
    """Take one whole file apart, every length checked before it is used."""
    if not data.startswith(MAGIC[: len(data)]):
        if data[0] in _OLD_STARTS:
            raise UnsupportedVersionError(
                "this is a message, or a file of format version 1",
                "encode the picture again; 'edge-client inspect' shows messages",
            )
        raise BadMagicError("the bytes are not a UniMIC picture file")
    if len(data) > MAX_FILE:
        raise LimitError(f"a file of {len(data):,} bytes is over the limit of {MAX_FILE:,}")
    head = _Cursor(data, len(MAGIC))
    version, flags = divmod(head.take(1)[0], 16)
    if version != VERSION:
        raise UnsupportedVersionError(
            f"file version {version} is not supported", f"this release reads {VERSION}"
        )
    if flags & ~(_ENTROPY | _METADATA):
        raise BadMessageError(f"the file has flags 0x{flags:x} that version {VERSION} has not")
    tokenizer = head.take(NAME_BYTES)
    height, width = head.take(2)
    try:
        check_grid(height, width)
    except TokenRangeError as error:
        raise BadMessageError(error.message, error.remedy) from error
    entropy = head.take(NAME_BYTES) if flags & _ENTROPY else None
    packed = head.counted(MAX_METADATA) if flags & _METADATA else b""
    codes = head.counted(MAX_FILE)
    covered = data[: head.position]
    checksum = int.from_bytes(head.take(4), "big")
    if head.position != len(data):
        raise TrailingBytesError(f"{len(data) - head.position} bytes follow the file")
    metadata = _unpack_metadata(packed) if flags & _METADATA else {}
    return _Envelope(
        (height, width), tokenizer, entropy, packed, codes, checksum, covered, metadata
    )


class _Cursor:
    """Reads on through bytes and refuses to run past their end."""

    def __init__(self, data: bytes, position: int) -> None:
        self._data = data
        self.position = position

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        end = self.position + count
        if end > len(self._data):
            raise TruncatedError(f"a file of {len(self._data)} bytes ends too early")
        taken, self.position = self._data[self.position : end], end
        return taken

    def counted(self, limit: int) -> bytes:
        """As many bytes as the varint in front of them says, at most `limit`."""
        length, self.position = read_varint(self._data, self.position, limit)
        return self.take(length)


def _pack_metadata(metadata: Metadata) -> bytes:
    """A MessagePack map with ascending keys; nothing at all for an empty one."""
    for key, value in metadata.items():
        if not isinstance(key, str) or not _is_value(value):
            raise InvalidInputError(
                f"metadata {key!r} is {type(value).__name__}",
                "use text, whole numbers of 64 bits, and lists of either",
            )
    if not metadata:
        return b""
    packed: bytes = msgpack.packb({key: metadata[key] for key in sorted(metadata)})
    if len(packed) > MAX_METADATA:
        raise InvalidInputError(
            f"the metadata take {len(packed):,} bytes", f"at most {MAX_METADATA:,} fit"
        )
    return packed


def _unpack_metadata(packed: bytes) -> Metadata:
    """The mirror of `_pack_metadata`; keys of later versions are kept."""
    try:
        found = msgpack.unpackb(packed, strict_map_key=False, max_ext_len=0, max_bin_len=0)
    except (msgpack.UnpackException, ValueError, TypeError, RecursionError) as error:
        raise BadMessageError(f"the metadata cannot be read: {error}") from error
    if not isinstance(found, dict) or not found:
        raise BadMessageError("the metadata are not a map with entries")
    try:
        if _pack_metadata(found) != packed:
            raise BadMessageError("the metadata are not in their canonical form")
    except InvalidInputError as error:
        raise BadMessageError(error.message, error.remedy) from error
    return found


def _is_value(value: object) -> bool:
    if isinstance(value, list):
        kinds = {type(entry) for entry in value}
        return kinds in (set(), {int}, {str}) and all(map(_is_value, value))
    if type(value) is int:
        return -(2**63) <= value < 2**64
    return isinstance(value, str)


def _anatomy(envelope: _Envelope, total: int, uniform: int | None) -> FileAnatomy:
    metadata, image = len(envelope.packed_metadata), len(envelope.codes)
    return FileAnatomy(
        VERSION,
        envelope.grid,
        envelope.tokenizer,
        envelope.entropy,
        total - metadata - image,
        metadata,
        image,
        uniform,
    )
