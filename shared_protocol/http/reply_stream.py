"""The reply stream: progress, timing, then one message or an error; writer and reader side by side.

Sans IO: the writer gives bytes, the reader is fed chunks of any size; neither knows HTTP nor what
the message means. HTTP.md has the grammar::

    [0, 18] [1, 18] … [18, 18] {"timing": {"decode": 2.1, …}} ext(UniMIC message)
    msgpack values, one after the other               or {"code": …, "message": …} on a late failure
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgpack

from shared_protocol.errors import UnimicError, error_from_wire, error_to_wire
from shared_protocol.http.contract import MAX_REPLY_BYTES

STAGES = ("decode", "queue", "model", "encode")
"""What a server may say of where its time went."""
_MAX_STEP = 2**31
_MAX_MS = 1e9


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
        return sum(value or 0.0 for value in self.stages().values())

    def stages(self) -> dict[str, float]:
        """Stage to milliseconds, of those that are said."""
        said = {stage: getattr(self, stage) for stage in STAGES}
        return {stage: value for stage, value in said.items() if value is not None}


@dataclass(frozen=True)
class Message:
    """One whole UniMIC message, byte for byte as it was sent."""

    data: bytes


@dataclass(frozen=True)
class Failure:
    """What went wrong after the stream had begun; its last value."""

    error: UnimicError


Event = Step | ServerTiming | Message | Failure


class MalformedReplyError(ValueError):
    """The bytes are no reply stream."""


def write_event(event: Event) -> bytes:
    """One value of the stream; `ReplyReader` is the mirror.

    >>> write_event(Step(1, 18)).hex()
    '920112'
    """
    if isinstance(event, Message):
        return event.data
    if isinstance(event, Step):
        value: Any = [event.done, event.total]
    elif isinstance(event, ServerTiming):
        value = {"timing": event.stages()}
    else:
        value = error_to_wire(event.error)
    packed: bytes = msgpack.packb(value)
    return packed


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
                if isinstance(events[-1], Failure):  # nothing after it counts
                    self._pending.clear()
                    return events
        except MalformedReplyError:
            raise
        except (ValueError, msgpack.UnpackException) as error:
            raise MalformedReplyError(f"the reply is not msgpack: {error}") from error
        if self.complete and self._pending:
            raise MalformedReplyError("the reply goes on after its end")
        return events

    def _event(self, value: object) -> Event:
        end = self._unpacker.tell()
        raw = bytes(self._pending[: end - self._start])
        del self._pending[: end - self._start]
        self._start = end
        if self.complete:
            raise MalformedReplyError("the reply goes on after its end")
        if isinstance(value, msgpack.ExtType):
            self.complete = True
            return Message(raw)
        if isinstance(value, list):
            return _step(value)
        if isinstance(value, dict) and isinstance(value.get("timing"), dict):
            return timing_from(value["timing"])
        if isinstance(value, dict) and "code" in value:
            self.complete = True
            return Failure(error_from_wire(value))
        raise MalformedReplyError(f"the reply holds an unexpected {type(value).__name__}")


def _step(value: list[Any]) -> Step:
    if len(value) != 2 or not all(type(item) is int and 0 <= item < _MAX_STEP for item in value):
        raise MalformedReplyError("the reply holds an array that is not [step, total]")
    return Step(*value)


def timing_from(values: Mapping[Any, Any]) -> ServerTiming:
    """The known stages among `values`, without what is no plausible number of milliseconds."""
    stages = {}
    for name in STAGES:
        value = values.get(name)
        if isinstance(value, (int, float)) and 0 <= value < _MAX_MS:
            stages[name] = float(value)
    return ServerTiming(**stages)


def timing_to_header(timing: ServerTiming) -> str:
    """A Server-Timing header, for replies that are one message.

    >>> timing_to_header(ServerTiming(decode=1.5, model=20.0))
    'decode;dur=1.5, model;dur=20.0'
    """
    return ", ".join(f"{stage};dur={value}" for stage, value in timing.stages().items())


def timing_from_header(header: str) -> ServerTiming:
    """The mirror of `timing_to_header`; what is not understood is left out.

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
