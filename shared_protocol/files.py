"""Files written so that a reader sees all of a new content or all of the old one, and files read
that may be anything: a device, a pipe, or gigabytes.

It does not know what is written or read, nor where files belong.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import IO


def open_regular(path: Path, limit: int | None = None) -> BufferedReader:
    """A regular file, open for reading; a symbolic link to one will do.

    What the name means is looked at on the open file, so that nothing can take its place between.
    Opening never waits, as it would for the other end of a pipe.

    Args:
        path: the file.
        limit: most bytes that it may have; None = any number.

    Raises:
        OSError: it cannot be read, is no regular file, or is larger.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
    try:
        # Looked at before, too: opening alone makes some devices do something.
        _check_regular(path.stat(), path, limit)
        handle = os.open(path, flags | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0))
    except ValueError as error:  # a NUL in the name
        raise OSError(errno.EINVAL, str(error), str(path)) from error
    try:
        _check_regular(os.fstat(handle), path, limit)
    except OSError:
        os.close(handle)
        raise
    return os.fdopen(handle, "rb")


def read_regular(path: Path, limit: int) -> bytes:
    """The content of a regular file of up to `limit` bytes; errors as of `open_regular`."""
    with open_regular(path, limit) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, _LARGER.format(limit), str(path))
    return data


_LONGEST_NAME = 128
_FORBIDDEN = '/\\:*?"<>|'
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)


def checked_name(name: object) -> str:
    """A file's name that somebody else chose, fit for every file system and every terminal.

    Raises:
        ValueError: it leads elsewhere, hides, steers a terminal, is a device's, or is too long.
    """
    if not isinstance(name, str) or not name or len(name.encode(errors="replace")) > _LONGEST_NAME:
        raise ValueError(f"{str(name)[:40]!r} is no name of up to {_LONGEST_NAME} bytes")
    plain = name.isprintable() and not set(name) & set(_FORBIDDEN)
    if not plain or name[0] == "." or name[-1] in ". " or _RESERVED.fullmatch(name):
        raise ValueError(f"{name!r} is not a plain file name")
    return name


_LARGER = "it has over {:,} bytes, the most that are read"


def _check_regular(found: os.stat_result, path: Path, limit: int | None) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    if limit is not None and found.st_size > limit:
        raise OSError(errno.EFBIG, _LARGER.format(limit), str(path))


@contextmanager
def replaced(path: Path, new: bool = False) -> Iterator[IO[bytes]]:
    """A binary file to write into, which takes the place of `path` when the block ends well.

    It lies beside its target until then, since only within one file system is renaming one step.
    If the block raises, the target stays what it was and nothing is left beside it. A symbolic link
    is followed: what it points to is replaced, and the link stays.

    Args:
        path: the target.
        new: never replace a file, also none that another program makes meanwhile.

    Raises:
        FileExistsError: with `new`, there is one.
        OSError: the folder cannot be written, or the disk is full.
    """
    target = path.resolve()
    if target.exists() and not target.is_file():  # a device would be gone, and a file in its place
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    handle, partial = tempfile.mkstemp(
        suffix=target.suffix, prefix=f".{target.stem[:32]}-", dir=target.parent
    )
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        os.chmod(partial, _mode_of(target))
        if new:
            _place_new(partial, target)
        else:
            os.replace(partial, target)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


def write_atomically(path: Path, content: bytes | str, new: bool = False) -> None:
    """Make `path` a file of `content` (text as UTF-8); see `replaced`.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    with replaced(path, new) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def _place_new(partial: str, target: Path) -> None:
    """Give a finished file its name, in one step, unless another file has it."""
    try:
        os.link(partial, target)
    except FileExistsError:
        raise
    except OSError:
        # A file system without links: take the name with an empty file first.
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        os.replace(partial, target)
        return
    os.unlink(partial)


def _mode_of(target: Path) -> int:
    """The permissions that the target has, or that a new file would get."""
    try:
        return target.stat().st_mode & 0o777
    except OSError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask
