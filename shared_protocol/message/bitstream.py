"""The container: one message is one MessagePack ext value; BITSTREAM.md is the specification.

It does not know what the parts mean nor how they are coded; it frames bytes and checks the frame.

```
 ext header   'M'   version, task, direction   coders   bundle   checksum   parameters   parts
  2, 3, 4, 6   1               1                 1        2         4        0 or more
```
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgpack

from shared_protocol.coding.bits import read_varint, write_varint
from shared_protocol.coding.text_codec import TextCoder
from shared_protocol.errors import (
    BadMagicError,
    BadMessageError,
    LimitError,
    TrailingBytesError,
    TruncatedError,
    UnsupportedVersionError,
)
from shared_protocol.tasks import TABLE, Direction, Part, Scenario, Task

VERSION = 2
EXT_TYPE = 0x55
"""MessagePack extension type of a message, 'U'."""
MAGIC = 0x4D
"""First byte of the ext data, 'M'."""
HEADER_BYTES = 9
"""Magic to checksum."""
PREFIX_BYTES = 2
"""Bytes of the bundle's fingerprint that travel."""

Parameters = Mapping[int, int | tuple[int, ...]]

_HEADER_OF_EXT = {0xD8: 2, 0xC7: 3, 0xC8: 4, 0xC9: 6}
_PARAMETERS_PRESENT = 0x20
_DROPPED_PRESENT = 0x40
_RESERVED = 0x80


@dataclass(frozen=True)
class Limits:
    """What a reader accepts before it allocates anything.

    Args:
        frame_bytes: longest message, header included.
        parameters: most entries in the parameter map.
        values: most values in one parameter.
    """

    frame_bytes: int = 1 << 20
    parameters: int = 16
    values: int = 512


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class Frame:
    """A message taken apart, its parts still coded.

    Args:
        task, direction: which cell of Table I.
        text_coder: how the text part is coded; None = there is no text part.
        scenario: how the image part is coded; None = there is no image part.
        fingerprint_prefix: first 2 bytes of the bundle's fingerprint.
        checksum: CRC-32 of the decoded symbols, see `message.parts`.
        parameters: what differs from the defaults, by number.
        parts: the coded parts in wire order.
        version: format version.
    """

    task: Task
    direction: Direction
    text_coder: TextCoder | None
    scenario: Scenario | None
    fingerprint_prefix: bytes
    checksum: int
    parameters: Parameters
    parts: Mapping[Part, bytes]
    version: int = field(default=VERSION)

    @property
    def head(self) -> bytes:
        """The two header bytes that the checksum covers."""
        coders = (self.text_coder or 0) | (self.scenario or 0) << 2
        coders |= _PARAMETERS_PRESENT if self.parameters else 0
        coders |= _DROPPED_PRESENT if Part.DROPPED in self.parts else 0
        return bytes([self.version << 4 | self.task << 1 | self.direction, coders])


def pack_parameters(parameters: Parameters) -> bytes:
    """A msgpack map with ascending keys; nothing at all for an empty one."""
    if not parameters:
        return b""
    packed: bytes = msgpack.packb({key: parameters[key] for key in sorted(parameters)})
    return packed


def pack(frame: Frame) -> bytes:
    """The bytes of a message; the mirror of `unpack`."""
    data = bytearray([MAGIC]) + frame.head + frame.fingerprint_prefix
    data += frame.checksum.to_bytes(4, "big")
    data += pack_parameters(frame.parameters)
    parts = list(frame.parts.values())
    for part in parts[:-1]:
        data += write_varint(len(part)) + part
    data += parts[-1]
    packed: bytes = msgpack.packb(msgpack.ExtType(EXT_TYPE, bytes(data)))
    return packed


def unpack(data: bytes, limits: Limits = DEFAULT_LIMITS) -> Frame:
    """Take one whole message apart; the mirror of `pack`.

    Raises:
        BadMagicError: not a UniMIC message.
        UnsupportedVersionError: another version of the format.
        TruncatedError: the message ends too early.
        TrailingBytesError: something follows the message.
        LimitError: a length or count is beyond `limits`.
        BadMessageError: a field has a value that this version does not define.
    """
    length = frame_length(data, limits)
    if length is None or len(data) < length:
        raise TruncatedError(f"a message of {len(data)} bytes ends too early")
    if len(data) > length:
        raise TrailingBytesError(f"{len(data) - length} bytes follow the message")
    body = bytes(data[_HEADER_OF_EXT[data[0]] :])
    if body[:1] != bytes([MAGIC]):
        raise BadMagicError("the bytes are not a UniMIC message")
    if len(body) > 1 and body[1] >> 4 != VERSION:
        raise UnsupportedVersionError(
            f"format version {body[1] >> 4} is not supported", f"this end speaks {VERSION}"
        )
    if len(body) < HEADER_BYTES:
        raise TruncatedError(f"a message of {len(body)} bytes ends inside its header")
    return _unpack_body(body, limits)


def _unpack_body(body: bytes, limits: Limits) -> Frame:
    task, direction = _cell(body[1])
    parts = _parts_of(task, direction, dropped=bool(body[2] & _DROPPED_PRESENT))
    text_coder, scenario = _coders(body[2], parts)
    parameters, position = _parameters(body, limits)
    return Frame(
        task=task,
        direction=direction,
        text_coder=text_coder,
        scenario=scenario,
        fingerprint_prefix=body[3 : 3 + PREFIX_BYTES],
        checksum=int.from_bytes(body[5:HEADER_BYTES], "big"),
        parameters=parameters,
        parts=_split(body, position, parts),
        version=body[1] >> 4,
    )


