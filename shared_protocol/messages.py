"""What the ends say to each other, as values: requests, responses and their options.

It does not know bytes; `codec` turns these values into messages and back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from shared_protocol.errors import InvalidInputError, MaskError
from shared_protocol.labels import MAX_TOP, USUAL_TOP, LabelSet, LabelWish, Ranking
from shared_protocol.tasks import (
    TABLE,
    Direction,
    Extension,
    Part,
    Row,
    Scenario,
    Task,
    positions,
)
from shared_protocol.tokens import Codes, Flags, ImageTokens, TextTokens, TokenMask

OnStep = Callable[[int, int], None]
"""Called with (finished steps, all steps) while the cloud works."""

MAX_STEPS = 100
MAX_NEW_TOKENS = 512
MAX_MENDS = 8
MAX_GUIDANCE = 25.0
GUIDANCE_UNIT = 0.05
"""Guidance travels as a multiple of this."""


@dataclass(frozen=True)
class Options:
    """What a user may tune; a default costs no byte.

    Args:
        steps: masked decoding steps, 1..MAX_STEPS; None = the bundle's default.
        guidance: classifier-free guidance scale g of (1+g)c - g*u, 0..MAX_GUIDANCE, rounded to
            GUIDANCE_UNIT; None = the bundle's default.
        seed: 0..2^32-1; equal seeds give equal results.
        max_new_tokens: longest answer in tokens, 1..MAX_NEW_TOKENS; None = the bundle's default.
        reply: the scenario that the reply's image tokens must use; None = the sender chooses.
        mend: how often a picture that does not show what was asked is mended, 0..MAX_MENDS; None =
            as the server does.
        top: how many labels are named at most, 1..MAX_TOP.
        names: whether the reply says the names of its labels, as the sender lacks them.

    Raises:
        InvalidInputError: a value outside its range.
    """

    steps: int | None = None
    guidance: float | None = None
    seed: int = 0
    max_new_tokens: int | None = None
    reply: Scenario | None = None
    mend: int | None = None
    top: int = USUAL_TOP
    names: bool = False

    def __post_init__(self) -> None:
        _check("mend", self.mend, 0, MAX_MENDS)
        _check("top", self.top, 1, MAX_TOP)
        _check("steps", self.steps, 1, MAX_STEPS)
        _check("guidance", self.guidance, 0.0, MAX_GUIDANCE)
        _check("seed", self.seed, 0, 2**32 - 1)
        _check("max_new_tokens", self.max_new_tokens, 1, MAX_NEW_TOKENS)
        if self.guidance is not None:
            units = round(self.guidance / GUIDANCE_UNIT)
            object.__setattr__(self, "guidance", round(units * GUIDANCE_UNIT, 6))


def _check(name: str, value: float | None, low: float, high: float) -> None:
    if value is not None and not low <= value <= high:
        raise InvalidInputError(f"{name} is {value}", f"use {low}..{high}")


@dataclass(frozen=True)
class Claims:
    """What a request says of its own size, before anything that it holds is decoded.

    Args:
        task: what it asks for.
        grid: (H, W) of its picture in tokens, or of the bundle's own.
        canvas: (H, W) of the picture that is worked on, extension included.
        options: as given.
    """

    task: Task
    grid: tuple[int, int]
    canvas: tuple[int, int]
    options: Options


Admit = Callable[[Claims], None]
"""Raises `InvalidInputError` for what a receiver will not do; called before symbols are decoded."""


@dataclass(frozen=True)
class Request:
    """What an edge asks: one task with everything that Table I sends up.

    Args:
        task: a row of Table I.
        text: prompt or question, without special tokens.
        image: the source image, where the task needs one; what stands under a mask is not part of
            the message and reads as code 0 at the receiver.
        mask: where the task needs one.
        extension: where the task needs one.
        options: see `Options`.
        dropped: tokens of the image that are not sent, to save bytes; the receiver reads them as
            code 0, fills them in for its own use, and does not send them back. None = all are sent.
        negative: what the picture is not to show, without special tokens: the prompt of the pass
            that guidance leads away from. None = the empty prompt.
        held: the labels whose names the sender has. It does not travel: a reply without names is
            read by it.

    Raises:
        InvalidInputError: a part is missing or superfluous for the task.
        MaskError: the mask's grid is not the image's, or it selects nothing; so for `dropped`,
            which may neither overlap the mask nor, with it, leave nothing to send.
    """

    task: Task
    text: TextTokens
    image: ImageTokens | None = None
    mask: TokenMask | None = None
    extension: Extension | None = None
    options: Options = field(default_factory=Options)
    dropped: TokenMask | None = None
    negative: TextTokens | None = None
    held: LabelSet | None = None

    def __post_init__(self) -> None:
        if self.negative is not None:
            _check_negative(self.row, self.negative, self.options)
        _check_labels(self)
        for name, needed in (
            ("image", self.row.needs_image),
            ("mask", self.row.needs_mask),
            ("extension", self.row.needs_extension),
        ):
            if (getattr(self, name) is not None) != needed:
                verb = "needs" if needed else "takes no"
                raise InvalidInputError(f"{self.task.slug} {verb} {name}")
        if self.image is not None and self.mask is not None:
            _check_mask(self.image, self.mask)
        if self.dropped is not None:
            _check_dropped(self.image, self.mask, self.dropped)

    @property
    def row(self) -> Row:
        """The row of Table I that it follows."""
        return TABLE[self.task]

    @property
    def label_wish(self) -> LabelWish:
        """What both ends know of the labels that answer it."""
        return LabelWish(self.options.top, self.options.names, self.held)

    @property
    def left_out(self) -> Flags | None:
        """(H, W) bool, True where the image's token does not travel; None if all of them do."""
        masks = [mask.flags for mask in (self.mask, self.dropped) if mask is not None]
        return np.logical_or.reduce(masks) if masks else None

    def gaps(self, grid: tuple[int, int]) -> Flags:
        """(H', W') bool on the grid of `known`, True where tokens were dropped.

        There the sender has a token, the receiver fills in one of its own, and neither travels.
        """
        if self.dropped is None or self.image is None:
            return np.zeros(self.known(grid)[1].shape, dtype=bool)
        if self.extension is None:
            return self.dropped.flags
        return self.extension.place(self.dropped.flags.astype(np.int32)).astype(bool)

    def known(self, grid: tuple[int, int]) -> tuple[Codes, Flags]:
        """What both ends know of the result once the request has arrived.

        Args:
            grid: (H, W) of the bundle's native image, used for T2I.

        Returns:
            codes (H, W) int32, 0 where unknown, and targets (H, W) bool, True where the reply
            must fill in: everything for T2I, inside the mask for INPAINT, the new border for
            OUTPAINT, nothing where no picture is made. Where tokens were dropped (`gaps`) the
            sender reads its own code, the receiver 0.
        """
        grid = grid if self.image is None else self.image.shape
        spec = self.row.image(Direction.DOWNLINK)
        mask = None if self.mask is None else self.mask.flags
        if spec is None:
            targets = np.zeros(grid, dtype=bool)
        else:
            targets = positions(spec.subset, grid, mask, self.extension)
        codes = np.zeros(grid, dtype=np.int32) if self.image is None else self.image.codes
        if self.extension is not None:
            codes = self.extension.place(codes)
        return np.where(targets, 0, codes), targets


