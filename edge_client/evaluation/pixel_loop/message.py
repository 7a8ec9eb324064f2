"""What travels between an edge and a cloud that talk in pixels: a request with a coded picture.

It does not know sockets or codecs; the coded picture is bytes. Text and mask are coded by the same
coders as in UniMIC's own messages, so that only the pictures make a difference.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import msgpack

from shared_protocol.coding.mask_codec import MaskPrior, decode_mask, encode_mask
from shared_protocol.coding.text_codec import TextCoder, TextPrior, decode_text, encode_text
from shared_protocol.errors import BadMessageError
from shared_protocol.messages import Options
from shared_protocol.tasks import Extension
from shared_protocol.tokens import TextTokens, TokenMask
from shared_protocol.vocabulary import Vocabulary

FIELDS = 7


class PixelBundle(Protocol):
    """What coding text and masks needs of a bundle."""

    @property
    def vocabulary(self) -> Vocabulary: ...

    @property
    def grid(self) -> tuple[int, int]: ...

    @property
    def text_prior(self) -> TextPrior | None: ...

    @property
    def mask_prior(self) -> MaskPrior | None: ...


@dataclass(frozen=True, eq=False)
class PixelRequest:
    """A request before it is bytes.

    Args:
        text: prompt or question.
        picture: a coded picture; empty for text to image.
        mask: inpainting only.
        extension: outpainting only.
        options: steps and seed are carried, nothing else.
    """

    text: TextTokens
    picture: bytes = b""
    mask: TokenMask | None = None
    extension: Extension | None = None
    options: Options = field(default_factory=Options)


@dataclass(frozen=True)
class PixelParts:
    """Bytes of a pixel message by what they are for; `framing` is all the rest."""

    text: int
    mask: int
    picture: int
    framing: int

    @property
    def total(self) -> int:
        """The whole body."""
        return self.text + self.mask + self.picture + self.framing


def pack_request(request: PixelRequest, bundle: PixelBundle) -> tuple[bytes, PixelParts]:
    """The body that carries `request`, and what it is made of."""
    coder, text = _pack_text(request.text, bundle)
    # None stands for no mask: a mask may be coded in no bytes at all.
    mask = None if request.mask is None else encode_mask(request.mask.flags, bundle.mask_prior)
    sides = None if request.extension is None else request.extension.sides
    options = request.options
    fields = [int(coder), text, mask, sides, options.steps, options.seed, request.picture]
    body: bytes = msgpack.packb(fields)
    sizes = len(text), len(mask or b""), len(request.picture)
    return body, PixelParts(*sizes, framing=len(body) - sum(sizes))


def unpack_request(body: bytes, bundle: PixelBundle) -> PixelRequest:
    """The request that `pack_request` packed.

    Raises:
        BadMessageError: one of its subclasses; the body is no such request.
    """
    coder, text, mask, sides, steps, seed, picture = _fields(body)
    try:
        return PixelRequest(
            _unpack_text(coder, text, bundle),
            bytes(picture),
            None if mask is None else TokenMask(decode_mask(mask, bundle.grid, bundle.mask_prior)),
            None if sides is None else Extension(*sides),
            Options(steps=steps, seed=seed),
        )
    except (TypeError, ValueError) as error:
        raise BadMessageError(f"a field of the pixel request has another type: {error}") from error


def pack_answer(text: TextTokens, bundle: PixelBundle) -> bytes:
    """The body of an answer in words: the coder's number in a byte, then the coded text."""
    coder, data = _pack_text(text, bundle)
    return bytes([coder]) + data


def unpack_answer(body: bytes, bundle: PixelBundle) -> TextTokens:
    """The text that `pack_answer` packed.

    Raises:
        BadMessageError: one of its subclasses; the body is no such answer.
    """
    if not body:
        raise BadMessageError("an answer of 0 bytes")
    return _unpack_text(body[0], body[1:], bundle)


def _pack_text(text: TextTokens, bundle: PixelBundle) -> tuple[TextCoder, bytes]:
    return encode_text(text.ids, bundle.vocabulary.text_size, bundle.text_prior)


def _unpack_text(coder: int, data: bytes, bundle: PixelBundle) -> TextTokens:
    size = bundle.vocabulary.text_size
    if coder not in list(TextCoder):
        raise BadMessageError(f"there is no text coder {coder}")
    return TextTokens(decode_text(data, TextCoder(coder), size, bundle.text_prior), size)


def _fields(body: bytes) -> list[Any]:
    try:
        fields = msgpack.unpackb(body)
    except (ValueError, msgpack.UnpackException) as error:
        raise BadMessageError(f"{len(body)} bytes are no pixel request: {error}") from error
    if not isinstance(fields, list) or len(fields) != FIELDS:
        raise BadMessageError(f"{len(body)} bytes are no pixel request of {FIELDS} fields")
    return fields
