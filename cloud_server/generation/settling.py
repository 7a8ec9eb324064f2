"""Settles a finished picture: each code is asked for once more, given all the others.

Does not know prompts, the network, or what a code costs to send: a price is passed in.

Masked decoding fixes many codes at once, which cannot know of each other; here and there one does
not fit what is around it. A few cells at a time, far from each other, are hidden and read again::

    codes ─ hide a group ─► logits ─► for each cell the best of
                                      log p(code | all others) - weight * price(code)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cloud_server.generation.masked_decoding import LogitsOfCodes
from shared_protocol.errors import InvalidInputError
from shared_protocol.messages import OnStep

CANDIDATES = 12
"""Likeliest codes of a cell that are compared, beside the one that it has."""
PERIOD = 4
"""Cells of one group are at least two apart, and repeat with this period."""
PASSES = (0, 4, 8, 16)
"""How many groups a picture may be settled in; fewer are coarser, and 0 leaves it as it is."""


class Price(Protocol):
    """What codes cost to send, whoever sends them."""

    def __call__(
        self, codes: NDArray[np.int64], places: NDArray[np.int64], choices: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Nats of each choice at its place, all other codes being as they are.

        Args:
            codes: (N,) of the window, all known.
            places: (R,) positions among them.
            choices: (R, K) codes that may stand there.

        Returns:
            (R, K).
        """
        ...


@dataclass(frozen=True)
class Settling:
    """How a batch of windows is settled.

    Attributes:
        passes: one of `PASSES`.
        side: of the windows, in cells.
        weight: of the price against the log probability.
        prices: one for each row; None = codes cost nothing.
    """

    passes: int
    side: int
    weight: float = 0.0
    prices: Sequence[Price | None] = field(default=())


def groups(side: int, passes: int) -> list[NDArray[np.bool_]]:
    """The cells of each pass, (side * side,) bool; together all cells, each once.

    >>> sum(groups(4, 8)).tolist() == [1] * 16
    True
    """
    if passes not in PASSES:
        raise InvalidInputError(f"{passes} settling passes", f"use one of {PASSES}")
    row, column = np.divmod(np.arange(side * side), side)
    number = np.array([[_ORDER.index((r, c)) for c in range(PERIOD)] for r in range(PERIOD)])
    of = number[row % PERIOD, column % PERIOD]
    return [of % passes == index for index in range(passes)]


_CORNERS = ((0, 0), (1, 1), (0, 1), (1, 0))
_ORDER = [
    (r + down, c + right) for down, right in ((0, 0), (0, 2), (2, 2), (2, 0)) for r, c in _CORNERS
]
"""(row, column) modulo `PERIOD`; those of one pass, every `passes`-th, lie far from each other."""


@torch.inference_mode()
def settle(
    logits_of: LogitsOfCodes,
    codes: Tensor,
    wanted: Tensor,
    settling: Settling,
    on_step: OnStep | None = None,
) -> Tensor:
    """Read the wanted codes again, group after group.

    Args:
        logits_of: codes (B, N) and places (B, R) to logits (B, R, V), on the CPU.
        codes: (B, N) int64, all known, on the CPU.
        wanted: (B, N) bool; other codes never change.
        settling: how.
        on_step: called with (finished, passes).

    Returns:
        (B, N) int64. No random number is drawn: equal codes give equal codes.
    """
    current = codes.clone()
    prices = list(settling.prices) or [None] * len(codes)
    for index, group in enumerate(groups(settling.side, settling.passes)):
        hidden = wanted & torch.from_numpy(group)
        if bool(hidden.any()):
            places = _places(hidden)
            logits = logits_of(torch.where(hidden, -1, current), places)
            for row, price in enumerate(prices):
                count = int(hidden[row].sum())
                _settle_row(current[row], logits[row, :count], places[row, :count], price, settling)
        if on_step is not None:
            on_step(index + 1, settling.passes)
    return current


def _places(hidden: Tensor) -> Tensor:
    """(B, R) positions where (B, N) is True; shorter rows are filled up with others."""
    most = int(hidden.sum(-1).max())
    return (~hidden).to(torch.uint8).argsort(dim=-1, stable=True)[:, :most]


def _settle_row(
    codes: Tensor, logits: Tensor, places: Tensor, price: Price | None, settling: Settling
) -> None:
    """Choose the codes (N,) of one row at its places (R,), in place."""
    if not len(places):
        return
    likely = logits.log_softmax(-1)  # (R, V)
    choices = torch.cat([codes[places][:, None], likely.topk(CANDIDATES).indices], dim=1)
    value = likely.gather(1, choices)
    if price is not None and settling.weight:
        nats = price(codes.numpy(), places.numpy(), choices.numpy())
        value = value - settling.weight * torch.from_numpy(nats).float()
    codes[places] = choices.gather(1, value.argmax(-1, keepdim=True))[:, 0]
