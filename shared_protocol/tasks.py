"""Table I of the paper as data: which tokens go up and down for each task, and by which coder.

It does not know how a part is coded, only which parts there are and what merges into what.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from shared_protocol.errors import InvalidInputError
from shared_protocol.tokens import MAX_GRID, Codes, Flags


class Task(IntEnum):
    """What is asked of the cloud; the numbers are fixed on the wire."""

    T2I = 0
    INPAINT = 1
    OUTPAINT = 2
    VQA = 3
    STORE = 7
    """No service: a stream that holds one tokenised image."""


class Direction(IntEnum):
    """Which way a message travels; the numbers are fixed on the wire."""

    UPLINK = 0
    DOWNLINK = 1


class Part(IntEnum):
    """The coded parts of a message, in the order in which they stand."""

    TEXT = 0
    MASK = 1
    DROPPED = 2
    """Any uplink with an image may have it: the tokens that stay at home to save bytes."""
    IMAGE = 3


class Subset(IntEnum):
    """Which positions of the image grid a message carries."""

    ALL = 0
    OUTSIDE_MASK = 1
    INSIDE_MASK = 2
    EXTRAPOLATED = 3


class Scenario(IntEnum):
    """How image tokens are modelled; the numbers are fixed on the wire.

    `GENERIC`, `MASKED` and `TEXT_CONDITIONED` are the paper's three entropy models; `ADAPTED` is
    the text-conditioned model fitted to the backbone's own outputs; `UNIFORM` needs no model.
    """

    UNIFORM = 0
    GENERIC = 1
    MASKED = 2
    TEXT_CONDITIONED = 3
    ADAPTED = 4


@dataclass(frozen=True)
class PartSpec:
    """One cell entry of Table I.

    Args:
        part: which part of the message.
        subset: for `Part.IMAGE`, which positions are sent.
        scenarios: for `Part.IMAGE`, the models that the sender may choose from, the paper's first.
        search: whether the sender tries all of them unless told otherwise. Each costs an encoder's
            pass; see `shared_protocol/notes/exactness.md` for where that pays.
    """

    part: Part
    subset: Subset = Subset.ALL
    scenarios: tuple[Scenario, ...] = ()
    search: bool = False


_TEXT = PartSpec(Part.TEXT)
_MASK = PartSpec(Part.MASK)

_TEXT_FIRST = (Scenario.TEXT_CONDITIONED, Scenario.ADAPTED, Scenario.GENERIC)
_ADAPTED_FIRST = (Scenario.ADAPTED, Scenario.TEXT_CONDITIONED, Scenario.GENERIC)
_MASKED_FIRST = (Scenario.MASKED, Scenario.TEXT_CONDITIONED, Scenario.GENERIC)
_GENERIC_ONLY = (Scenario.GENERIC,)

TABLE: dict[tuple[Task, Direction], tuple[PartSpec, ...]] = {
    (Task.T2I, Direction.UPLINK): (_TEXT,),
    (Task.T2I, Direction.DOWNLINK): (PartSpec(Part.IMAGE, Subset.ALL, _ADAPTED_FIRST),),
    (Task.INPAINT, Direction.UPLINK): (
        _TEXT,
        _MASK,
        PartSpec(Part.IMAGE, Subset.OUTSIDE_MASK, _MASKED_FIRST, search=True),
    ),
    (Task.INPAINT, Direction.DOWNLINK): (PartSpec(Part.IMAGE, Subset.INSIDE_MASK, _ADAPTED_FIRST),),
    (Task.OUTPAINT, Direction.UPLINK): (
        _TEXT,
        PartSpec(Part.IMAGE, Subset.ALL, _TEXT_FIRST, search=True),
    ),
    (Task.OUTPAINT, Direction.DOWNLINK): (
        PartSpec(Part.IMAGE, Subset.EXTRAPOLATED, _ADAPTED_FIRST),
    ),
    (Task.VQA, Direction.UPLINK): (_TEXT, PartSpec(Part.IMAGE, Subset.ALL, _GENERIC_ONLY)),
    (Task.VQA, Direction.DOWNLINK): (_TEXT,),
    (Task.STORE, Direction.UPLINK): (PartSpec(Part.IMAGE, Subset.ALL, _GENERIC_ONLY),),
}
"""(task, direction) -> parts in wire order."""


@dataclass(frozen=True)
class Extension:
    """How many token columns or rows an outpainting adds on each side.

    Raises:
        InvalidInputError: a negative side, or nothing to add.
    """

    left: int = 0
    right: int = 0
    up: int = 0
    down: int = 0

    def __post_init__(self) -> None:
        sides = self.sides
        if any(not 0 <= side <= MAX_GRID for side in sides) or not any(sides):
            raise InvalidInputError(
                f"cannot extend by {sides} (left, right, up, down)",
                f"each side is 0..{MAX_GRID} tokens and at least one is not 0",
            )

    @property
    def sides(self) -> tuple[int, int, int, int]:
        """(left, right, up, down)."""
        return self.left, self.right, self.up, self.down

    def canvas(self, height: int, width: int) -> tuple[int, int]:
        """(H', W') of the extended grid."""
        return height + self.up + self.down, width + self.left + self.right

    def new_positions(self, height: int, width: int) -> Flags:
        """(H', W') bool, True where the extended grid has tokens that the (H, W) grid has not."""
        flags = np.ones(self.canvas(height, width), dtype=bool)
        flags[self.up : self.up + height, self.left : self.left + width] = False
        return flags

    def place(self, codes: Codes, fill: int = 0) -> Codes:
        """The (H, W) codes inside an (H', W') grid of `fill`."""
        canvas = np.full(self.canvas(*codes.shape), fill, dtype=np.int32)
        height, width = codes.shape
        canvas[self.up : self.up + height, self.left : self.left + width] = codes
        return canvas


def merge(known: Codes, targets: Flags, received: Codes) -> Codes:
    """Put `received` codes (M,) at the M True positions of `targets`, keep `known` elsewhere.

    Args:
        known: (H, W) codes; what stands under `targets` is ignored.
        targets: (H, W) bool with M True positions, filled in raster order.
        received: (M,) codes.

    Returns:
        (H, W) int32.
    """
    merged = np.array(known, dtype=np.int32)
    merged[targets] = received
    return merged
