"""The small frames: reset, cancel, unknown, progress, error.

It does not know turns, nor how frames travel.
"""

from __future__ import annotations

from shared_protocol.errors import CODES, ServiceError, UnimicError, printable
from shared_protocol.message.parts import translated
from shared_protocol.session.kinds import DOWN_ODDS, UP_ODDS, Down, Up
from shared_protocol.session.port import Port, Reader, Writer, code_flag, code_number, code_words
from shared_protocol.session.state import SessionState

_PROGRESS_PARTS = 16
_TEXT_BYTES = 500
_RETRY_UNIT_S = 0.25
_MAX_RETRY = (1 << 14) - 1

ERROR_CODES = (
    "service_failed", "bad_message", "invalid_input", "bad_prompt", "bad_mask", "token_range",
    "overloaded", "deadline", "internal", "unauthorized", "over_limit", "cancelled",
    "bundle_mismatch", "bad_config", "not_found", "unsupported_version",
)  # fmt: skip
"""Numbers of errors on the wire, by position; any other error travels as the first."""
PARTICULAR = {"rate_limited": "overloaded"}
"""Errors without a number, each with the more general one whose number it has: its message then
begins with its own name, for those who know it."""


def encode_reset(state: SessionState) -> bytes:
    """Both ends forget pictures and options; the next turn is `state.turn`."""
    writer = Writer()
    writer.symbol(UP_ODDS, Up.RESET)
    code_number(writer, 32, state.turn)
    writer.check(state.session)
    return writer.finish()


def decode_reset(reader: Reader, session: bytes) -> int:
    """The number of the next turn, of a frame whose kind was read already."""
    with translated():
        turn = code_number(reader, 32, None)
        reader.check(session)
        reader.finish()
        return turn


def encode_cancel(state: SessionState) -> bytes:
    """The turn under way is not wanted any more."""
    writer = Writer()
    writer.symbol(UP_ODDS, Up.CANCEL)
    writer.check(state.session)
    return writer.finish()


def decode_cancel(reader: Reader, session: bytes) -> None:
    """Check a frame whose kind was read already."""
    with translated():
        reader.check(session)
        reader.finish()


def encode_unknown(state: SessionState) -> bytes:
    """A turn could not be read; both ends forget pictures and options."""
    writer = Writer()
    writer.symbol(DOWN_ODDS, Down.UNKNOWN)
    writer.check(state.session)
    return writer.finish()


def decode_unknown(reader: Reader, session: bytes) -> None:
    """Check a frame whose kind was read already."""
    decode_cancel(reader, session)


def encode_progress(done: int, total: int) -> bytes:
    """How much of a turn's work is done, in sixteenths: two bytes."""
    writer = Writer()
    writer.symbol(DOWN_ODDS, Down.PROGRESS)
    part = min(_PROGRESS_PARTS - 1, _PROGRESS_PARTS * done // max(1, total))
    writer.uniform(_PROGRESS_PARTS, part)
    return writer.finish()


def decode_progress(reader: Reader) -> tuple[int, int]:
    """(parts done, 16), of a frame whose kind was read already."""
    with translated():
        part = reader.uniform(_PROGRESS_PARTS)
        reader.finish()
        return part, _PROGRESS_PARTS


def encode_error(error: UnimicError) -> bytes:
    """What is wrong with a turn, or with a hello."""
    writer = Writer()
    writer.symbol(DOWN_ODDS, Down.ERROR)
    code_error(writer, error)
    writer.check(b"")
    return writer.finish()


def decode_error(reader: Reader) -> UnimicError:
    """The error of a frame whose kind was read already."""
    with translated():
        error = code_error(reader, None)
        reader.check(b"")
        reader.finish()
        return error


def code_error(port: Port, error: UnimicError | None) -> UnimicError:
    """Code, seconds to wait, message and remedy."""
    number = said = None
    if error is not None:
        code = PARTICULAR.get(error.code, error.code)
        number = ERROR_CODES.index(code) if code in ERROR_CODES else 0
        said = error.message if code == error.code else f"{error.code}: {error.message}"
    found = port.uniform(len(ERROR_CODES), number)
    later = None if error is None else error.retry_after
    retry_after = None
    if code_flag(port, (1, 1), None if error is None else later is not None):
        units = None if later is None else min(_MAX_RETRY, round(later / _RETRY_UNIT_S))
        retry_after = code_number(port, 14, units) * _RETRY_UNIT_S
    message = code_words(port, _TEXT_BYTES, said)
    remedy = code_words(port, _TEXT_BYTES, None if error is None else error.remedy)
    name, _, rest = message.partition(": ")
    if PARTICULAR.get(name) == ERROR_CODES[found]:
        return CODES[name](printable(rest), printable(remedy), retry_after)
    kind = CODES.get(ERROR_CODES[found], ServiceError)
    return kind(printable(message), printable(remedy), retry_after)
