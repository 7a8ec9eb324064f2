"""Files written so that a reader sees all of a new content or all of the old one.

It does not know what is written, nor where files belong.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


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