def _check_labels(request: Request) -> None:
    row, options = request.row, request.options
    if not row.answers_in_labels and (options.top != USUAL_TOP or options.names or request.held):
        raise InvalidInputError(
            f"{request.task.slug} names no labels", "leave out `top`, `names` and `held`"
        )
    if not row.needs_text and len(request.text):
        raise InvalidInputError(f"{request.task.slug} takes no text", "leave it out")


def _check_negative(row: Row, negative: TextTokens, options: Options) -> None:
    if not row.makes_picture:
        raise InvalidInputError(
            "a question takes no negative prompt", "it steers pictures only: leave it out"
        )
    if not len(negative):
        raise InvalidInputError("the negative prompt is empty", "leave it out instead")
    if options.guidance == 0:
        raise InvalidInputError(
            "a negative prompt works through guidance, and guidance is 0",
            "leave guidance out, or set it above 0",
        )


def _check_mask(image: ImageTokens, mask: TokenMask) -> None:
    if image.shape != mask.shape:
        raise MaskError(
            f"the mask is {mask.shape[0]}x{mask.shape[1]} tokens, "
            f"the image {image.shape[0]}x{image.shape[1]}"
        )
    if mask.count == 0:
        raise MaskError("the mask selects nothing to regenerate", "paint some of it white")


def _check_dropped(image: ImageTokens | None, mask: TokenMask | None, dropped: TokenMask) -> None:
    if image is None:
        raise InvalidInputError("there is no image to drop tokens of", "send one, or drop none")
    if image.shape != dropped.shape:
        raise MaskError(
            f"the dropped tokens are marked on {dropped.shape[0]}x{dropped.shape[1]}, "
            f"the image is {image.shape[0]}x{image.shape[1]}"
        )
    overlap = 0 if mask is None else int((mask.flags & dropped.flags).sum())
    if overlap:
        raise MaskError(f"{overlap} dropped tokens are under the mask", "mark them once")
    if dropped.count == 0:
        raise MaskError("no token is dropped", "leave `dropped` out")
    if dropped.count + (0 if mask is None else mask.count) == dropped.flags.size:
        raise MaskError("every token would be dropped", "keep at least one")


@dataclass(frozen=True)
class Response:
    """What the cloud answers.

    Args:
        task: that of the request.
        image: where Table I sends one down: the whole merged grid (only the new tokens travel).
        text: where it sends words: the answer, without special tokens.
        labels: where it sends labels: the likeliest.
    """

    task: Task
    image: ImageTokens | None = None
    text: TextTokens | None = None
    labels: Ranking | None = None

    def __post_init__(self) -> None:
        given = {part for part in _ANSWERS if getattr(self, part.slug) is not None}
        wanted = {spec.part for spec in TABLE[self.task].downlink}
        if given != wanted:
            names = " and ".join(_ANSWERS[part] for part in wanted)
            raise InvalidInputError(f"a response to {self.task.slug} holds {names} only")


_ANSWERS = {Part.IMAGE: "an image", Part.TEXT: "text", Part.LABELS: "labels"}
