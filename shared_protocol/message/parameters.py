"""What a request says besides its parts, as the container's small map of integers.

It does not know bytes. A value that is the default is left out and costs nothing.
"""

from __future__ import annotations

from enum import IntEnum

from shared_protocol.errors import BadMessageError
from shared_protocol.message.bitstream import Parameters
from shared_protocol.messages import GUIDANCE_UNIT, Options, Request
from shared_protocol.tasks import Extension, Scenario
from shared_protocol.tokens import check_grid


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


def to_map(request: Request, native: tuple[int, int]) -> Parameters:
    """The parameters of `request` for a bundle whose own grid is `native`.

    Raises:
        TokenRangeError: the extended grid is too large.
    """
    options = request.options
    found: dict[int, int | tuple[int, ...] | None] = {
        Parameter.STEPS: options.steps,
        Parameter.GUIDANCE: _units(options.guidance),
        Parameter.SEED: options.seed or None,
        Parameter.MAX_NEW_TOKENS: options.max_new_tokens,
        Parameter.REPLY: None if options.reply is None else int(options.reply),
    }
    extras: dict[int, int | tuple[int, ...]] = {}
    if request.image is not None:
        extras.update(grid_to_map(request.image.shape, native))
    if request.image is not None and request.extension is not None:
        check_grid(*request.extension.canvas(*request.image.shape))
        extras[int(Parameter.EXTENSION)] = request.extension.sides
    extras.update({int(key): value for key, value in found.items() if value is not None})
    return extras


def from_map(
    extras: Parameters, native: tuple[int, int]
) -> tuple[tuple[int, int], Extension | None, Options]:
    """The mirror of `to_map`: grid, extension, options.

    Raises:
        BadMessageError: a key or value that no request has.
        InvalidInputError: a value outside its range.
    """
    unknown = sorted(key for key in extras if key not in Parameter._value2member_map_)
    if unknown:
        raise BadMessageError(f"version 1 has no parameters {unknown}")
    grid = grid_from_map({k: v for k, v in extras.items() if k == Parameter.GRID}, native)
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
        reply=None if reply is None else Scenario(reply),
    )
    return grid, extension, options


def grid_to_map(grid: tuple[int, int], native: tuple[int, int]) -> dict[int, int | tuple[int, ...]]:
    """Says the grid, unless it is the bundle's own."""
    return {} if grid == native else {int(Parameter.GRID): grid}


def grid_from_map(extras: Parameters, native: tuple[int, int]) -> tuple[int, int]:
    """The mirror of `grid_to_map`; nothing but the grid may be there."""
    if not extras:
        return native
    if list(extras) != [Parameter.GRID]:
        raise BadMessageError(f"parameters {sorted(extras)} do not belong to a stored image")
    height, width = _tuple(extras, Parameter.GRID, 2)
    check_grid(height, width)
    return height, width


def _units(guidance: float | None) -> int | None:
    return None if guidance is None else round(guidance / GUIDANCE_UNIT)


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
