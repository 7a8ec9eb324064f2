"""The walk along one row of Table I: what each part says to coded bytes in a frame, and back.

It does not know requests and responses beyond what the coding context of an image part needs.
Both directions take the same parts in the same order, and for each part `_encode_part` and
`_decode_part` take the same case with the same side information, the `Scene`::

    content ─► for spec in row: symbols[part] = …  ─► parts[part] = encode ─► Frame ─► bytes
    content ◄─ for spec in row: symbols[part] = decode ◄─ parts[part]     ◄─ Frame ◄─ bytes
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from shared_protocol.coding.bits import array_bytes
from shared_protocol.coding.drop_codec import decode_dropped, encode_dropped
from shared_protocol.coding.image_codec import (
    CodingContext,
    ImageEntropy,
    decode_codes,
    encode_codes,
)
from shared_protocol.coding.labels_codec import decode_labels, encode_labels, from_said, said_by
from shared_protocol.coding.mask_codec import MaskPrior, decode_mask, encode_mask
from shared_protocol.coding.text_codec import TextCoder, TextPrior, decode_text, encode_text
from shared_protocol.errors import BadMessageError, ChecksumError, InvalidInputError, UnimicError
from shared_protocol.labels import LabelWish
from shared_protocol.message import bitstream
from shared_protocol.message.anatomy import Encoded, anatomy_of
from shared_protocol.message.bitstream import Frame, Parameters, pack_parameters
from shared_protocol.message.parameters import request_digest
from shared_protocol.messages import MAX_NEW_TOKENS, Request
from shared_protocol.tasks import (
    TABLE,
    Direction,
    Part,
    PartSpec,
    Scenario,
    Task,
    merge,
    positions,
)
from shared_protocol.tokens import Codes, Flags, KnownTokens
from shared_protocol.vocabulary import Vocabulary

Symbols = Mapping[Part, npt.NDArray[Any]]
"""What the parts of a message say: text ids (N,), mask and dropped flags (H, W), and the image
codes (M,) of the positions that travel, in raster order; of labels the row of `said_by`."""


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


@dataclass(frozen=True, eq=False)
class Binding:
    """What a message is about, besides what it says itself; equal at both ends or the check fails.

    Args:
        fingerprint: 32 bytes that name the bundle.
        request: digest of the request that a response answers; nothing for an uplink.
        known: tokens that both ends had before the message.
    """

    fingerprint: bytes
    request: bytes = b""
    known: bytes = b""

    @classmethod
    def of_request(cls, fingerprint: bytes, known: KnownTokens | None) -> Binding:
        """The binding of an uplink."""
        said = b"" if known is None else array_bytes(known.flags) + array_bytes(known.codes)
        return cls(fingerprint, known=said)

    @classmethod
    def of_response(cls, fingerprint: bytes, request: Request) -> Binding:
        """The binding of a downlink."""
        return cls(fingerprint, request=request_digest(request))


@dataclass(frozen=True)
class Choice:
    """Which entropy model a sender uses for the image part.

    Args:
        scenario: the one to use; None takes the smallest result of those tried.
        search: with `scenario` None, try every model that Table I allows (True) or just the first
            (False); None does what pays for this message, as Table I says.
    """

    scenario: Scenario | None = None
    search: bool | None = None


@dataclass(frozen=True, eq=False)
class Scene:
    """What both ends know before the first part of a message is coded.

    Args:
        task, direction: the cell of Table I.
        bundle: what both ends share.
        grid: (H, W) of the picture that the request brings, or of the one that is to be made.
        binding: what the checksum covers besides the message itself.
        known: tokens of the request's image that the receiver has already.
        request: what a response answers; None on the way up.
    """

    task: Task
    direction: Direction
    bundle: CodecBundle
    grid: tuple[int, int]
    binding: Binding
    known: KnownTokens | None = None
    request: Request | None = None

    @property
    def specs(self) -> tuple[PartSpec, ...]:
        """The parts of the message."""
        return TABLE[self.task].parts(self.direction)

    @property
    def text_limit(self) -> int:
        """Longest text in ids."""
        return self.bundle.max_text_tokens if self.request is None else MAX_NEW_TOKENS

    @property
    def label_wish(self) -> LabelWish:
        """What both ends know of the labels of a response."""
        assert self.request is not None, "labels travel down only"
        return self.request.label_wish


def encode_parts(
    content: dict[Part, npt.NDArray[Any]], scene: Scene, extras: Parameters, choice: Choice
) -> Encoded:
    """The message that says `content`: text ids, flags, and the whole (H, W) grid of codes."""
    symbols: dict[Part, npt.NDArray[Any]] = {}
    parts: dict[Part, bytes] = {}
    coders: dict[Part, Any] = {}
    for spec in scene.specs:
        if spec.part in content:
            symbols[spec.part] = _travelling(spec, content, scene, symbols)
            coders[spec.part], parts[spec.part] = _encode_part(spec, symbols, scene, choice)
    frame = Frame(
        scene.task,
        scene.direction,
        coders.get(Part.TEXT),
        coders.get(Part.IMAGE),
        scene.bundle.fingerprint[: bitstream.PREFIX_BYTES],
        0,
        extras,
        parts,
    )
    frame = replace(frame, checksum=checksum_of(frame, symbols, scene.binding))
    data = bitstream.pack(frame)
    return Encoded(data, anatomy_of(frame, len(data), symbols, scene.bundle.vocabulary))


def decode_parts(
    frame: Frame, scene: Scene, own: Codes | None = None
) -> tuple[dict[Part, npt.NDArray[Any]], Symbols]:
    """The content that `encode_parts` coded, and the symbols that travelled for it.

    Args:
        own: (H, W) codes that this end has, if they are more than both ends know.
    """
    symbols: dict[Part, npt.NDArray[Any]] = {}
    for spec in scene.specs:
        if spec.part in frame.parts:
            symbols[spec.part] = _decode_part(spec, symbols, scene, frame)
    verify(frame, symbols, scene.binding)
    content = dict(symbols)
    image = TABLE[scene.task].image(scene.direction)
    if image is not None:
        context = _context(image, symbols, scene)
        base = context.known_codes if own is None else own
        content[Part.IMAGE] = merge(base, context.targets, symbols[Part.IMAGE])
    return content, symbols


def _travelling(
    spec: PartSpec, content: Symbols, scene: Scene, symbols: Symbols
) -> npt.NDArray[Any]:
    """The symbols of one part: all that it says, but of an image only what is not known."""
    if spec.part is Part.IMAGE:
        return content[Part.IMAGE][_context(spec, symbols, scene).targets]
    return content[spec.part]


def _encode_part(
    spec: PartSpec, symbols: Symbols, scene: Scene, choice: Choice
) -> tuple[TextCoder | Scenario | None, bytes]:
    """One part as bytes, and how it is coded where there is a choice."""
    bundle, values = scene.bundle, symbols[spec.part]
    if spec.part is Part.TEXT:
        return encode_text(values, bundle.vocabulary.text_size, bundle.text_prior)
    if spec.part is Part.MASK:
        return None, encode_mask(values, bundle.mask_prior)
    if spec.part is Part.DROPPED:
        return None, encode_dropped(values, symbols.get(Part.MASK), bundle.mask_prior)
    if spec.part is Part.LABELS:
        return None, encode_labels(from_said(values), scene.label_wish)
    return encode_codes(
        values,
        _context(spec, symbols, scene),
        spec.scenarios,
        bundle.entropy,
        bundle.vocabulary.codebook_size,
        choice.scenario,
        spec.search if choice.search is None else choice.search,
    )


def _decode_part(spec: PartSpec, symbols: Symbols, scene: Scene, frame: Frame) -> npt.NDArray[Any]:
    """The symbols that `_encode_part` coded."""
    bundle, data = scene.bundle, frame.parts[spec.part]
    if spec.part is Part.TEXT:
        assert frame.text_coder is not None, "unpack reads a coder for every text part"
        size, limit = bundle.vocabulary.text_size, scene.text_limit
        return decode_text(data, frame.text_coder, size, bundle.text_prior, limit)
    if spec.part is Part.MASK:
        return decode_mask(data, scene.grid, bundle.mask_prior)
    if spec.part is Part.DROPPED:
        return decode_dropped(data, scene.grid, symbols.get(Part.MASK), bundle.mask_prior)
    if spec.part is Part.LABELS:
        return said_by(decode_labels(data, scene.label_wish))
    assert frame.scenario is not None, "unpack reads a scenario for every image part"
    return decode_codes(
        data,
        _context(spec, symbols, scene),
        spec.scenarios,
        bundle.entropy,
        bundle.vocabulary.codebook_size,
        frame.scenario,
    )


def _context(spec: PartSpec, symbols: Symbols, scene: Scene) -> CodingContext:
    """What both ends know when the image part comes, from what stands before it."""
    if scene.request is not None:
        return response_context(scene.request, scene.bundle.grid)
    readable = positions(spec.subset, scene.grid, symbols.get(Part.MASK), None)
    if Part.DROPPED in symbols:
        readable = readable & ~symbols[Part.DROPPED]
    text = symbols[Part.TEXT] if Part.TEXT in symbols else np.zeros(0, dtype=np.int32)
    return request_context(readable, text, scene.known)


def request_context(
    readable: Flags, text: Codes, known: KnownTokens | None = None
) -> CodingContext:
    """The context of a request's image.

    Args:
        readable: (H, W) bool, the positions that the receiver is to have in the end: all that are
            neither masked nor dropped.
        text: (N,) ids of the request.
        known: tokens that the receiver has already; they serve as context and do not travel. What
            it has of masked or dropped positions is not looked at.
    """
    before = known or KnownTokens.none((readable.shape[0], readable.shape[1]))
    both = before.flags & readable
    return CodingContext(readable & ~both, both, np.where(both, before.codes, 0), text)


def response_context(request: Request, grid: tuple[int, int]) -> CodingContext:
    """The context of a response's image: what the request leaves open travels.

    Tokens that the request dropped are neither known to both ends nor sent.

    Args:
        request: what is answered.
        grid: (H, W) of the bundle's own picture.
    """
    codes, targets = request.known(grid)
    known = ~(targets | request.gaps(grid))
    return CodingContext(targets, known, np.where(known, codes, 0), request.text.ids)


def checksum_of(frame: Frame, symbols: Symbols, binding: Binding) -> int:
    """CRC-32 over the binding, the header, the parameters and everything that the parts say."""
    said = b"".join(array_bytes(symbols[part]) for part in sorted(symbols))
    before = binding.fingerprint + binding.request + frame.head
    return zlib.crc32(before + pack_parameters(frame.parameters) + said + binding.known)


def verify(frame: Frame, symbols: Symbols, binding: Binding) -> None:
    """Check a decoded message.

    Raises:
        ChecksumError: `symbols` are not those that were sent, or the ends do not mean the same.
    """
    if checksum_of(frame, symbols, binding) == frame.checksum:
        return
    causes = ["the message was damaged", "the ends differ in their bundle"]
    if frame.direction is Direction.DOWNLINK:
        causes.append("it answers another request")
    if binding.known:
        causes.append("they differ in the tokens that they had before")
    raise ChecksumError("the decoded symbols are not those that were sent", ", or ".join(causes))


@contextmanager
def translated() -> Iterator[None]:
    """Faults of the bytes become a `BadMessageError`; faults of this end stay what they are."""
    try:
        yield
    except InvalidInputError as error:
        raise BadMessageError(error.message, error.remedy) from error
    except UnimicError:
        raise
    except (ValueError, TypeError, LookupError, ArithmeticError) as error:
        raise BadMessageError(f"the message cannot be decoded: {error}") from error
