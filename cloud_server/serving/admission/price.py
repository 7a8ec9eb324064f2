"""What a request costs: the tokens that pass through the network for it, all passes together.

One unit is one token in one pass. It knows requests and no bytes; the price is that of the most
that may come of a request, mending included, so that it can be told before anything is paid.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloud_server.generation.work import FILL_STEPS
from cloud_server.serving.translation import ServedBundle, canvas_of, steps_of
from cloud_server.settings import Settings
from shared_protocol.errors import InvalidInputError
from shared_protocol.messages import MAX_MENDS, Request
from shared_protocol.tokens import MAX_GRID

_LOOK_PASSES = 4
"""Passes that a round of mending spends on looking, about."""


@dataclass(frozen=True)
class Effort:
    """What is done about a picture besides drawing it once.

    Args:
        mend: rounds of mending where a request does not say it; None = the model cannot mend.
        settle: passes that settle a picture.
        tries: pictures drawn at most, to choose from.
    """

    mend: int | None = None
    settle: int = 0
    tries: int = 1

    def passes(self, steps: int, asked: int | None) -> int:
        """Passes over one window, at most."""
        rounds = 0 if self.mend is None else self.mend if asked is None else asked
        return self.tries * (steps + rounds * (steps + _LOOK_PASSES) + self.settle)


def price_of(request: Request, bundle: ServedBundle, effort: Effort) -> int:
    """Tokens times passes times windows that a request takes at most."""
    side = bundle.grid[0] * bundle.grid[1]
    if not request.row.makes_picture:
        longest = request.options.max_new_tokens or bundle.defaults.max_new_tokens
        longest = longest if request.row.answers_in_words else 0  # labels come all at once
        filling = 0 if request.dropped is None else FILL_STEPS * side
        return side + len(request.text) + longest + filling
    guidance = request.options.guidance
    guidance = bundle.defaults.guidance if guidance is None else guidance
    passes = effort.passes(steps_of(request, bundle), request.options.mend)
    return _windows(request, bundle) * side * passes * (2 if guidance else 1)


def _windows(request: Request, bundle: ServedBundle) -> int:
    """Windows that fill what is unknown, about: half of each is known, where it can be."""
    unknown = request.known(bundle.grid)[1] | request.gaps(bundle.grid)
    if max(canvas_of(request, bundle)) <= bundle.grid[0]:
        return 1
    tiles = _tiles(unknown, bundle.grid)
    wanted = 2 * tiles / (bundle.grid[0] * bundle.grid[1])
    return max(1, int(np.ceil(wanted).sum()))


def _tiles(unknown: NDArray[np.bool_], grid: tuple[int, int]) -> NDArray[np.int64]:
    """Unknown cells in each tile of the bundle's own size."""
    rows, columns = (math.ceil(n / side) for n, side in zip(unknown.shape, grid, strict=True))
    padded = np.zeros((rows * grid[0], columns * grid[1]), dtype=np.int64)
    padded[: unknown.shape[0], : unknown.shape[1]] = unknown
    tiles: NDArray[np.int64] = padded.reshape(rows, grid[0], columns, grid[1]).sum(axis=(1, 3))
    return tiles


def most_work(settings: Settings, bundle: ServedBundle, effort: Effort) -> int:
    """The largest price that is served: the setting, or what the bundle's users may well ask for.

    That is the larger of a picture of the bundle's own size with as many steps and mends as there
    may be, and one of the largest grid with the usual ones.
    """
    if settings.max_work:
        return settings.max_work
    side = bundle.grid[0] * bundle.grid[1]
    finest = effort.passes(settings.max_steps, MAX_MENDS)
    tiles = math.ceil(min(settings.max_grid, MAX_GRID) / bundle.grid[0]) ** 2
    usual = 2 * tiles * effort.passes(min(settings.max_steps, bundle.defaults.steps), None)
    return 2 * side * max(finest, usual)


def check_price(price: int, most: int, request: Request, bundle: ServedBundle) -> None:
    """Refuse what costs too much.

    Raises:
        InvalidInputError: it costs more than `most`.
    """
    if price <= most:
        return
    steps = steps_of(request, bundle)
    fewer = max(1, steps * most // price)
    height, width = canvas_of(request, bundle)
    raise InvalidInputError(
        f"the request would take {price:,} token passes ({height}x{width} tokens, {steps} steps), "
        f"this server does at most {most:,} for one",
        f"ask for about {fewer} steps, or for fewer new tokens; the operator sets --max-work",
    )
