"""What a message is made of, in bytes and symbols, and the message together with that.

It does not know how anything is coded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from shared_protocol.coding.text_codec import TextCoder
from shared_protocol.tasks import Direction, Scenario, Task

T = TypeVar("T")


@dataclass(frozen=True)
class PartBytes:
    """Bytes of a message by what they are for.

    Args:
        container: msgpack header, magic, header fields, checksum, lengths of parts.
        parameters: everything that differs from the bundle's defaults.
        text, mask, dropped, image: the coded parts.
    """

    container: int = 0
    parameters: int = 0
    text: int = 0
    mask: int = 0
    dropped: int = 0
    image: int = 0

    @property
    def total(self) -> int:
        """The whole message."""
        coded = self.text + self.mask + self.dropped + self.image
        return self.container + self.parameters + coded


@dataclass(frozen=True)
class Counts:
    """Symbols in a message: text ids, flags of both masks (H*W, or 0 without) and image codes."""

    text_ids: int = 0
    mask_flags: int = 0
    image_codes: int = 0
    dropped_flags: int = 0


@dataclass(frozen=True)
class Anatomy:
    """What a message is made of.

    Args:
        task, direction, version: from the header.
        fingerprint_prefix: first bytes of the bundle's fingerprint.
        text_coder: None without a text part.
        scenario: None without an image part.
        sizes: bytes by part.
        counts: symbols by part; None where nothing was decoded (`inspect`).
        uniform: the bytes of the same message under uniform coding (ids and codes at
            ceil(log2 V) bits each, masks at 1 bit a flag); None like `counts`.
    """

    task: Task
    direction: Direction
    version: int
    fingerprint_prefix: bytes
    text_coder: TextCoder | None
    scenario: Scenario | None
    sizes: PartBytes
    counts: Counts | None = None
    uniform: PartBytes | None = None


@dataclass(frozen=True)
class Encoded:
    """A message as bytes, with its anatomy."""

    data: bytes
    anatomy: Anatomy


@dataclass(frozen=True)
class Decoded(Generic[T]):
    """A message as a value, with its anatomy."""

    value: T
    anatomy: Anatomy
