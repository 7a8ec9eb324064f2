"""The parts of a message: symbols to coded bytes in a frame and back, with context and checksum.

It does not know requests from responses beyond what the two coding contexts need, nor words.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from shared_protocol.coding.drop_codec import decode_dropped, encode_dropped
from shared_protocol.coding.image_codec import ImageEntropy, code_bits, decode_codes, encode_codes
from shared_protocol.coding.mask_codec import MaskPrior, decode_mask, encode_mask
from shared_protocol.coding.text_codec import TextPrior, decode_text, encode_text, packed_size
from shared_protocol.entropy.context import CodingContext
from shared_protocol.errors import ChecksumError
from shared_protocol.message import bitstream
from shared_protocol.message.anatomy import Anatomy, Counts, Encoded, PartBytes
from shared_protocol.message.bitstream import Frame, Parameters
from shared_protocol.messages import Request
from shared_protocol.tasks import TABLE, Direction, Part, Scenario, Task, merge
from shared_protocol.tokens import Codes, Flags, ImageTokens
from shared_protocol.vocabulary import Vocabulary

NO_TEXT: Codes = np.zeros(0, dtype=np.int32)


class CodecBundle(Protocol):
    """What both ends share; `bundles.Bundle` is one."""

    @property
    def vocabulary(self) -> Vocabulary:
        """The unified id space."""

    @property
    def fingerprint(self) -> bytes:
        """32 bytes that name the bundle's content."""

    @property
    def grid(self) -> tuple[int, int]:
        """Native (H, W) in tokens, which costs no byte."""

    @property
    def max_text_tokens(self) -> int:
        """Longest prompt or question in ids."""

    @property
    def text_prior(self) -> TextPrior | None:
        """Static prior of the text coder."""

    @property
    def mask_prior(self) -> MaskPrior | None:
        """Static prior of the mask coder."""

    @property
    def entropy(self) -> ImageEntropy:
        """Entropy models of the image tokens."""


@dataclass(frozen=True)
class Symbols:
    """What the parts of a message say: exactly what the checksum covers.

    Args:
        text: (N,) ids.
        mask: (H, W) flags.
        codes: (M,) image codes in raster order of the positions that travel.
        dropped: (H, W) flags of tokens that stay at home; None if there are none.
    """

    text: Codes = field(default_factory=lambda: NO_TEXT)
    mask: Flags | None = None
    codes: Codes | None = None
    dropped: Flags | None = None

    def canonical(self) -> bytes:
        """One byte string per value: counts and shapes as 32-bit words, then the values."""
        return self._always() + (b"" if self.dropped is None else _canonical_flags(self.dropped))

    def _always(self) -> bytes:
        mask = np.zeros((0, 0), dtype=bool) if self.mask is None else self.mask
        codes = NO_TEXT if self.codes is None else self.codes
        words = np.array([len(self.text), *mask.shape, len(codes)], dtype="<u4")
        return b"".join(
            [
                words.tobytes(),
                self.text.astype("<u4").tobytes(),
                np.packbits(mask).tobytes(),
                codes.astype("<u4").tobytes(),
            ]
        )


def _canonical_flags(flags: Flags) -> bytes:
    return np.array(flags.shape, dtype="<u4").tobytes() + np.packbits(flags).tobytes()


def encode_parts(
    cell: tuple[Task, Direction],
    symbols: Symbols,
    context: CodingContext | None,
    extras: Parameters,
    bundle: CodecBundle,
    scenario: Scenario | None,
    search: bool | None,
) -> Encoded:
    """Code the parts of one cell of Table I and frame them."""
    parts: dict[Part, bytes] = {}
    text_coder, used = None, None
    for spec in TABLE[cell]:
        if spec.part is Part.TEXT:
            size = bundle.vocabulary.text_size
            text_coder, parts[Part.TEXT] = encode_text(symbols.text, size, bundle.text_prior)
        elif spec.part is Part.MASK:
            assert symbols.mask is not None
            parts[Part.MASK] = encode_mask(symbols.mask, bundle.mask_prior)
        else:
            assert symbols.codes is not None
            assert context is not None
            if symbols.dropped is not None:
                parts[Part.DROPPED] = encode_dropped(
                    symbols.dropped, symbols.mask, bundle.mask_prior
                )
            used, parts[Part.IMAGE] = encode_codes(
                symbols.codes,
                context,
                spec.scenarios,
                bundle.entropy,
                bundle.vocabulary.codebook_size,
                scenario,
                spec.search if search is None else search,
            )
    prefix = bundle.fingerprint[: bitstream.PREFIX_BYTES]
    frame = Frame(*cell, text_coder, used, prefix, 0, extras, parts)
    frame = replace(frame, checksum=_checksum(frame, symbols, bundle))
    data = bitstream.pack(frame)
    return Encoded(data, anatomy_of(frame, len(data), symbols, bundle))


