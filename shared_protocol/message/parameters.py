"""What a request says besides its parts, as the container's small map of integers.

It does not know bytes. A value that is the default is left out and costs nothing.
"""

from __future__ import annotations

import hashlib
from enum import IntEnum

import numpy as np

from shared_protocol.coding.bits import array_bytes
from shared_protocol.errors import BadMessageError
from shared_protocol.labels import USUAL_TOP
from shared_protocol.message.bitstream import VERSION, Parameters, pack_parameters
from shared_protocol.messages import GUIDANCE_UNIT, Options, Request
from shared_protocol.tasks import Extension, Scenario
from shared_protocol.tokens import TextTokens, check_grid


class Parameter(IntEnum):
    """Keys of the map; the numbers are fixed on the wire."""

    GRID = 0
    """(H, W) of the image in tokens, if not the bundle's."""
    EXTENSION = 1
    """(left, right, up, down) in tokens."""
    STEPS = 2
    GUIDANCE = 3
    """In units of `GUIDANCE_UNIT`."""
    SEED = 4
    MAX_NEW_TOKENS = 5
    REPLY = 6
    """Scenario of the reply's image part."""
    NEGATIVE = 7
    """Text ids of the negative prompt."""
    MENDING = 8
    """How often the cloud mends what it draws, at most."""
    TOP = 9
    """How many labels are named at most."""
    NAMES = 10
    """1: the reply says the names of its labels."""


def to_map(request: Request, native: tuple[int, int]) -> Parameters:
    """The parameters of `request` for a bundle whose own grid is `native`.

    Raises:
        TokenRangeError: the extended grid is too large.
    """
    extras = result_parameters(request)
    if request.image is not None and request.image.shape != native:
        extras[int(Parameter.GRID)] = request.image.shape
    if request.options.reply is not None:
        extras[int(Parameter.REPLY)] = int(request.options.reply)
    if request.options.names:
        extras[int(Parameter.NAMES)] = 1
    return extras


def result_parameters(request: Request) -> dict[int, int | tuple[int, ...]]:
    """The parameters that decide what the result is, not how anything is coded.

    Raises:
        TokenRangeError: the extended grid is too large.
    """
    options, extension, negative = request.options, request.extension, request.negative
    found: dict[Parameter, int | tuple[int, ...] | None] = {
        Parameter.EXTENSION: None if extension is None else extension.sides,
        Parameter.STEPS: options.steps,
        Parameter.GUIDANCE: _units(options.guidance),
        Parameter.SEED: options.seed or None,
        Parameter.MAX_NEW_TOKENS: options.max_new_tokens,
        Parameter.MENDING: options.mend,
        Parameter.TOP: None if options.top == USUAL_TOP else options.top,
        Parameter.NEGATIVE: None if negative is None else tuple(negative.ids.tolist()),
    }
    if request.image is not None and extension is not None:
        check_grid(*extension.canvas(*request.image.shape))
    return {int(key): value for key, value in found.items() if value is not None}


def request_digest(request: Request) -> bytes:
    """SHA-256 of all that decides the result of `request`; both ends compute the same.

    How the request or its reply is coded is no part of it, so that a retry with another coder is
    the same request. Tokens that do not travel count as code 0.
    """
    digest = hashlib.sha256(bytes([request.task]))
    digest.update(pack_parameters(result_parameters(request)))
    digest.update(array_bytes(request.text.ids))
    if request.image is not None:
        left_out = request.left_out
        codes = request.image.codes
        digest.update(array_bytes(codes if left_out is None else np.where(left_out, 0, codes)))
    for flags in (request.mask, request.dropped):
        digest.update(array_bytes(np.zeros((0, 0), dtype=bool) if flags is None else flags.flags))
    return digest.digest()


def from_map(
    extras: Parameters, native: tuple[int, int]
) -> tuple[tuple[int, int], Extension | None, Options]:
    """The mirror of `to_map`: grid, extension, options; `negative_of` reads the negative prompt.

    Raises:
        BadMessageError: a key or value that no request has.
        InvalidInputError: a value outside its range.
    """
    for key in extras:
        if key not in Parameter._value2member_map_:
            raise BadMessageError(f"version {VERSION} has no parameter {key}")
    grid = native
    if Parameter.GRID in extras:
        height, width = _tuple(extras, Parameter.GRID, 2)
        check_grid(height, width)
        grid = height, width
    extension = None
    if Parameter.EXTENSION in extras:
        left, right, up, down = _tuple(extras, Parameter.EXTENSION, 4)
        extension = Extension(left, right, up, down)
        check_grid(*extension.canvas(*grid))
    units, reply = _number(extras, Parameter.GUIDANCE), _number(extras, Parameter.REPLY)
    options = Options(
        steps=_number(extras, Parameter.STEPS),
        guidance=None if units is None else units * GUIDANCE_UNIT,
        seed=_number(extras, Parameter.SEED) or 0,
        max_new_tokens=_number(extras, Parameter.MAX_NEW_TOKENS),
        mend=_number(extras, Parameter.MENDING),
        reply=None if reply is None else Scenario(reply),
        top=_top(extras),
        names=_names(extras),
    )
    return grid, extension, options


def negative_of(extras: Parameters, text_size: int, limit: int) -> TextTokens | None:
    """The negative prompt of a map, at most `limit` of `text_size` ids; None without one.

    Raises:
        BadMessageError: not a list of such ids.
        TokenRangeError: an id that there is not.
    """
    if Parameter.NEGATIVE not in extras:
        return None
    value = extras[int(Parameter.NEGATIVE)]
    if not isinstance(value, tuple) or not 1 <= len(value) <= limit:
        raise BadMessageError(f"parameter negative is not a list of 1 to {limit} text ids")
    if max(value) >= text_size:
        raise BadMessageError(f"parameter negative has id {max(value)}, of {text_size}")
    return TextTokens(np.array(value, dtype=np.int64), text_size)


def _units(guidance: float | None) -> int | None:
    return None if guidance is None else round(guidance / GUIDANCE_UNIT)


def _top(extras: Parameters) -> int:
    top = _number(extras, Parameter.TOP)
    if top == USUAL_TOP:
        raise BadMessageError(f"parameter top is {top}, which is said by leaving it out")
    return USUAL_TOP if top is None else top


def _names(extras: Parameters) -> bool:
    names = _number(extras, Parameter.NAMES)
    if names not in (None, 1):
        raise BadMessageError(f"parameter names is {names}, not 1")
    return names is not None


def _number(extras: Parameters, key: Parameter) -> int | None:
    value = extras.get(int(key))
    if isinstance(value, tuple):
        raise BadMessageError(f"parameter {key.name.lower()} is a list")
    return value


def _tuple(extras: Parameters, key: Parameter, length: int) -> tuple[int, ...]:
    value = extras[int(key)]
    if not isinstance(value, tuple) or len(value) != length:
        raise BadMessageError(f"parameter {key.name.lower()} is not a list of {length}")
    return value
