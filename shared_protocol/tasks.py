"""Table I of the paper as data: which tokens go up and down for each task, and by which coder.

It does not know how a part is coded, only which parts there are and what merges into what. A new
task is one row of `TABLE`; every list of tasks and every rule about what a task needs follows.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Self

import numpy as np

from shared_protocol.errors import InvalidInputError
from shared_protocol.tokens import MAX_GRID, Codes, Flags


class Named(IntEnum):
    """Numbers that are fixed on the wire, with a name for people."""

    @property
    def slug(self) -> str:
        """The name in paths, commands, logs and files.

        >>> Task.T2I.slug
        't2i'
        """
        return self.name.lower()

    @classmethod
    def named(cls, slug: str) -> Self:
        """The mirror of `slug`; raises KeyError for a name that there is not.

        >>> Task.named("vqa").name
        'VQA'
        """
        return cls[slug.upper()]


class Task(Named):
    """What is asked of the cloud; the numbers are fixed on the wire."""

    T2I = 0
    INPAINT = 1
    OUTPAINT = 2
    VQA = 3
    CLASSIFY = 4
    # 7 was a stored image in version 1 and is not used again.


class Direction(Named):
    """Which way a message travels; the numbers are fixed on the wire."""

    UPLINK = 0
    DOWNLINK = 1


class Part(Named):
    """The coded parts of a message, in the order in which they stand."""

    TEXT = 0
    MASK = 1
    DROPPED = 2
    """Tokens of the image that the sender leaves out to save bytes."""
    IMAGE = 3
    LABELS = 4
    """What the picture shows, as numbers of names, each with its probability."""


class Subset(IntEnum):
    """Which positions of the image grid a message is about."""

    ALL = 0
    OUTSIDE_MASK = 1
    INSIDE_MASK = 2
    EXTRAPOLATED = 3


class Scenario(Named):
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
    """One entry of a cell of Table I.

    Args:
        part: which part of the message.
        subset: for `Part.IMAGE`, which positions are sent.
        scenarios: for `Part.IMAGE`, the models that the sender may choose from, the paper's first.
        search: whether the sender tries all of them unless told otherwise. Each costs an encoder's
            pass; see `shared_protocol/notes/exactness.md` for where that pays.
        optional: whether a message may come without it; a bit of the header says so.
    """

    part: Part
    subset: Subset = Subset.ALL
    scenarios: tuple[Scenario, ...] = ()
    search: bool = False
    optional: bool = False


@dataclass(frozen=True)
class Row:
    """One row of Table I: a task, as both ends must know it.

    Args:
        purpose: what the task does, as help and documentation say it.
        uplink, downlink: the parts of its two messages, in wire order.
        text_name: what its text is called.
        text_required: whether an empty text makes no sense.
    """

    purpose: str
    uplink: tuple[PartSpec, ...]
    downlink: tuple[PartSpec, ...]
    text_name: str = "prompt"
    text_required: bool = False

    def parts(self, direction: Direction) -> tuple[PartSpec, ...]:
        """The parts of the message that goes this way."""
        return self.uplink if direction is Direction.UPLINK else self.downlink

    def image(self, direction: Direction) -> PartSpec | None:
        """The image part of the message that goes this way, if it has one."""
        return next((s for s in self.parts(direction) if s.part is Part.IMAGE), None)

    def scenarios(self, direction: Direction) -> tuple[Scenario, ...]:
        """The models that the image part of that message may use; none without one."""
        spec = self.image(direction)
        return () if spec is None else spec.scenarios

    @property
    def needs_image(self) -> bool:
        """Whether a request brings a picture."""
        return self.image(Direction.UPLINK) is not None

    @property
    def needs_mask(self) -> bool:
        """Whether a request says which tokens are to be regenerated."""
        return any(spec.part is Part.MASK for spec in self.uplink)

    @property
    def needs_extension(self) -> bool:
        """Whether a request says by how much the picture grows."""
        spec = self.image(Direction.DOWNLINK)
        return spec is not None and spec.subset is Subset.EXTRAPOLATED

    @property
    def needs_text(self) -> bool:
        """Whether a request has a place for words, which may be empty."""
        return any(spec.part is Part.TEXT for spec in self.uplink)

    @property
    def makes_picture(self) -> bool:
        """Whether the response is a picture."""
        return self.image(Direction.DOWNLINK) is not None

    @property
    def answers_in_words(self) -> bool:
        """Whether the response is text and no picture."""
        return any(spec.part is Part.TEXT for spec in self.downlink)

    @property
    def answers_in_labels(self) -> bool:
        """Whether the response is a row of labels."""
        return any(spec.part is Part.LABELS for spec in self.downlink)


_TEXT = PartSpec(Part.TEXT)
_MASK = PartSpec(Part.MASK)
_DROPPED = PartSpec(Part.DROPPED, optional=True)

_TEXT_FIRST = (Scenario.TEXT_CONDITIONED, Scenario.ADAPTED, Scenario.GENERIC)
_ADAPTED_FIRST = (Scenario.ADAPTED, Scenario.TEXT_CONDITIONED, Scenario.GENERIC)
_MASKED_FIRST = (Scenario.MASKED, Scenario.TEXT_CONDITIONED, Scenario.GENERIC)
_GENERIC_ONLY = (Scenario.GENERIC,)

TABLE: dict[Task, Row] = {
    Task.T2I: Row(
        purpose="Make a picture from a prompt",
        uplink=(_TEXT,),
        downlink=(PartSpec(Part.IMAGE, Subset.ALL, _ADAPTED_FIRST),),
        text_required=True,
    ),
    Task.INPAINT: Row(
        purpose="Regenerate the masked part of a picture",
        uplink=(
            _TEXT,
            _MASK,
            _DROPPED,
            PartSpec(Part.IMAGE, Subset.OUTSIDE_MASK, _MASKED_FIRST, search=True),
        ),
        downlink=(PartSpec(Part.IMAGE, Subset.INSIDE_MASK, _ADAPTED_FIRST, search=True),),
    ),
    Task.OUTPAINT: Row(
        purpose="Continue a picture beyond its edges",
        uplink=(_TEXT, _DROPPED, PartSpec(Part.IMAGE, Subset.ALL, _TEXT_FIRST, search=True)),
        downlink=(PartSpec(Part.IMAGE, Subset.EXTRAPOLATED, _ADAPTED_FIRST, search=True),),
    ),
    Task.VQA: Row(
        purpose="Answer a question about a picture",
        uplink=(_TEXT, _DROPPED, PartSpec(Part.IMAGE, Subset.ALL, _GENERIC_ONLY)),
        downlink=(_TEXT,),
        text_name="question",
        text_required=True,
    ),
    Task.CLASSIFY: Row(
        purpose="Name what a picture shows",
        uplink=(_DROPPED, PartSpec(Part.IMAGE, Subset.ALL, _GENERIC_ONLY)),
        downlink=(PartSpec(Part.LABELS),),
    ),
}
"""Table I, with both messages of a task in one row."""


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
                f"each side is 0..{MAX_GRID} tokens, of 16 pixels with the usual tokenizer, and at "
                "least one is not 0",
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


def positions(
    subset: Subset, grid: tuple[int, int], mask: Flags | None, extension: Extension | None
) -> Flags:
    """Where on the grid the tokens of `subset` are.

    Args:
        subset: from Table I.
        grid: (H, W) of the picture that was sent, or of the one that is to be made.
        mask: (H, W) bool, for the two subsets that need it.
        extension: for `Subset.EXTRAPOLATED`.

    Returns:
        (H, W) bool; (H', W') of the extended grid for `Subset.EXTRAPOLATED`.
    """
    if subset is Subset.EXTRAPOLATED:
        assert extension is not None, "Table I pairs this subset with an extension"
        return extension.new_positions(*grid)
    if subset is Subset.ALL:
        return np.ones(grid, dtype=bool)
    assert mask is not None, "Table I pairs this subset with a mask"
    return mask if subset is Subset.INSIDE_MASK else ~mask


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
