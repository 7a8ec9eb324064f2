"""How much of a coded picture is the picture, and how much is its container.

It reads structure only and decodes nothing. Everything that is not known to be picture is counted
as header, which favours the codec.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Set

from shared_protocol.errors import BadMessageError

_START_CODE = re.compile(rb"\x00{2,3}\x01")
_STANDALONE = {0x01, *range(0xD0, 0xD9)}
_START_OF_SCAN = 0xDA


def jpeg_header(data: bytes) -> int:
    """All of a JPEG file but its scans: markers, quantiser and Huffman tables, frame header.

    Sender and receiver may agree on the tables ("abbreviated format", ITU-T T.81, B.4).

    Raises:
        BadMessageError: no JPEG file.
    """
    if data[:2] != b"\xff\xd8":
        raise _unreadable("JPEG", data)
    position, picture = 2, 0
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker in _STANDALONE or marker == 0xD9:
            position += 2
            continue
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        position = end
        if marker == _START_OF_SCAN:
            position = _end_of_scan(data, end)
            picture += position - end
    return len(data) - picture


def _end_of_scan(data: bytes, start: int) -> int:
    """Where the entropy-coded segment ends: at a marker that is neither stuffing nor restart."""
    position = start
    while (position := data.find(b"\xff", position)) >= 0 and position + 1 < len(data):
        following = data[position + 1]
        if following != 0 and not 0xD0 <= following <= 0xD7:
            return position
        position += 2
    return len(data)


def webp_header(data: bytes) -> int:
    """RIFF header, chunk headers and every chunk but the coded frame.

    Raises:
        BadMessageError: no WebP file.
    """
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        raise _unreadable("WebP", data)
    position, picture = 12, 0
    while position + 8 <= len(data):
        size = int.from_bytes(data[position + 4 : position + 8], "little")
        if data[position : position + 4] in (b"VP8 ", b"VP8L"):
            picture += size
        position += 8 + size + size % 2
    return len(data) - picture


def isobmff_header(data: bytes) -> int:
    """All boxes of an AVIF or HEIC file but the content of `mdat`.

    Raises:
        BadMessageError: no such file.
    """
    if data[4:8] != b"ftyp":
        raise _unreadable("AVIF or HEIC", data)
    position, picture = 0, 0
    while position + 8 <= len(data):
        size = int.from_bytes(data[position : position + 4], "big") or len(data) - position
        if size < 8:
            raise _unreadable("AVIF or HEIC", data)
        if data[position + 4 : position + 8] == b"mdat":
            picture += size - 8
        position += size
    return len(data) - picture


def annex_b_header(data: bytes, unit_type: Callable[[bytes], int], picture: Set[int]) -> int:
    """All of a raw HEVC or VVC stream but the NAL units that hold picture data.

    Args:
        data: an Annex B byte stream.
        unit_type: the type of a NAL unit of at least two bytes.
        picture: the types that hold picture data.

    Raises:
        BadMessageError: no start code.
    """
    codes = list(_START_CODE.finditer(data))
    if not codes:
        raise _unreadable("raw video", data)
    ends = [code.start() for code in codes[1:]] + [len(data)]
    units = [data[code.end() : end] for code, end in zip(codes, ends, strict=True)]
    return len(data) - sum(len(u) for u in units if len(u) > 1 and unit_type(u) in picture)


def _unreadable(kind: str, data: bytes) -> BadMessageError:
    return BadMessageError(f"{len(data)} bytes that begin with {data[:4].hex()} are no {kind}")
