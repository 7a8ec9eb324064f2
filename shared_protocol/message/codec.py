"""Requests and responses to bytes and back; every pair mirrored line by line.

It does not know sockets, pixels or words, nor how a part is coded; see `parts` for that.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from shared_protocol.coding.image_codec import check_scenario
from shared_protocol.coding.labels_codec import from_said, said_by
from shared_protocol.errors import (
    BadMessageError,
    BundleMismatchError,
    InvalidInputError,
    PromptError,
    TokenRangeError,
)
from shared_protocol.message import bitstream, parameters
from shared_protocol.message.anatomy import Anatomy, Decoded, Encoded, anatomy_of, outline
from shared_protocol.message.bitstream import Frame
from shared_protocol.message.parts import (
    Binding,
    Choice,
    CodecBundle,
    Scene,
    Symbols,
    decode_parts,
    encode_parts,
    response_context,
    translated,
)
from shared_protocol.messages import Admit, Claims, Options, Request, Response
from shared_protocol.tasks import TABLE, Direction, Part, Scenario, Task
from shared_protocol.tokens import Codes, ImageTokens, KnownTokens, TextTokens, TokenMask

__all__ = [
    "CodecBundle",
    "Decoded",
    "Encoded",
    "decode_request",
    "decode_response",
    "encode_request",
    "encode_response",
    "inspect",
]


def _size(grid: tuple[int, int]) -> str:
    return f"{grid[0]}x{grid[1]}"


def _uplink(
    task: Task, bundle: CodecBundle, grid: tuple[int, int], known: KnownTokens | None
) -> Scene:
    if known is not None and not TABLE[task].needs_image:
        raise InvalidInputError(
            f"tokens of a {_size(known.shape)} picture are known, but {task.slug} asks about none",
            "leave out the known tokens",
        )
    if known is not None and known.shape != grid:
        raise InvalidInputError(
            f"tokens of a {_size(known.shape)} picture are known, but that of this {task.slug} "
            f"request is {_size(grid)}",
            "name the known tokens of the request's own picture",
        )
    binding = Binding.of_request(bundle.fingerprint, known)
    return Scene(task, Direction.UPLINK, bundle, grid, binding, known)


def _downlink(request: Request, bundle: CodecBundle) -> Scene:
    grid = bundle.grid if request.image is None else request.image.shape
    binding = Binding.of_response(bundle.fingerprint, request)
    return Scene(request.task, Direction.DOWNLINK, bundle, grid, binding, request=request)


def encode_request(
    request: Request,
    bundle: CodecBundle,
    scenario: Scenario | None = None,
    search: bool | None = None,
    known: KnownTokens | None = None,
) -> Encoded:
    """An uplink message.

    Args:
        request: what is asked.
        bundle: must be the receiver's, too.
        scenario, search: see `Choice`.
        known: tokens of the request's image that the receiver has already; they do not travel.

    Raises:
        PromptError: the text is longer than the bundle allows.
        TokenRangeError: ids or codes of another vocabulary than the bundle's.
        InvalidInputError: `scenario`, `request.options.reply` or `known` does not fit.
    """
    _check_reply(request.options, request.task, bundle)
    grid = bundle.grid if request.image is None else request.image.shape
    scene = _uplink(request.task, bundle, grid, known)
    if known is not None:
        _check_known(request, known)
    content: dict[Part, npt.NDArray[Any]] = {Part.TEXT: _ids(request.text, scene)}
    if request.negative is not None:
        _ids(request.negative, scene)  # travels with the parameters, within the limits of a text
    if request.mask is not None:
        content[Part.MASK] = request.mask.flags
    if request.dropped is not None:
        content[Part.DROPPED] = request.dropped.flags
    if request.image is not None:
        content[Part.IMAGE] = _codes(request.image, scene)
    extras = parameters.to_map(request, bundle.grid)
    return encode_parts(content, scene, extras, Choice(scenario, search))


def decode_request(
    data: bytes,
    bundle: CodecBundle,
    known: KnownTokens | None = None,
    admit: Admit | None = None,
) -> Decoded[Request]:
    """The request that `encode_request` packed.

    Args:
        data: one message.
        bundle: must be the sender's, too.
        known: tokens of the request's image that this end has already.
        admit: told what the request claims to be before any of its symbols is decoded, so that
            nothing is paid for what is refused.

    Raises:
        BadMessageError: one of its subclasses, whatever is wrong with the bytes.
        BundleMismatchError: the sender has another bundle.
        InvalidInputError: raised by `admit`.
    """
    with translated():
        frame = _opened(data, bundle, Direction.UPLINK)
        grid, extension, options = parameters.from_map(frame.parameters, bundle.grid)
        _check_reply(options, frame.task, bundle)
        size, limit = bundle.vocabulary.text_size, bundle.max_text_tokens
        negative = parameters.negative_of(frame.parameters, size, limit)
        scene = _uplink(frame.task, bundle, grid, known)
    if admit is not None:
        canvas = grid if extension is None else extension.canvas(*grid)
        admit(Claims(frame.task, grid, canvas, options))
    with translated():
        content, symbols = decode_parts(frame, scene)
        request = Request(
            task=frame.task,
            text=TextTokens(
                content.get(Part.TEXT, np.zeros(0, dtype=np.int32)), bundle.vocabulary.text_size
            ),
            image=_image(content, bundle),
            mask=_flags(content, Part.MASK),
            extension=extension,
            options=options,
            dropped=_flags(content, Part.DROPPED),
            negative=negative,
        )
        return Decoded(request, anatomy_of(frame, len(data), symbols, bundle.vocabulary))


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
        request: what was asked; both ends have it, and the checksum covers it.
        bundle: must be the receiver's, too.
        scenario, search: see `Choice`; without `scenario`, `request.options.reply` counts.

    Raises:
        InvalidInputError: the response does not answer the request (its task or its known
            tokens), or `scenario` does not fit the task or the bundle.
    """
    if response.task is not request.task:
        raise InvalidInputError(f"a {response.task.slug} response to a {request.task.slug} request")
    scene = _downlink(request, bundle)
    content: dict[Part, npt.NDArray[Any]] = {}
    if response.text is not None:
        content[Part.TEXT] = _ids(response.text, scene)
    if response.image is not None:
        content[Part.IMAGE] = _codes(response.image, scene)
    if response.labels is not None:
        content[Part.LABELS] = said_by(response.labels.told(request.label_wish))
    scenario = request.options.reply if scenario is None else scenario
    return encode_parts(content, scene, {}, Choice(scenario, search))


