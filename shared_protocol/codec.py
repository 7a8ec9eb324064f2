"""Requests, responses and stored images to bytes and back; every pair mirrored line by line.

It does not know sockets, pixels or words, and how a part is coded only by name.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from shared_protocol import bitstream, parameters
from shared_protocol.anatomy import Anatomy, Counts, Decoded, Encoded, PartBytes
from shared_protocol.bitstream import Frame, Parameters
from shared_protocol.entropy.context import CodingContext
from shared_protocol.errors import (
    BadMessageError,
    BundleMismatchError,
    ChecksumError,
    InvalidInputError,
    PromptError,
    TokenRangeError,
    UnimicError,
)
from shared_protocol.image_codec import (
    ImageEntropy,
    check_scenario,
    code_bits,
    decode_codes,
    encode_codes,
)
from shared_protocol.mask_codec import MaskPrior, decode_mask, encode_mask
from shared_protocol.messages import MAX_NEW_TOKENS, Options, Request, Response
from shared_protocol.tasks import TABLE, Direction, Part, Scenario, Task, merge
from shared_protocol.text_codec import TextPrior, decode_text, encode_text, packed_size
from shared_protocol.tokens import Codes, Flags, ImageTokens, TextTokens, TokenMask
from shared_protocol.vocabulary import Vocabulary

__all__ = [
    "Anatomy",
    "CodecBundle",
    "Counts",
    "Decoded",
    "Encoded",
    "PartBytes",
    "decode_image",
    "decode_request",
    "decode_response",
    "encode_image",
    "encode_request",
    "encode_response",
    "inspect",
]

_SERVICES = (Task.T2I, Task.INPAINT, Task.OUTPAINT, Task.VQA)
_NO_TEXT: Codes = np.zeros(0, dtype=np.int32)


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
class _Symbols:
    """What the parts of a message say: exactly what the checksum covers.

    Args:
        text: (N,) ids.
        mask: (H, W) flags.
        codes: (M,) image codes in raster order of the positions that travel.
    """

    text: Codes = field(default_factory=lambda: _NO_TEXT)
    mask: Flags | None = None
    codes: Codes | None = None

    def canonical(self) -> bytes:
        """One byte string per value: counts and shapes as 32-bit words, then the values."""
        mask = np.zeros((0, 0), dtype=bool) if self.mask is None else self.mask
        codes = _NO_TEXT if self.codes is None else self.codes
        words = np.array([len(self.text), *mask.shape, len(codes)], dtype="<u4")
        return b"".join(
            [
                words.tobytes(),
                self.text.astype("<u4").tobytes(),
                np.packbits(mask).tobytes(),
                codes.astype("<u4").tobytes(),
            ]
        )


def encode_request(
    request: Request, bundle: CodecBundle, scenario: Scenario | None = None, search: bool = True
) -> Encoded:
    """An uplink message.

    Args:
        request: what is asked.
        bundle: must be the receiver's, too.
        scenario: entropy model of the image tokens; None takes the smallest result.
        search: with `scenario` None, try every model that Table I allows and not just the first.

    Raises:
        PromptError: the text is longer than the bundle allows.
        TokenRangeError: ids or codes of another vocabulary than the bundle's.
        InvalidInputError: `scenario` or `request.options.reply` does not fit.
    """
    if request.task not in _SERVICES:
        raise InvalidInputError("a stored image is not a request", "use encode_image")
    _check_text(request.text, bundle, bundle.max_text_tokens)
    mask = None if request.mask is None else request.mask.flags
    codes, context = None, None
    if request.image is not None:
        _check_image(request.image, bundle)
        context = _uplink_context(request.image.shape, mask, request.text.ids)
        codes = request.image.codes[context.targets]
    symbols = _Symbols(request.text.ids, mask, codes)
    _check_reply(request.options, request.task, bundle)
    extras = parameters.to_map(request, bundle.grid)
    cell = (request.task, Direction.UPLINK)
    return _encode(cell, symbols, context, extras, bundle, scenario, search)


def decode_request(data: bytes, bundle: CodecBundle) -> Decoded[Request]:
    """The request that `encode_request` packed.

    Raises:
        BadMessageError: one of its subclasses, whatever is wrong with the bytes.
        BundleMismatchError: the sender has another bundle.
    """
    with _translated():
        frame = bitstream.unpack(data)
        _check_cell(frame, Direction.UPLINK, _SERVICES)
        _check_bundle(frame, bundle)
        grid, extension, options = parameters.from_map(frame.parameters, bundle.grid)
        _check_reply(options, frame.task, bundle)
        text = _decode_text(frame, bundle, bundle.max_text_tokens)
        mask = _decode_mask(frame, bundle, grid)
        codes, context = None, None
        if Part.IMAGE in frame.parts:
            context = _uplink_context(grid, mask, text)
            codes = _decode_image(frame, bundle, context)
        symbols = _Symbols(text, mask, codes)
        _check_sum(frame, symbols, bundle)
        request = Request(
            task=frame.task,
            text=TextTokens(text, bundle.vocabulary.text_size),
            image=_image(context, codes, bundle),
            mask=None if mask is None else TokenMask(mask),
            extension=extension,
            options=options,
        )
        return Decoded(request, _anatomy(frame, len(data), symbols, bundle))


def encode_response(
    response: Response,
    request: Request,
    bundle: CodecBundle,
    scenario: Scenario | None = None,
    search: bool = True,
) -> Encoded:
    """A downlink message; only what the request does not say already travels.

    Args:
        response: the answer; for images the whole merged grid.
        request: what was asked; both ends hold it.
        bundle: must be the receiver's, too.
        scenario: entropy model of the image tokens; None takes `request.options.reply`, else the
            smallest result.
        search: as in `encode_request`.

    Raises:
        InvalidInputError: the response does not answer the request (its task or its known
            tokens), or `scenario` does not fit the task or the bundle.
    """
    if response.task is not request.task:
        raise InvalidInputError(
            f"a {response.task.name.lower()} response to a {request.task.name.lower()} request"
        )
    scenario = request.options.reply if scenario is None else scenario
    symbols, context = _Symbols(), None
    if response.text is not None:
        _check_text(response.text, bundle, MAX_NEW_TOKENS)
        symbols = _Symbols(text=response.text.ids)
    if response.image is not None:
        _check_image(response.image, bundle)
        context = _downlink_context(request, bundle.grid)
        _check_known(response.image, context)
        symbols = _Symbols(codes=response.image.codes[context.targets])
    cell = (response.task, Direction.DOWNLINK)
    return _encode(cell, symbols, context, {}, bundle, scenario, search)


def decode_response(data: bytes, request: Request, bundle: CodecBundle) -> Decoded[Response]:
    """The response that `encode_response` packed, merged with what the request says.

    Raises:
        BadMessageError: one of its subclasses, whatever is wrong with the bytes.
        BundleMismatchError: the sender has another bundle.
    """
    with _translated():
        frame = bitstream.unpack(data)
        _check_cell(frame, Direction.DOWNLINK, (request.task,))
        _check_bundle(frame, bundle)
        if frame.parameters:
            raise BadMessageError("a downlink message has no parameters")
        text = _decode_text(frame, bundle, MAX_NEW_TOKENS)
        codes, context = None, None
        if Part.IMAGE in frame.parts:
            context = _downlink_context(request, bundle.grid)
            codes = _decode_image(frame, bundle, context)
        symbols = _Symbols(text, None, codes)
        _check_sum(frame, symbols, bundle)
        wants_text = Part.TEXT in frame.parts
        response = Response(
            task=frame.task,
            image=_image(context, codes, bundle),
            text=TextTokens(text, bundle.vocabulary.text_size) if wants_text else None,
        )
        return Decoded(response, _anatomy(frame, len(data), symbols, bundle))


def encode_image(
    image: ImageTokens, bundle: CodecBundle, scenario: Scenario | None = None, search: bool = True
) -> Encoded:
    """A stored image: one message that nobody has to answer.

    Raises:
        TokenRangeError: codes of another codebook than the bundle's.
        InvalidInputError: `scenario` does not fit or the bundle has no model for it.
    """
    _check_image(image, bundle)
    context = _uplink_context(image.shape, None, _NO_TEXT)
    symbols = _Symbols(codes=image.codes[context.targets])
    extras = parameters.grid_to_map(image.shape, bundle.grid)
    cell = (Task.STORE, Direction.UPLINK)
    return _encode(cell, symbols, context, extras, bundle, scenario, search)


def decode_image(data: bytes, bundle: CodecBundle) -> Decoded[ImageTokens]:
    """The image that `encode_image` packed.

    Raises:
        BadMessageError: one of its subclasses, whatever is wrong with the bytes.
        BundleMismatchError: the sender has another bundle.
    """
    with _translated():
        frame = bitstream.unpack(data)
        _check_cell(frame, Direction.UPLINK, (Task.STORE,))
        _check_bundle(frame, bundle)
        grid = parameters.grid_from_map(frame.parameters, bundle.grid)
        context = _uplink_context(grid, None, _NO_TEXT)
        codes = _decode_image(frame, bundle, context)
        symbols = _Symbols(codes=codes)
        _check_sum(frame, symbols, bundle)
        image = _image(context, codes, bundle)
        assert image is not None
        return Decoded(image, _anatomy(frame, len(data), symbols, bundle))


def inspect(data: bytes) -> Anatomy:
    """What the header and the lengths tell, without a bundle and without decoding anything.

    Raises:
        BadMessageError: one of its subclasses, if the bytes are not a whole message.
    """
    with _translated():
        frame = bitstream.unpack(data)
        return _outline(frame, len(data))


def _encode(
    cell: tuple[Task, Direction],
    symbols: _Symbols,
    context: CodingContext | None,
    extras: Parameters,
    bundle: CodecBundle,
    scenario: Scenario | None,
    search: bool,
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
            used, parts[Part.IMAGE] = encode_codes(
                symbols.codes,
                context,
                spec.scenarios,
                bundle.entropy,
                bundle.vocabulary.codebook_size,
                scenario,
                search,
            )
    prefix = bundle.fingerprint[: bitstream.PREFIX_BYTES]
    frame = Frame(*cell, text_coder, used, prefix, 0, extras, parts)
    frame = replace(frame, checksum=_checksum(frame, symbols, bundle))
    data = bitstream.pack(frame)
    return Encoded(data, _anatomy(frame, len(data), symbols, bundle))


def _decode_text(frame: Frame, bundle: CodecBundle, limit: int) -> Codes:
    if frame.text_coder is None:
        return _NO_TEXT
    size = bundle.vocabulary.text_size
    return decode_text(frame.parts[Part.TEXT], frame.text_coder, size, bundle.text_prior, limit)


def _decode_mask(frame: Frame, bundle: CodecBundle, grid: tuple[int, int]) -> Flags | None:
    if Part.MASK not in frame.parts:
        return None
    return decode_mask(frame.parts[Part.MASK], grid, bundle.mask_prior)


def _decode_image(frame: Frame, bundle: CodecBundle, context: CodingContext) -> Codes:
    assert frame.scenario is not None
    return decode_codes(
        frame.parts[Part.IMAGE],
        context,
        _scenarios(frame.task, frame.direction),
        bundle.entropy,
        bundle.vocabulary.codebook_size,
        frame.scenario,
    )


def _scenarios(task: Task, direction: Direction) -> tuple[Scenario, ...]:
    """The models that a message may use for its image part; none without one."""
    return next((s.scenarios for s in TABLE[task, direction] if s.part is Part.IMAGE), ())


def _uplink_context(grid: tuple[int, int], mask: Flags | None, text: Codes) -> CodingContext:
    """Everything outside the mask travels; what is under it is a hole. Nothing is known yet."""
    return CodingContext(
        targets=np.ones(grid, dtype=bool) if mask is None else ~mask,
        known=np.zeros(grid, dtype=bool),
        known_codes=np.zeros(grid, dtype=np.int32),
        text=text,
    )


def _downlink_context(request: Request, grid: tuple[int, int]) -> CodingContext:
    """What the request leaves open travels; all else is known to both ends."""
    codes, targets = request.known(grid)
    return CodingContext(targets, ~targets, codes, request.text.ids)


def _image(
    context: CodingContext | None, codes: Codes | None, bundle: CodecBundle
) -> ImageTokens | None:
    if context is None or codes is None:
        return None
    merged = merge(context.known_codes, context.targets, codes)
    return ImageTokens(merged, bundle.vocabulary.codebook_size)


def _checksum(frame: Frame, symbols: _Symbols, bundle: CodecBundle) -> int:
    """CRC-32 over fingerprint, header, parameters and everything that the parts say."""
    packed = bitstream.pack_parameters(frame.parameters)
    return zlib.crc32(bundle.fingerprint + frame.head + packed + symbols.canonical())


def _check_sum(frame: Frame, symbols: _Symbols, bundle: CodecBundle) -> None:
    if _checksum(frame, symbols, bundle) != frame.checksum:
        raise ChecksumError(
            "the decoded symbols are not those that were sent",
            "the message was damaged, or answers another request, or the ends hold other bundles",
        )


def _check_cell(frame: Frame, direction: Direction, tasks: tuple[Task, ...]) -> None:
    if frame.direction is not direction or frame.task not in tasks:
        wanted = "/".join(task.name.lower() for task in tasks)
        raise BadMessageError(
            f"the message is {frame.task.name.lower()} {frame.direction.name.lower()}, "
            f"expected {wanted} {direction.name.lower()}"
        )


def _check_bundle(frame: Frame, bundle: CodecBundle) -> None:
    ours = bundle.fingerprint[: bitstream.PREFIX_BYTES]
    if frame.fingerprint_prefix != ours:
        raise BundleMismatchError(
            f"the message was made with bundle {frame.fingerprint_prefix.hex()}, "
            f"this end holds bundle {ours.hex()}",
            "give both ends the same bundle",
        )


def _check_text(text: TextTokens, bundle: CodecBundle, limit: int) -> None:
    if text.vocabulary_size != bundle.vocabulary.text_size:
        raise TokenRangeError(
            f"the text ids are of {text.vocabulary_size}, "
            f"the bundle's are of {bundle.vocabulary.text_size}"
        )
    if len(text) > limit:
        raise PromptError(f"the text has {len(text)} tokens", f"use at most {limit}")


def _check_image(image: ImageTokens, bundle: CodecBundle) -> None:
    if image.codebook_size != bundle.vocabulary.codebook_size:
        raise TokenRangeError(
            f"the image codes are of {image.codebook_size}, "
            f"the bundle's are of {bundle.vocabulary.codebook_size}"
        )


def _check_known(image: ImageTokens, context: CodingContext) -> None:
    if image.shape != context.shape:
        raise InvalidInputError(f"the response is {image.shape}, the request asks {context.shape}")
    if not np.array_equal(image.codes[context.known], context.known_codes[context.known]):
        raise InvalidInputError("the response changes tokens that the request holds")


def _check_reply(options: Options, task: Task, bundle: CodecBundle) -> None:
    scenarios = _scenarios(task, Direction.DOWNLINK)
    if options.reply is not None and scenarios:
        check_scenario(options.reply, scenarios, bundle.entropy)


def _outline(frame: Frame, total: int) -> Anatomy:
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


def _anatomy(frame: Frame, total: int, symbols: _Symbols, bundle: CodecBundle) -> Anatomy:
    outline = _outline(frame, total)
    counts = Counts(
        text_ids=len(symbols.text),
        mask_flags=0 if symbols.mask is None else symbols.mask.size,
        image_codes=0 if symbols.codes is None else len(symbols.codes),
    )
    vocabulary = bundle.vocabulary
    has_text = Part.TEXT in frame.parts
    uniform = PartBytes(
        container=outline.sizes.container,
        parameters=outline.sizes.parameters,
        text=packed_size(counts.text_ids, vocabulary.text_size) if has_text else 0,
        mask=(counts.mask_flags + 7) // 8,
        image=(counts.image_codes * code_bits(vocabulary.codebook_size) + 7) // 8,
    )
    return replace(outline, counts=counts, uniform=uniform)


@contextmanager
def _translated() -> Iterator[None]:
    """Faults of the bytes become a `BadMessageError`; faults of this end stay what they are."""
    try:
        yield
    except InvalidInputError as error:
        raise BadMessageError(error.message, error.remedy) from error
    except UnimicError:
        raise
    except (ValueError, TypeError, LookupError, ArithmeticError) as error:
        raise BadMessageError(f"the message cannot be decoded: {error}") from error
