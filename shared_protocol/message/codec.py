"""Requests, responses and stored images to bytes and back; every pair mirrored line by line.

It does not know sockets, pixels or words, and how a part is coded only by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from shared_protocol.coding.image_codec import check_scenario
from shared_protocol.entropy.context import CodingContext
from shared_protocol.errors import (
    BadMessageError,
    BundleMismatchError,
    InvalidInputError,
    PromptError,
    TokenRangeError,
    UnimicError,
)
from shared_protocol.message import bitstream, parameters
from shared_protocol.message.anatomy import Anatomy, Counts, Decoded, Encoded, PartBytes
from shared_protocol.message.bitstream import Frame
from shared_protocol.message.parts import (
    NO_TEXT,
    CodecBundle,
    Symbols,
    anatomy_of,
    downlink_context,
    encode_parts,
    image_of,
    outline,
    read_codes,
    read_dropped,
    read_mask,
    read_text,
    scenarios_of,
    uplink_context,
    verify_checksum,
)
from shared_protocol.messages import MAX_NEW_TOKENS, Options, Request, Response
from shared_protocol.tasks import Direction, Part, Scenario, Task
from shared_protocol.tokens import Flags, ImageTokens, TextTokens, TokenMask

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


def encode_request(
    request: Request,
    bundle: CodecBundle,
    scenario: Scenario | None = None,
    search: bool | None = None,
) -> Encoded:
    """An uplink message.

    Args:
        request: what is asked.
        bundle: must be the receiver's, too.
        scenario: entropy model of the image tokens; None takes the smallest result of those tried.
        search: with `scenario` None, try every model that Table I allows (True) or just the first
            (False); None does what pays for this message, as `tasks.TABLE` says.

    Raises:
        PromptError: the text is longer than the bundle allows.
        TokenRangeError: ids or codes of another vocabulary than the bundle's.
        InvalidInputError: `scenario` or `request.options.reply` does not fit.
    """
    if request.task not in _SERVICES:
        raise InvalidInputError("a stored image is not a request", "use encode_image")
    _check_text(request.text, bundle, bundle.max_text_tokens)
    mask = None if request.mask is None else request.mask.flags
    dropped = None if request.dropped is None else request.dropped.flags
    codes, context = None, None
    if request.image is not None:
        _check_image(request.image, bundle)
        context = uplink_context(request.image.shape, request.away, request.text.ids)
        codes = request.image.codes[context.targets]
    symbols = Symbols(request.text.ids, mask, codes, dropped)
    _check_reply(request.options, request.task, bundle)
    extras = parameters.to_map(request, bundle.grid)
    cell = (request.task, Direction.UPLINK)
    return encode_parts(cell, symbols, context, extras, bundle, scenario, search)


def decode_request(data: bytes, bundle: CodecBundle) -> Decoded[Request]:
    """The request that `encode_request` packed.

    Raises:
        BadMessageError: one of its subclasses, whatever is wrong with the bytes.
        BundleMismatchError: the sender has another bundle.
    """
    with _translated():
        frame = _opened(data, bundle, Direction.UPLINK, _SERVICES)
        grid, extension, options = parameters.from_map(frame.parameters, bundle.grid)
        _check_reply(options, frame.task, bundle)
        text = read_text(frame, bundle, bundle.max_text_tokens)
        mask = read_mask(frame, bundle, grid)
        dropped = read_dropped(frame, bundle, grid, mask)
        codes, context = None, None
        if Part.IMAGE in frame.parts:
            context = uplink_context(grid, _union(mask, dropped), text)
            codes = read_codes(frame, bundle, context)
        symbols = Symbols(text, mask, codes, dropped)
        verify_checksum(frame, symbols, bundle)
        request = Request(
            task=frame.task,
            text=TextTokens(text, bundle.vocabulary.text_size),
            image=image_of(context, codes, bundle),
            mask=None if mask is None else TokenMask(mask),
            extension=extension,
            options=options,
            dropped=None if dropped is None else TokenMask(dropped),
        )
        return Decoded(request, anatomy_of(frame, len(data), symbols, bundle))


def encode_response(
    response: Response,
    request: Request,
    bundle: CodecBundle,
    scenario: Scenario | None = None,
    search: bool | None = None,
) -> Encoded:
    """A downlink message; only what the request does not say already travels.

    Args:
        response: the answer; for images the whole merged grid.
        request: what was asked; both ends hold it.
        bundle: must be the receiver's, too.
        scenario: entropy model of the image tokens; None takes `request.options.reply`, else the
            smallest result of those tried.
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
    symbols, context = Symbols(), None
    if response.text is not None:
        _check_text(response.text, bundle, MAX_NEW_TOKENS)
        symbols = Symbols(text=response.text.ids)
    if response.image is not None:
        _check_image(response.image, bundle)
        context = downlink_context(request, bundle.grid)
        _check_known(response.image, context)
        symbols = Symbols(codes=response.image.codes[context.targets])
    cell = (response.task, Direction.DOWNLINK)
    return encode_parts(cell, symbols, context, {}, bundle, scenario, search)