def read_text(frame: Frame, bundle: CodecBundle, limit: int) -> Codes:
    """The text ids of a message; none without a text part."""
    if frame.text_coder is None:
        return NO_TEXT
    size = bundle.vocabulary.text_size
    return decode_text(frame.parts[Part.TEXT], frame.text_coder, size, bundle.text_prior, limit)


def read_mask(frame: Frame, bundle: CodecBundle, grid: tuple[int, int]) -> Flags | None:
    """The (H, W) mask of a message; None without a mask part."""
    if Part.MASK not in frame.parts:
        return None
    return decode_mask(frame.parts[Part.MASK], grid, bundle.mask_prior)


def read_dropped(
    frame: Frame, bundle: CodecBundle, grid: tuple[int, int], mask: Flags | None
) -> Flags | None:
    """The (H, W) tokens that a message leaves out; None if it has them all."""
    if Part.DROPPED not in frame.parts:
        return None
    return decode_dropped(frame.parts[Part.DROPPED], grid, mask, bundle.mask_prior)


def read_codes(frame: Frame, bundle: CodecBundle, context: CodingContext) -> Codes:
    """The image codes (M,) of a message that has them."""
    assert frame.scenario is not None
    return decode_codes(
        frame.parts[Part.IMAGE],
        context,
        scenarios_of(frame.task, frame.direction),
        bundle.entropy,
        bundle.vocabulary.codebook_size,
        frame.scenario,
    )


def scenarios_of(task: Task, direction: Direction) -> tuple[Scenario, ...]:
    """The models that a message may use for its image part; none without one."""
    return next((s.scenarios for s in TABLE[task, direction] if s.part is Part.IMAGE), ())


def uplink_context(grid: tuple[int, int], away: Flags | None, text: Codes) -> CodingContext:
    """All but `away` (masked or dropped) travels; what is away is a hole. Nothing is known yet."""
    return CodingContext(
        targets=np.ones(grid, dtype=bool) if away is None else ~away,
        known=np.zeros(grid, dtype=bool),
        known_codes=np.zeros(grid, dtype=np.int32),
        text=text,
    )


def downlink_context(request: Request, grid: tuple[int, int]) -> CodingContext:
    """What the request leaves open travels; what it dropped is a hole, all else is known."""
    codes, targets = request.known(grid)
    known = ~(targets | request.gaps(grid))
    return CodingContext(targets, known, np.where(known, codes, 0), request.text.ids)


def image_of(
    context: CodingContext | None,
    codes: Codes | None,
    bundle: CodecBundle,
    own: Codes | None = None,
) -> ImageTokens | None:
    """What is known and what has arrived in one grid; None without an image part.

    Args:
        own: (H, W) codes that this end holds, if they are more than both ends know.
    """
    if context is None or codes is None:
        return None
    merged = merge(context.known_codes if own is None else own, context.targets, codes)
    return ImageTokens(merged, bundle.vocabulary.codebook_size)


def _checksum(frame: Frame, symbols: Symbols, bundle: CodecBundle) -> int:
    """CRC-32 over fingerprint, header, parameters and everything that the parts say."""
    packed = bitstream.pack_parameters(frame.parameters)
    return zlib.crc32(bundle.fingerprint + frame.head + packed + symbols.canonical())


def verify_checksum(frame: Frame, symbols: Symbols, bundle: CodecBundle) -> None:
    """Raise `ChecksumError` unless `symbols` are those that were sent."""
    if _checksum(frame, symbols, bundle) != frame.checksum:
        raise ChecksumError(
            "the decoded symbols are not those that were sent",
            "the message was damaged, or answers another request, or the ends hold other bundles",
        )


def outline(frame: Frame, total: int) -> Anatomy:
    """The anatomy as far as the frame tells it."""
    lengths = {part.name.lower(): len(data) for part, data in frame.parts.items()}
    extras = len(bitstream.pack_parameters(frame.parameters))
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


def anatomy_of(frame: Frame, total: int, symbols: Symbols, bundle: CodecBundle) -> Anatomy:
    """The outline with the symbols counted and the size under uniform coding."""
    known = outline(frame, total)
    counts = Counts(
        text_ids=len(symbols.text),
        mask_flags=0 if symbols.mask is None else symbols.mask.size,
        image_codes=0 if symbols.codes is None else len(symbols.codes),
        dropped_flags=0 if symbols.dropped is None else symbols.dropped.size,
    )
    vocabulary = bundle.vocabulary
    has_text = Part.TEXT in frame.parts
    uniform = PartBytes(
        container=known.sizes.container,
        parameters=known.sizes.parameters,
        text=packed_size(counts.text_ids, vocabulary.text_size) if has_text else 0,
        mask=(counts.mask_flags + 7) // 8,
        dropped=(counts.dropped_flags + 7) // 8,
        image=(counts.image_codes * code_bits(vocabulary.codebook_size) + 7) // 8,
    )
    return replace(known, counts=counts, uniform=uniform)
