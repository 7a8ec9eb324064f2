"""What an engine is asked for and what it gives back, in token ids.

It does not know how either is computed, nor messages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from shared_protocol.errors import InvalidInputError, MaskError
from shared_protocol.labels import Ranking
from shared_protocol.tasks import Extension

AnyIntegers = NDArray[np.integer[Any]]
PictureKind = Literal["t2i", "inpaint", "outpaint"]


FILL_STEPS = 8
"""Steps that fill the gaps of a picture before it is looked at."""

Watch = Callable[[NDArray[np.int64]], None]
"""Told the codes of a picture while it is made; what is not fixed yet may still change."""


OnPhase = Callable[[str], None]
_ON_PHASE: ContextVar[OnPhase | None] = ContextVar("on_phase", default=None)


@contextmanager
def phases_told(on_phase: OnPhase | None) -> Iterator[None]:
    """Have `on_phase` told what this thread begins to do within the block; None = nobody."""
    if on_phase is None:
        yield
        return
    before = _ON_PHASE.set(on_phase)
    try:
        yield
    finally:
        _ON_PHASE.reset(before)


def begin(phase: str) -> None:
    """Say what begins now: prompt, generate, mend or settle; what was begun before has ended."""
    told = _ON_PHASE.get()
    if told is not None:
        told(phase)


@dataclass(frozen=True, eq=False)
class PictureWork:
    """Make or complete a picture.

    Attributes:
        kind: "t2i" (no codes), "inpaint" (codes and mask) or "outpaint" (codes and extension,
            a mask is allowed too).
        text_ids: (N,) prompt ids of the text tokenizer, without special ids; may be empty.
        codes: (H, W) codebook indices of the known picture.
        mask: (H, W) bool, True = generate this cell.
        extension: rows and columns to add.
        grid: (H, W) of a t2i picture; None means the backbone's native grid.
        steps: masked-decoding steps per window, at least 1.
        guidance: classifier-free guidance; 0 is off; logits are (1+g) cond - g uncond.
        temperature: of the noise on the order in which cells are fixed.
        seed: of this request's own random generator.
        negative_ids: (N,) prompt ids of the pass that guidance leads away from; None = empty.
        watch: told, after each step, the (H, W) codes as they are then, -1 where there are none.
        mend: how often the result is mended at most; None = as the engine does.
    """

    kind: PictureKind
    text_ids: AnyIntegers
    codes: AnyIntegers | None = None
    mask: NDArray[np.bool_] | None = None
    extension: Extension | None = None
    grid: tuple[int, int] | None = None
    steps: int = 18
    guidance: float = 3.0
    temperature: float = 1.0
    seed: int = 0
    negative_ids: AnyIntegers | None = None
    watch: Watch | None = None
    mend: int | None = None

    def __post_init__(self) -> None:
        _check_text_ids(self.text_ids)
        if self.negative_ids is not None:
            _check_text_ids(self.negative_ids)
        if self.steps < 1:
            raise InvalidInputError(f"steps must be at least 1, got {self.steps}")
        if self.guidance < 0 or self.temperature < 0:
            raise InvalidInputError("guidance and temperature must not be negative")
        _check_inputs_of_kind(self)


@dataclass(frozen=True, eq=False)
class AnswerWork:
    """Answer a question about a picture.

    Attributes:
        text_ids: (N,) question ids of the text tokenizer, without frame and special ids.
        codes: (H, W) codebook indices, the backbone's native grid.
        max_new_tokens: upper limit on the answer's length.
        temperature: 0 is greedy.
        top_k: sample among the k most likely ids only; None = all.
        seed: of this request's own random generator (unused when greedy).
        missing: (H, W) bool, True where the picture's code is not known and is made up before the
            question is answered; None = all codes are known.
    """

    text_ids: AnyIntegers
    codes: AnyIntegers
    max_new_tokens: int = 64
    temperature: float = 0.0
    top_k: int | None = None
    seed: int = 0
    missing: NDArray[np.bool_] | None = None
    kind: Literal["vqa"] = "vqa"

    def __post_init__(self) -> None:
        _check_text_ids(self.text_ids)
        if self.codes.ndim != 2:
            raise InvalidInputError(f"codes must be (H, W), got shape {self.codes.shape}")
        if self.max_new_tokens < 1:
            raise InvalidInputError(f"max_new_tokens must be at least 1, got {self.max_new_tokens}")


@dataclass(frozen=True, eq=False)
class ClassifyWork:
    """Name what a picture shows.

    Attributes:
        codes: (H, W) codebook indices, the neck's grid.
        top: how many labels at most.
        seed: of what fills the gaps.
        missing: see `AnswerWork`.
    """

    codes: AnyIntegers
    top: int
    seed: int = 0
    missing: NDArray[np.bool_] | None = None
    kind: Literal["classify"] = "classify"

    def __post_init__(self) -> None:
        if self.codes.ndim != 2:
            raise InvalidInputError(f"codes must be (H, W), got shape {self.codes.shape}")
        if self.top < 1:
            raise InvalidInputError(f"top must be at least 1, got {self.top}")


@dataclass(frozen=True, eq=False)
class PictureResult:
    """The whole picture, known cells included: (H, W) codebook indices, int64."""

    codes: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class AnswerResult:
    """The answer's text ids (N,), int64, without the final eot; `finished` if eot was reached."""

    text_ids: NDArray[np.int64]
    finished: bool


@dataclass(frozen=True)
class LabelsResult:
    """The likeliest labels, with their names."""

    ranking: Ranking


Work = PictureWork | AnswerWork | ClassifyWork
Result = PictureResult | AnswerResult | LabelsResult


def filling(codes: AnyIntegers, missing: NDArray[np.bool_], seed: int) -> PictureWork:
    """Makes up what a picture lacks: nobody described it, so that nothing guides the filling."""
    return PictureWork(
        "inpaint",
        np.zeros(0, dtype=np.int64),
        codes=codes,
        mask=missing,
        steps=FILL_STEPS,
        guidance=0.0,
        seed=seed,
    )


def _check_text_ids(text_ids: AnyIntegers) -> None:
    if text_ids.ndim != 1:
        raise InvalidInputError(f"text_ids must be (N,), got shape {text_ids.shape}")


def _check_inputs_of_kind(request: PictureWork) -> None:
    if (request.kind == "t2i") != (request.codes is None):
        raise InvalidInputError(f"{request.kind}: t2i takes no codes, the other kinds need them")
    if request.codes is not None and request.codes.ndim != 2:
        raise InvalidInputError(f"codes must be (H, W), got shape {request.codes.shape}")
    if request.kind == "inpaint" and (request.mask is None or request.extension):
        raise InvalidInputError("inpaint needs a mask and no extension; use outpaint to extend")
    if request.kind == "outpaint" and not request.extension:
        raise InvalidInputError("outpaint needs an extension of at least one row or column")
    if request.mask is not None and (
        request.codes is None or request.mask.shape != request.codes.shape
    ):
        raise MaskError("mask and codes must have the same shape")
