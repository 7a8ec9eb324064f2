"""How a connection opens: who the device is and what it has, and what of that the cloud knows.

It does not know turns.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from shared_protocol.coding.bits import read_varint, write_varint
from shared_protocol.errors import (
    BadMessageError,
    LimitError,
    TrailingBytesError,
    TruncatedError,
    UnimicError,
    UnsupportedVersionError,
)
from shared_protocol.session.frames import decode_error, encode_error
from shared_protocol.session.kinds import DOWN_ODDS, VERSION, Down
from shared_protocol.session.port import Reader
from shared_protocol.session.state import HASH_BYTES, MAX_PICTURES, MAX_TURN, SESSION_ID_BYTES

FINGERPRINT_BYTES = 4
MAX_KEY_BYTES = 512
MAX_PROGRESS = 15
_PROGRESS_MASK, _PREVIEW, _KEY = 0x0F, 0x10, 0x20


@dataclass(frozen=True)
class Hello:
    """How a device opens a connection, or opens it again.

    Args:
        fingerprint: first 4 bytes of the bundle's fingerprint.
        session: 8 bytes that name the conversation.
        turn: number of the turn that comes next.
        progress: most progress reports a turn, 0..15.
        previews: whether intermediate tokens are wanted.
        key: proves who asks, where the link itself has no place for it; "" = none.
        offers: names of pictures that the cloud may still have, 8 bytes each.
    """

    fingerprint: bytes
    session: bytes
    turn: int = 0
    progress: int = 0
    previews: bool = False
    key: str = ""
    offers: tuple[bytes, ...] = ()


class Status(IntEnum):
    """How the cloud answers a hello; the numbers are fixed on the wire."""

    OPEN = 0
    VERSION = 1
    BUNDLE = 2
    ERROR = 3


@dataclass(frozen=True)
class Welcome:
    """The cloud's answer to a hello.

    Args:
        status: see `Status`.
        known: which of the pictures on offer the cloud has.
        version: what the cloud speaks, where versions differ.
        fingerprint: all 32 bytes of the cloud's, where bundles differ.
        error: what else is wrong.
    """

    status: Status = Status.OPEN
    known: tuple[bool, ...] = ()
    version: int = VERSION
    fingerprint: bytes = b""
    error: UnimicError | None = None


def encode_hello(hello: Hello) -> bytes:
    """The first frame of a connection."""
    key = hello.key.encode()
    flags = (
        min(hello.progress, MAX_PROGRESS)
        | (_PREVIEW if hello.previews else 0)
        | (_KEY if key else 0)
    )
    data = bytes([VERSION]) + hello.fingerprint + hello.session + write_varint(hello.turn)
    data += bytes([flags])
    if key:
        data += write_varint(len(key)) + key
    return data + b"".join(hello.offers)


def decode_hello(data: bytes) -> Hello:
    """The mirror of `encode_hello`.

    Raises:
        UnsupportedVersionError: another version of the session protocol.
        BadMessageError: whatever else is wrong with the bytes.
    """
    _check_version(data)
    end = 1 + FINGERPRINT_BYTES + SESSION_ID_BYTES
    turn, place = read_varint(data, end, MAX_TURN)
    if place >= len(data):
        raise TruncatedError(f"a hello of {len(data)} bytes ends too early")
    flags, place = data[place], place + 1
    if flags & ~(_PROGRESS_MASK | _PREVIEW | _KEY):
        raise BadMessageError(f"reserved bits are set in the flags 0x{flags:02x} of a hello")
    key = b""
    if flags & _KEY:
        size, place = read_varint(data, place, MAX_KEY_BYTES)
        key, place = data[place : place + size], place + size
    names = _names(data, place)
    return Hello(
        data[1 : 1 + FINGERPRINT_BYTES],
        data[1 + FINGERPRINT_BYTES : end],
        turn,
        flags & _PROGRESS_MASK,
        bool(flags & _PREVIEW),
        _ascii(key),
        names,
    )


def _check_version(data: bytes) -> None:
    if not data:
        raise TruncatedError("a hello is empty")
    if data[0] != VERSION:
        raise UnsupportedVersionError(
            f"session version {data[0]} is not supported", f"this end speaks {VERSION}"
        )


def _names(data: bytes, place: int) -> tuple[bytes, ...]:
    """The pictures on offer, which fill a hello from `place` to its end."""
    offers = data[place:]
    if place > len(data) or len(offers) % HASH_BYTES:
        raise TruncatedError(f"a hello of {len(data)} bytes ends inside a field")
    count = len(offers) // HASH_BYTES
    if count > MAX_PICTURES:
        raise LimitError(f"a hello offers {count} pictures, at most {MAX_PICTURES} fit")
    names = tuple(offers[i * HASH_BYTES : (i + 1) * HASH_BYTES] for i in range(count))
    if len(set(names)) != count:
        raise BadMessageError("a hello offers a picture twice")
    return names


def _ascii(key: bytes) -> str:
    try:
        return key.decode("ascii")
    except UnicodeDecodeError as error:
        raise BadMessageError("the key in a hello is not ASCII") from error


def encode_welcome(welcome: Welcome) -> bytes:
    """The cloud's first frame."""
    head = bytes([welcome.status])
    if welcome.status is Status.VERSION:
        return head + bytes([welcome.version])
    if welcome.status is Status.BUNDLE:
        return head + welcome.fingerprint
    if welcome.status is Status.ERROR:
        assert welcome.error is not None, "the status says that there is one"
        return head + encode_error(welcome.error)
    return head + np.packbits(np.array(welcome.known, dtype=bool)).tobytes()


def decode_welcome(data: bytes, offered: int) -> Welcome:
    """The mirror of `encode_welcome`, for a hello that offered so many pictures.

    Raises:
        BadMessageError: whatever is wrong with the bytes.
    """
    if not data or data[0] not in Status._value2member_map_:
        raise BadMessageError("the answer to a hello is none of this version")
    status, body = Status(data[0]), data[1:]
    if status is Status.ERROR:
        return Welcome(status, error=_error_in(body))
    wanted = {Status.VERSION: 1, Status.BUNDLE: 32, Status.OPEN: (offered + 7) // 8}[status]
    if len(body) < wanted:
        raise TruncatedError(f"the answer to a hello has {len(data)} bytes, not {wanted + 1}")
    if len(body) > wanted:
        raise TrailingBytesError(f"{len(body) - wanted} bytes follow the answer to a hello")
    if status is Status.VERSION:
        return Welcome(status, version=body[0])
    if status is Status.BUNDLE:
        return Welcome(status, fingerprint=body)
    flags = np.unpackbits(np.frombuffer(body, dtype=np.uint8)).astype(bool)
    if flags[offered:].any():
        raise BadMessageError("the answer to a hello knows pictures that were not offered")
    return Welcome(status, known=tuple(flags[:offered].tolist()))


def _error_in(data: bytes) -> UnimicError:
    reader = Reader(data)
    if reader.symbol(DOWN_ODDS) != Down.ERROR:
        raise BadMessageError("the answer to a hello tells of no error")
    return decode_error(reader)
