"""Reads a reply stream: progress, server timing, then one message or an error.

Sans IO: it is fed chunks of any size and knows neither HTTP nor what the message means.

::

    [1, 18] [2, 18] … {"timing": {"decode": 2.1, …}} ext(UniMIC message)
    msgpack values, one after the other              or {"code": …, "message": …} on a late failure
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgpack

from shared_protocol.errors import UnimicError, error_from_wire

MAX_REPLY_BYTES = 1 << 20
MAX_ERROR_TEXT = 500


@dataclass(frozen=True)
class Step:
    """The cloud has finished `done` of `total` steps."""

    done: int
    total: int


@dataclass(frozen=True)
class ServerTiming:
    """Milliseconds that the server spent, as it says; None where it did not say.

    Args:
        decode: reading the request.
        queue: waiting for the model.
        model: running it.
        encode: writing the reply.
    """

    decode: float | None = None
    queue: float | None = None
    model: float | None = None
    encode: float | None = None

    @property
    def total(self) -> float:
        """All of it, in milliseconds."""
        return sum(value or 0.0 for value in (self.decode, self.queue, self.model, self.encode))


@dataclass(frozen=True)
class Message:
    """One whole UniMIC message, byte for byte as it was sent."""

    data: bytes


Event = Step | ServerTiming | Message


class MalformedReplyError(ValueError):
    """The bytes are no reply stream; `transport` translates it."""


class ReplyReader:
    """Turns chunks of a reply stream into events.

    Args:
        limit: most bytes that a reply may have.
    """

    def __init__(self, limit: int = MAX_REPLY_BYTES) -> None:
        self._limit = limit
        self._unpacker = msgpack.Unpacker(
            max_buffer_size=limit,
            max_str_len=limit,
            max_bin_len=limit,
            max_ext_len=limit,
            max_array_len=16,
            max_map_len=64,
        )
        self._pending = bytearray()  # bytes of the value that is being read
        self._start = 0  # its offset in the stream
        self.received = 0
        self.complete = False

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that `chunk` completes.

        Raises:
            MalformedReplyError: not a reply stream, too long, or longer than its message.
            UnimicError: the error that the server reports in the stream.
        """
        self.received += len(chunk)
        if self.received > self._limit:
            raise MalformedReplyError(f"the reply is longer than {self._limit:,} bytes")
        self._pending += chunk
        events = []
        try:
            self._unpacker.feed(chunk)
            for value in self._unpacker:
                events.append(self._event(value))
        except MalformedReplyError:
            raise
        except (ValueError, msgpack.UnpackException) as error:
            raise MalformedReplyError(f"the reply is not msgpack: {error}") from error
        if self.complete and self._pending:
            raise MalformedReplyError("the reply goes on after its message")
        return events

    def _event(self, value: object) -> Event:
        end = self._unpacker.tell()
        raw = bytes(self._pending[: end - self._start])
        del self._pending[: end - self._start]
        self._start = end
        if self.complete:
            raise MalformedReplyError("the reply goes on after its message")
        if isinstance(value, msgpack.ExtType):
            self.complete = True
            return Message(raw)
        if isinstance(value, list):
            return _step(value)
        if isinstance(value, dict) and isinstance(value.get("timing"), dict):
            return timing_from(value["timing"])
        if isinstance(value, dict) and "code" in value:
            raise wire_error(value)
        raise MalformedReplyError(f"the reply holds an unexpected {type(value).__name__}")


def _step(value: list[Any]) -> Step:
    if len(value) != 2 or not all(type(item) is int and 0 <= item < 2**31 for item in value):
        raise MalformedReplyError("the reply holds an array that is not [step, total]")
    return Step(*value)


def timing_from(values: Mapping[Any, Any]) -> ServerTiming:
    """The known stages among `values`, without what is no plausible number of milliseconds."""
    stages = {}
    for name in ("decode", "queue", "model", "encode"):
        value = values.get(name)
        if isinstance(value, (int, float)) and 0 <= value < 1e9:
            stages[name] = float(value)
    return ServerTiming(**stages)


def timing_from_header(header: str) -> ServerTiming:
    """`ServerTiming` of a Server-Timing header.

    >>> timing_from_header("decode;dur=1.5, model;desc=x;dur=20").model
    20.0
    """
    values = {}
    for metric in header.split(","):
        name, *parameters = (part.strip() for part in metric.split(";"))
        for parameter in parameters:
            key, _, number = parameter.partition("=")
            if key.strip() == "dur":
                values[name] = _number(number)
    return timing_from(values)


def _number(text: str) -> float:
    try:
        return float(text.strip().strip('"'))
    except ValueError:
        return -1.0


def wire_error(body: Mapping[Any, Any]) -> UnimicError:
    """The typed error of an error body, with text that is safe to show on a terminal."""
    error = error_from_wire(dict(body))
    error.message, error.remedy = printable(error.message), printable(error.remedy)
    error.args = (error.message,)
    return error


def printable(text: str, limit: int = MAX_ERROR_TEXT) -> str:
    """`text` on one line without control characters, cut to `limit` characters."""
    line = "".join(char if char.isprintable() else " " for char in text)
    return line if len(line) <= limit else line[: limit - 1] + "…"
