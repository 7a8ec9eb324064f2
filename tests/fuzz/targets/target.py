"""What a fuzz target is: one reader, what it may raise, and the inputs that fuzzing starts from.

It does not know what makes the inputs, nor how they are judged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared_protocol.errors import BadMessageError, UnimicError

Read = Callable[[bytes], object]
"""Reads an input: returns if it is accepted, raises one of the target's errors if it is refused."""
Prepare = Callable[[Path], Read]
"""From a folder for files, which is the target's own, to its reader."""

MESSAGE = (BadMessageError,)
"""What a reader of what others send may raise."""
TYPED = (UnimicError,)


@dataclass(frozen=True)
class Target:
    """One reader.

    Args:
        name: of the target and of its folder in `corpus/`.
        prepare: imports and builds what the reader needs.
        seeds: inputs that fuzzing starts from, most of them good.
        modules: those whose branches are counted, by dotted name.
        errors: what refusing an input raises; anything else is a finding.
        longest: most bytes of an input.
        seconds: most processor time that an input may take.
        megabytes: most memory that an input may take.
        words: pieces of inputs that are hard to guess.
    """

    name: str
    prepare: Prepare
    seeds: Callable[[], Iterable[bytes]]
    modules: tuple[str, ...]
    errors: tuple[type[Exception], ...] = TYPED
    longest: int = 4096
    seconds: float = 1.0
    megabytes: int = 256
    words: tuple[bytes, ...] = ()


@contextmanager
def changed(owner: Any, name: str, value: Any) -> Iterator[None]:
    """`owner.name` is `value` inside the block."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def refused(read: Callable[[], object], errors: tuple[type[Exception], ...]) -> Exception | None:
    """The error with which `read` refuses; None if it does not."""
    try:
        read()
    except errors as error:
        return error
    return None