def _cell(byte: int) -> tuple[Task, Direction]:
    number = byte >> 1 & 0x07
    if number not in Task._value2member_map_:
        raise BadMessageError(f"version {VERSION} has no task {number}")
    return Task(number), Direction(byte & 1)


def _parts_of(task: Task, direction: Direction, dropped: bool) -> list[Part]:
    """The parts of a message in wire order."""
    specs = TABLE[task].parts(direction)
    if dropped and not any(spec.part is Part.DROPPED for spec in specs):
        raise BadMessageError(f"a {task.slug} {direction.slug} message cannot drop image tokens")
    return [spec.part for spec in specs if dropped or not spec.optional]


def _coders(byte: int, parts: list[Part]) -> tuple[TextCoder | None, Scenario | None]:
    if byte & _RESERVED:
        raise BadMessageError(f"reserved bits are set in the coder byte 0x{byte:02x}")
    text, image = byte & 0x03, byte >> 2 & 0x07
    if text not in TextCoder._value2member_map_:
        raise BadMessageError(f"there is no text coder {text}")
    if image not in Scenario._value2member_map_:
        raise BadMessageError(f"there is no image scenario {image}")
    if (text and Part.TEXT not in parts) or (image and Part.IMAGE not in parts):
        raise BadMessageError("a coder is named for a part that this message does not have")
    return (
        TextCoder(text) if Part.TEXT in parts else None,
        Scenario(image) if Part.IMAGE in parts else None,
    )


def _parameters(body: bytes, limits: Limits) -> tuple[Parameters, int]:
    """The parameter map and the position after it."""
    if not body[2] & _PARAMETERS_PRESENT:
        return {}, HEADER_BYTES
    unpacker = msgpack.Unpacker(
        raw=True,
        strict_map_key=False,
        max_buffer_size=limits.frame_bytes,
        max_map_len=limits.parameters,
        max_array_len=limits.values,
        max_str_len=0,
        max_bin_len=0,
        max_ext_len=0,
    )
    try:
        unpacker.feed(body[HEADER_BYTES:])
        raw = unpacker.unpack()
    except msgpack.OutOfData as error:
        raise TruncatedError("the message ends inside its parameters") from error
    except (msgpack.UnpackException, ValueError, TypeError, RecursionError) as error:
        raise LimitError(f"the parameters cannot be read: {error}") from error
    if not isinstance(raw, dict) or not raw:
        raise BadMessageError("the parameters are not a map with entries")
    parameters = {_integer(key): _values(value) for key, value in raw.items()}
    end = HEADER_BYTES + unpacker.tell()
    if pack_parameters(parameters) != body[HEADER_BYTES:end]:
        raise BadMessageError("the parameters are not in their canonical form")
    return parameters, end


def _integer(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise BadMessageError(f"a parameter is {value!r}, not an unsigned integer")
    return value


def _values(value: object) -> int | tuple[int, ...]:
    if isinstance(value, list):
        return tuple(_integer(entry) for entry in value)
    return _integer(value)


def _split(body: bytes, position: int, parts: list[Part]) -> dict[Part, bytes]:
    """Cut the coded parts apart; the last one takes what is left."""
    split: dict[Part, bytes] = {}
    for part in parts[:-1]:
        length, position = read_varint(body, position, len(body))
        if position + length > len(body):
            raise TruncatedError(f"the {part.slug} part ends after the message")
        split[part] = body[position : position + length]
        position += length
    split[parts[-1]] = body[position:]
    return split


def frame_length(buffer: bytes, limits: Limits = DEFAULT_LIMITS) -> int | None:
    """Length in bytes of the message that `buffer` starts with, so that a stream can be cut.

    Args:
        buffer: what has arrived so far, from the start of a message.
        limits: what to refuse.

    Returns:
        The length, header included; None while too few bytes have arrived to tell.

    Raises:
        BadMagicError: not the start of a UniMIC message.
        LimitError: the message would be longer than `limits.frame_bytes`.
        BadMessageError: the ext header is not the shortest one for the length.
    """
    if not buffer:
        return None
    header = _HEADER_OF_EXT.get(buffer[0])
    if header is None:
        raise BadMagicError(f"a UniMIC message does not start with 0x{buffer[0]:02x}")
    if len(buffer) < header:
        return None
    if buffer[header - 1] != EXT_TYPE:
        raise BadMagicError(f"extension type {buffer[header - 1]} is not UniMIC's ({EXT_TYPE})")
    size = 16 if header == 2 else int.from_bytes(buffer[1 : header - 1], "big")
    if header + size > limits.frame_bytes:
        raise LimitError(
            f"a message of {header + size} bytes is over the limit of {limits.frame_bytes}"
        )
    if header != _shortest_header(size):
        raise BadMessageError(f"{size} bytes stand behind an ext header of {header} bytes")
    return header + size


def _shortest_header(size: int) -> int:
    if size == 16:
        return 2
    return 3 if size < 1 << 8 else 4 if size < 1 << 16 else 6
