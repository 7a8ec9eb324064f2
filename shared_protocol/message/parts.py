"""The walk along one row of Table I: what each part says to coded bytes in a frame, and back.

It does not know requests and responses beyond what the coding context of an image part needs.
Both directions take the same parts in the same order, and for each part `_encode_part` and
`_decode_part` take the same case with the same side information, the `Scene`::

    content ─► for spec in row: symbols[part] = …  ─► parts[part] = encode ─► Frame ─► bytes
    content ◄─ for spec in row: symbols[part] = decode ◄─ parts[part]     ◄─ Frame ◄─ bytes
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy.typing as npt

from shared_protocol.coding.drop_codec import decode_dropped, encode_dropped
from shared_protocol.coding.image_codec import ImageEntropy, decode_codes, encode_codes
from shared_protocol.coding.mask_codec import MaskPrior, decode_mask, encode_mask
from shared_protocol.coding.text_codec import TextCoder, TextPrior, decode_text, encode_text
from shared_protocol.entropy.context import CodingContext
from shared_protocol.message import bitstream
from shared_protocol.message.anatomy import Encoded, anatomy_of
from shared_protocol.message.bitstream import Frame, Parameters
from shared_protocol.message.checksum import Binding, Symbols, checksum, verify
from shared_protocol.message.side_information import request_context, response_context
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
from shared_protocol.tokens import Codes, KnownTokens
from shared_protocol.vocabulary import Vocabulary


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
    frame = replace(frame, checksum=checksum(frame, symbols, scene.binding))
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
    return request_context(readable, symbols[Part.TEXT], scene.known)
