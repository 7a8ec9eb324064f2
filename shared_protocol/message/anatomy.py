"""What a message is made of, in bytes and symbols, and the message together with that.

It does not know how anything is coded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import numpy.typing as npt

from shared_protocol.coding.image_codec import code_bits
from shared_protocol.coding.labels_codec import count_in
from shared_protocol.coding.text_codec import TextCoder, packed_size
from shared_protocol.message.bitstream import Frame, pack_parameters
from shared_protocol.tasks import Direction, Part, Scenario, Task
from shared_protocol.vocabulary import Vocabulary

T = TypeVar("T")
S = TypeVar("S")


@dataclass(frozen=True)
class PartBytes:
    """Bytes of a message by what they are for.

    Args:
        container: msgpack header, magic, header fields, checksum, lengths of parts.
        parameters: everything that differs from the bundle's defaults.
        text, mask, dropped, image, labels: the coded parts.
    """

    container: int = 0
    parameters: int = 0
    text: int = 0
    mask: int = 0
    dropped: int = 0
    image: int = 0
    labels: int = 0

    @property
    def total(self) -> int:
        """The whole message."""
        coded = self.text + self.mask + self.dropped + self.image + self.labels
        return self.container + self.parameters + coded


@dataclass(frozen=True)
class Counts:
    """Symbols in a message: text ids, flags of both masks (H*W, or 0 without), codes and labels."""

    text_ids: int = 0
    mask_flags: int = 0
    image_codes: int = 0
    dropped_flags: int = 0
    labels: int = 0


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
            ceil(log2 V) bits each, masks at 1 bit a flag, labels as they are); None like `counts`.
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

    def joined(self, other: Anatomy) -> Anatomy:
        """This message and another of its kind as one: what both took to get one result."""
        known = self.counts is not None and other.counts is not None
        uniform = self.uniform is not None and other.uniform is not None
        return replace(
            self,
            sizes=_sum(self.sizes, other.sizes),
            counts=_sum(self.counts, other.counts) if known else None,
            uniform=_sum(self.uniform, other.uniform) if uniform else None,
        )


def _sum(one: S, other: S) -> S:
    """The sum field by field."""
    names = getattr(one, "__dataclass_fields__", ())
    return type(one)(**{name: getattr(one, name) + getattr(other, name) for name in names})


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


def outline(frame: Frame, total: int) -> Anatomy:
    """The anatomy of a message of `total` bytes as far as its frame tells it."""
    lengths = {part.slug: len(data) for part, data in frame.parts.items()}
    extras = len(pack_parameters(frame.parameters))
    container = total - extras - sum(lengths.values())
    return Anatomy(
        task=frame.task,
        direction=frame.direction,
        version=frame.version,
        fingerprint_prefix=frame.fingerprint_prefix,
        text_coder=frame.text_coder,
        scenario=frame.scenario,
        sizes=PartBytes(container=container, parameters=extras, **lengths),
    )


def anatomy_of(
    frame: Frame, total: int, symbols: Mapping[Part, npt.NDArray[Any]], vocabulary: Vocabulary
) -> Anatomy:
    """The outline with the symbols counted and the size under uniform coding."""
    known = outline(frame, total)
    sizes = {part: int(symbols[part].size) if part in symbols else 0 for part in Part}
    counts = Counts(
        text_ids=sizes[Part.TEXT],
        mask_flags=sizes[Part.MASK],
        image_codes=sizes[Part.IMAGE],
        dropped_flags=sizes[Part.DROPPED],
        labels=count_in(symbols[Part.LABELS]) if Part.LABELS in symbols else 0,
    )
    has_text = Part.TEXT in frame.parts
    uniform = PartBytes(
        container=known.sizes.container,
        parameters=known.sizes.parameters,
        text=packed_size(counts.text_ids, vocabulary.text_size) if has_text else 0,
        mask=(counts.mask_flags + 7) // 8,
        dropped=(counts.dropped_flags + 7) // 8,
        image=(counts.image_codes * code_bits(vocabulary.codebook_size) + 7) // 8,
        labels=known.sizes.labels,
    )
    return replace(known, counts=counts, uniform=uniform)
