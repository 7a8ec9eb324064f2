"""The one way to standard output and standard error: nothing that is written there steers a
terminal, whoever wrote it.

Servers, files, their names and their errors are shown by many commands. What they hold is made safe
here, at the output, and not where it is put together. It does not know what is said.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, TextIO

from shared_protocol.errors import UnimicError

# Letters are left alone, and so is what joins them in some scripts, where it cannot reorder.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 but for tab and line feed, DEL, C1
    "\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # order, breaks
    "\U000e0000-\U000e007f\ud800-\udfff]"  # tags, lone surrogates
)
_LONGEST = 1 << 20
"""Characters of one piece of output; nobody reads more."""
_DEEPEST = 64


class OutputError(UnimicError):
    """Standard output takes nothing: it is closed, or its disk is full."""


def shown(text: str) -> str:
    """Text as a terminal may have it: what could steer one becomes a space.

    >>> shown("red\\x1b[31m\\u202egnp.exe\\n")
    'red [31m gnp.exe\\n'
    """
    return _UNSAFE.sub(" ", text[:_LONGEST])


def json_shown(data: Any, one_line: bool = False) -> str:
    """Data as JSON that means the same and steers no terminal, either; it is valid JSON, too.

    >>> json_shown({"a": "\\x9b31m\\u202e", "b": float("nan")}).split()
    ['{', '"a":', '"\\\\u009b31m\\\\u202e",', '"b":', 'null', '}']
    """
    indent = None if one_line else 2
    text = json.dumps(_plain(data), indent=indent, ensure_ascii=False, default=str, allow_nan=False)
    return _UNSAFE.sub(lambda found: json.dumps(found[0])[1:-1], text)


def _plain(data: Any, depth: int = 0) -> Any:
    """Data with no number that JSON lacks, and no deeper than anybody reads."""
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, Mapping):
        if depth > _DEEPEST:
            return "…"
        return {str(key): _plain(value, depth + 1) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return "…" if depth > _DEEPEST else [_plain(value, depth + 1) for value in data]
    return data


def prepare() -> None:
    """Make both streams take every character, and closed ones no file of ours.

    A closed standard stream gives its number to the next file that is opened; whatever a library
    writes there would end in that file.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            with suppress(OSError):
                os.open(os.devnull, os.O_RDWR)
    for stream in (sys.stdout, sys.stderr):
        change = getattr(stream, "reconfigure", None)
        if change is not None:
            with suppress(OSError, ValueError):
                change(errors="backslashreplace")


def say(text: str) -> None:
    """Write a result to standard output.

    Raises:
        BrokenPipeError: its reader has gone.
        OutputError: it takes nothing.
    """
    _write_out(f"{shown(text)}\n")


def say_json(data: Any) -> None:
    """Write data to standard output; errors as of `say`."""
    _write_out(f"{json_shown(data)}\n")


def draw(sequences: str) -> None:
    """Write a picture that this program has put into a terminal's own language."""
    _write_out(f"{sequences}\n")


def tell(text: str) -> None:
    """Write everything else to standard error; where that takes nothing, nobody is told."""
    _write_error(f"{shown(text)}\n")


def redraw(line: str) -> None:
    """Put a line of progress in the place of the one before."""
    _write_error(f"\r{shown(line)}\x1b[K")


def can_redraw() -> bool:
    """Whether lines can be put in place of others."""
    with suppress(AttributeError, ValueError, OSError):
        return sys.stderr.isatty()
    return False


def is_terminal() -> bool:
    """Whether results go to one."""
    with suppress(AttributeError, ValueError, OSError):
        return sys.stdout.isatty()
    return False


def flush() -> None:
    """See that everything has got out.

    Raises:
        BrokenPipeError, OutputError: see `say`.
    """
    _write_out("")


def silence() -> None:
    """Let the interpreter find nothing unwritten at its end, which it would complain about."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            with suppress(OSError, ValueError, AttributeError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _write_out(text: str) -> None:
    try:
        stream = _open_stream(sys.stdout)
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        raise
    except (OSError, ValueError, AttributeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise OutputError(
            f"cannot write to standard output: {reason}", "free its disk, or open it"
        ) from error


def _open_stream(stream: TextIO | None) -> TextIO:
    if stream is None:
        raise OSError(errno.EBADF, "it is closed")
    return stream


def _write_error(text: str) -> None:
    with suppress(OSError, ValueError, AttributeError):
        stream = _open_stream(sys.stderr)
        stream.write(text)
        stream.flush()
