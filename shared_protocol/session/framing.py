"""Frames on a stream of bytes: each behind its length.

It does not know what a frame holds. A WebSocket needs none of this: its messages are the frames.
"""

from __future__ import annotations

from collections.abc import Iterator

from shared_protocol.coding.bits import read_varint, write_varint
from shared_protocol.errors import BadMessageError, LimitError, TruncatedError

MAX_FRAME = 64 * 1024
"""Longest frame in bytes, here and on a WebSocket."""
_MAX_HEAD = 3


def framed(data: bytes) -> bytes:
    """A frame behind its length, a varint: one byte up to 127."""
    return write_varint(len(data)) + data


class FrameCutter:
    """Cuts a stream of bytes into frames, whatever pieces it arrives in."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The frames that are whole with `chunk`.

        Raises:
            LimitError: a frame would be longer than `MAX_FRAME`.
            BadMessageError: a length is not in its shortest form.
        """
        self._buffer += chunk
        while (head := self._head()) is not None:
            size, start = head
            if len(self._buffer) < start + size:
                return
            frame = bytes(self._buffer[start : start + size])
            del self._buffer[: start + size]
            yield frame

    def _head(self) -> tuple[int, int] | None:
        """Length of the next frame and where it begins; None while that has not arrived."""
        try:
            return read_varint(bytes(self._buffer[:_MAX_HEAD]), 0, MAX_FRAME)
        except TruncatedError as error:
            if len(self._buffer) < _MAX_HEAD:
                return None
            raise BadMessageError("the length of a frame is too long") from error
        except LimitError as error:
            raise LimitError(f"a frame is over the limit of {MAX_FRAME} bytes") from error