def decode_response(data: bytes, request: Request, bundle: CodecBundle) -> Decoded[Response]:
    """The response that `encode_response` packed, merged with what the request says.

    Tokens that the request dropped are taken from `request`, whose sender has them.

    Raises:
        BadMessageError: one of its subclasses, whatever is wrong with the bytes; `ChecksumError`
            also where the message answers another request.
        BundleMismatchError: the sender has another bundle.
        LabelsMismatchError: labels without their names, and of another set than `request.held`.
    """
    with translated():
        frame = _opened(data, bundle, Direction.DOWNLINK, request.task)
        if frame.parameters:
            raise BadMessageError("a downlink message has no parameters")
        scene = _downlink(request, bundle)
        content, symbols = decode_parts(frame, scene, own=request.known(bundle.grid)[0])
        text = content.get(Part.TEXT)
        response = Response(
            task=frame.task,
            image=_image(content, bundle),
            text=None if text is None else TextTokens(text, bundle.vocabulary.text_size),
            labels=from_said(content[Part.LABELS]) if Part.LABELS in content else None,
        )
        return Decoded(response, anatomy_of(frame, len(data), symbols, bundle.vocabulary))


def inspect(data: bytes) -> Anatomy:
    """What the header and the lengths tell, without a bundle and without decoding anything.

    Raises:
        BadMessageError: one of its subclasses, if the bytes are not a whole message.
    """
    with translated():
        frame = bitstream.unpack(data)
        return outline(frame, len(data))


# ------------------------------------------------------------------------------------------------
# Values to symbols and back, and what is checked on the way
# ------------------------------------------------------------------------------------------------


def _ids(text: TextTokens, scene: Scene) -> Codes:
    size, limit = scene.bundle.vocabulary.text_size, scene.text_limit
    if text.vocabulary_size != size:
        raise TokenRangeError(
            f"the text ids are of {text.vocabulary_size}, the bundle's are of {size}"
        )
    if len(text) > limit:
        raise PromptError(f"the text has {len(text)} tokens", f"use at most {limit}")
    return text.ids


def _codes(image: ImageTokens, scene: Scene) -> Codes:
    """The (H, W) codes of a picture that fits the bundle and agrees with what both ends know."""
    size = scene.bundle.vocabulary.codebook_size
    if image.codebook_size != size:
        raise TokenRangeError(
            f"the image codes are of {image.codebook_size}, the bundle's are of {size}"
        )
    if scene.request is None:
        return image.codes
    context = response_context(scene.request, scene.bundle.grid)
    if image.shape != context.shape:
        raise InvalidInputError(f"the response is {image.shape}, the request asks {context.shape}")
    if not np.array_equal(image.codes[context.known], context.known_codes[context.known]):
        raise InvalidInputError("the response changes tokens that the request holds")
    return image.codes


def _check_known(request: Request, known: KnownTokens) -> None:
    """Refuse to leave out tokens that the receiver does not have as the request has them."""
    assert request.image is not None, "only requests with an image have known tokens"
    both = known.flags if request.left_out is None else known.flags & ~request.left_out
    wrong = int((request.image.codes[both] != known.codes[both]).sum())
    if wrong:
        raise InvalidInputError(
            f"{wrong} tokens that the receiver is said to have are others in the request's image",
            "leave them out of `known`, so that they travel",
        )


def _image(content: Symbols, bundle: CodecBundle) -> ImageTokens | None:
    codes = content.get(Part.IMAGE)
    return None if codes is None else ImageTokens(codes, bundle.vocabulary.codebook_size)


def _flags(content: Symbols, part: Part) -> TokenMask | None:
    return TokenMask(content[part]) if part in content else None


def _opened(
    data: bytes, bundle: CodecBundle, direction: Direction, task: Task | None = None
) -> Frame:
    """The frame of a message that goes this way, is for the task (or any) and fits the bundle."""
    frame = bitstream.unpack(data)
    if frame.direction is not direction or task not in (None, frame.task):
        wanted = "a request" if task is None else f"{task.slug} {direction.slug}"
        found = f"{frame.task.slug} {frame.direction.slug}"
        raise BadMessageError(f"the message is {found}, expected {wanted}")
    ours = bundle.fingerprint[: bitstream.PREFIX_BYTES]
    if frame.fingerprint_prefix != ours:
        raise BundleMismatchError(
            f"the message was made with bundle {frame.fingerprint_prefix.hex()}, "
            f"this end has bundle {ours.hex()}",
            "give both ends the same bundle",
        )
    return frame


def _check_reply(options: Options, task: Task, bundle: CodecBundle) -> None:
    scenarios = TABLE[task].scenarios(Direction.DOWNLINK)
    if options.reply is not None and scenarios:
        check_scenario(options.reply, scenarios, bundle.entropy)