def decode_response(data: bytes, request: Request, bundle: CodecBundle) -> Decoded[Response]:
    """The response that `encode_response` packed, merged with what the request says.

    Tokens that the request dropped are taken from `request`, whose sender holds them.

    Raises:
        BadMessageError: one of its subclasses, whatever is wrong with the bytes.
        BundleMismatchError: the sender has another bundle.
    """
    with _translated():
        frame = _opened(data, bundle, Direction.DOWNLINK, (request.task,))
        if frame.parameters:
            raise BadMessageError("a downlink message has no parameters")
        text = read_text(frame, bundle, MAX_NEW_TOKENS)
        codes, context = None, None
        if Part.IMAGE in frame.parts:
            context = downlink_context(request, bundle.grid)
            codes = read_codes(frame, bundle, context)
        symbols = Symbols(text, None, codes)
        verify_checksum(frame, symbols, bundle)
        wants_text = Part.TEXT in frame.parts
        response = Response(
            task=frame.task,
            image=image_of(context, codes, bundle, request.known(bundle.grid)[0]),
            text=TextTokens(text, bundle.vocabulary.text_size) if wants_text else None,
        )
        return Decoded(response, anatomy_of(frame, len(data), symbols, bundle))


def encode_image(
    image: ImageTokens,
    bundle: CodecBundle,
    scenario: Scenario | None = None,
    search: bool | None = None,
) -> Encoded:
    """A stored image: one message that nobody has to answer.

    Raises:
        TokenRangeError: codes of another codebook than the bundle's.
        InvalidInputError: `scenario` does not fit or the bundle has no model for it.
    """
    _check_image(image, bundle)
    context = uplink_context(image.shape, None, NO_TEXT)
    symbols = Symbols(codes=image.codes[context.targets])
    extras = parameters.grid_to_map(image.shape, bundle.grid)
    cell = (Task.STORE, Direction.UPLINK)
    return encode_parts(cell, symbols, context, extras, bundle, scenario, search)


def decode_image(data: bytes, bundle: CodecBundle) -> Decoded[ImageTokens]:
    """The image that `encode_image` packed.

    Raises:
        BadMessageError: one of its subclasses, whatever is wrong with the bytes.
        BundleMismatchError: the sender has another bundle.
    """
    with _translated():
        frame = _opened(data, bundle, Direction.UPLINK, (Task.STORE,))
        grid = parameters.grid_from_map(frame.parameters, bundle.grid)
        context = uplink_context(grid, None, NO_TEXT)
        codes = read_codes(frame, bundle, context)
        symbols = Symbols(codes=codes)
        verify_checksum(frame, symbols, bundle)
        image = image_of(context, codes, bundle)
        assert image is not None
        return Decoded(image, anatomy_of(frame, len(data), symbols, bundle))


def inspect(data: bytes) -> Anatomy:
    """What the header and the lengths tell, without a bundle and without decoding anything.

    Raises:
        BadMessageError: one of its subclasses, if the bytes are not a whole message.
    """
    with _translated():
        frame = bitstream.unpack(data)
        return outline(frame, len(data))


def _union(mask: Flags | None, dropped: Flags | None) -> Flags | None:
    if mask is None or dropped is None:
        return dropped if mask is None else mask
    return mask | dropped


def _opened(
    data: bytes, bundle: CodecBundle, direction: Direction, tasks: tuple[Task, ...]
) -> Frame:
    """The frame of a message that goes this way, is for one of the tasks and fits the bundle."""
    frame = bitstream.unpack(data)
    _check_cell(frame, direction, tasks)
    _check_bundle(frame, bundle)
    return frame


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
    scenarios = scenarios_of(task, Direction.DOWNLINK)
    if options.reply is not None and scenarios:
        check_scenario(options.reply, scenarios, bundle.entropy)


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
