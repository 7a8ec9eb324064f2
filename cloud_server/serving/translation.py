"""From a protocol request to an engine request, and from an engine result back to a response.

It knows neither bytes nor HTTP, and no layout of ids but that answers may hold text ids only.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cloud_server.generation.work import (
    FILL_STEPS,
    AnswerResult,
    AnswerWork,
    ClassifyWork,
    LabelsResult,
    PictureKind,
    PictureWork,
    Result,
    Watch,
    Work,
)
from cloud_server.settings import Settings
from shared_protocol.errors import InternalError, InvalidInputError, PromptError
from shared_protocol.http.contract import task_path
from shared_protocol.labels import LabelSet
from shared_protocol.message.codec import CodecBundle
from shared_protocol.messages import Claims, Request, Response
from shared_protocol.tasks import TABLE, Task
from shared_protocol.tokens import ImageTokens, TextTokens


class Defaults(Protocol):
    """What an option means when a message leaves it out."""

    @property
    def steps(self) -> int: ...

    @property
    def guidance(self) -> float: ...

    @property
    def max_new_tokens(self) -> int: ...


class ServedBundle(CodecBundle, Protocol):
    """What serving needs of a bundle."""

    @property
    def name(self) -> str: ...

    @property
    def eot_id(self) -> int: ...

    @property
    def defaults(self) -> Defaults: ...


def check_claims(
    claims: Claims, task: Task | None, bundle: ServedBundle, settings: Settings
) -> None:
    """Refuse what can be refused before a request is decoded.

    Args:
        claims: what the request says of itself.
        task: the task that it was sent for; None = any.
        bundle: decides the native grid.
        settings: decide steps, answer length and grid.

    Raises:
        InvalidInputError: another task, too many steps or tokens, or a grid that does not fit.
    """
    if task is not None and claims.task is not task:
        raise InvalidInputError(
            f"the message asks for {claims.task.slug}",
            f"send it to {task_path(claims.task)}, not to {task_path(task)}",
        )
    _check_grid(claims, bundle, settings)
    options = claims.options
    _check_at_most("steps", options.steps or bundle.defaults.steps, settings.max_steps)
    longest = options.max_new_tokens or bundle.defaults.max_new_tokens
    _check_at_most("max_new_tokens", longest, settings.max_new_tokens)


def check_labelled(task: Task, labels: LabelSet | None) -> None:
    """Refuse to classify where nothing classifies.

    Args:
        task: what is asked for.
        labels: those that the server's neck tells apart; None = it has no such neck.

    Raises:
        InvalidInputError: the task names labels, and there are none.
    """
    if labels is None and TABLE[task].answers_in_labels:
        raise InvalidInputError(
            "this server holds no neck with labels for its bundle, so that it cannot classify",
            "ask another, or have it started with --neck FILE ('cloud-server train neck')",
        )


def check_request(
    request: Request,
    task: Task | None,
    bundle: ServedBundle,
    settings: Settings,
) -> None:
    """Refuse what the model cannot do or the server will not do.

    Args:
        request: a decoded request.
        task: the task that it was sent for.
        bundle: decides the longest text and the native grid.
        settings: decide steps, answer length and grid.

    Raises:
        InvalidInputError: see `check_claims`.
        PromptError: the text is too long, or empty where the task needs one.
    """
    canvas = canvas_of(request, bundle)
    grid = bundle.grid if request.image is None else request.image.shape
    check_claims(Claims(request.task, grid, canvas, request.options), task, bundle, settings)
    _check_text(request, bundle)


def _check_text(request: Request, bundle: ServedBundle) -> None:
    row = request.row
    if len(request.text) == 0 and row.text_required:
        raise PromptError(f"{request.task.slug} needs a {row.text_name}, this one is empty")
    if len(request.text) > bundle.max_text_tokens:
        raise PromptError(
            f"the text has {len(request.text)} tokens",
            f"this model takes at most {bundle.max_text_tokens}",
        )


def _check_grid(claims: Claims, bundle: ServedBundle, settings: Settings) -> None:
    height, width = claims.canvas
    if max(height, width) > settings.max_grid:
        raise InvalidInputError(
            f"the picture would be {height}x{width} tokens",
            f"this server makes at most {settings.max_grid} a side; a token is 16 pixels with the "
            "usual tokenizer",
        )
    row = TABLE[claims.task]
    if not row.makes_picture and (height, width) != tuple(bundle.grid):
        what = "a question" if row.answers_in_words else claims.task.slug
        raise InvalidInputError(
            f"{what} came with a picture of {height}x{width} tokens",
            f"this model reads {bundle.grid[0]}x{bundle.grid[1]}",
        )


def _check_at_most(name: str, value: int, limit: int) -> None:
    if value > limit:
        raise InvalidInputError(f"{name} is {value}", f"this server allows at most {limit}")


def canvas_of(request: Request, bundle: ServedBundle) -> tuple[int, int]:
    """(H, W) of the picture that `request` works on, in tokens, extension included."""
    if request.image is None:
        return bundle.grid
    if request.extension is None:
        return request.image.shape
    return request.extension.canvas(*request.image.shape)


def steps_of(request: Request, bundle: ServedBundle) -> int:
    """Masked decoding steps, the default filled in."""
    return request.options.steps or bundle.defaults.steps


def _answer_length(request: Request, bundle: ServedBundle) -> int:
    return request.options.max_new_tokens or bundle.defaults.max_new_tokens


def expected_steps(request: Request, bundle: ServedBundle) -> int:
    """How many steps of progress to expect before the engine has said so."""
    if request.row.answers_in_labels:
        return 1 if request.dropped is None else FILL_STEPS + 1
    return (_answer_length if request.row.answers_in_words else steps_of)(request, bundle)


def batch_key(request: Request, bundle: ServedBundle) -> Hashable:
    """Requests with equal keys may share a batch."""
    source = request.image.shape if request.image else None
    steps = steps_of(request, bundle) if request.row.makes_picture else None
    return request.task, steps, source, request.extension, request.dropped is not None


def to_work(request: Request, bundle: ServedBundle, watch: Watch | None = None) -> Work:
    """The engine's work that `request` asks for, defaults filled in; `watch` sees a picture grow.

    Tokens that the edge dropped are generated together with those that it masked, and before a
    question is answered or a picture is classified.
    """
    text_ids = request.text.ids.astype(np.int64)
    options = request.options
    if not request.row.makes_picture:
        return _looking(request, text_ids, bundle)
    default = bundle.defaults.guidance
    return PictureWork(
        kind_of(request),
        text_ids,
        codes=None if request.image is None else request.image.codes.astype(np.int64),
        mask=request.left_out,
        extension=request.extension,
        grid=bundle.grid if request.image is None else None,
        steps=steps_of(request, bundle),
        guidance=default if options.guidance is None else options.guidance,
        seed=options.seed,
        negative_ids=None if request.negative is None else request.negative.ids.astype(np.int64),
        watch=watch,
        mend=options.mend,
    )


def _looking(request: Request, text_ids: NDArray[np.int64], bundle: ServedBundle) -> Work:
    """The work of a request that is about a picture and makes none."""
    assert request.image is not None, "Request checks its parts"
    codes, seed = request.image.codes.astype(np.int64), request.options.seed
    missing = None if request.dropped is None else request.dropped.flags
    if request.row.answers_in_labels:
        return ClassifyWork(codes, request.options.top, seed, missing)
    longest = _answer_length(request, bundle)
    return AnswerWork(text_ids, codes, max_new_tokens=longest, seed=seed, missing=missing)


def kind_of(request: Request) -> PictureKind:
    """What the engine calls the making of a picture that `request` asks for."""
    if request.image is None:
        return "t2i"
    return "inpaint" if request.extension is None else "outpaint"


def to_response(request: Request, result: Result, bundle: ServedBundle) -> Response:
    """The response that carries `result`.

    Raises:
        InternalError: the engine answered with something else than was asked for.
    """
    vocabulary = bundle.vocabulary
    if isinstance(result, AnswerResult):
        ids = _plain_text(result.text_ids, bundle).astype(np.int32)
        return Response(request.task, text=TextTokens(ids, vocabulary.text_size))
    if isinstance(result, LabelsResult):
        return Response(request.task, labels=result.ranking)
    if result.codes.shape != canvas_of(request, bundle):
        raise InternalError(f"the engine made a grid of {result.codes.shape}")
    codes = result.codes.astype(np.int32)
    return Response(request.task, image=ImageTokens(codes, vocabulary.codebook_size))


def _plain_text(ids: NDArray[np.int64], bundle: ServedBundle) -> NDArray[np.int64]:
    """`ids` up to the end of the text, without ids that are no text."""
    ends = np.flatnonzero(ids == bundle.eot_id)
    kept = ids[: ends[0]] if ends.size else ids
    return kept[(kept >= 0) & (kept < bundle.vocabulary.text_size)]


def tokens_up(request: Request) -> int:
    """Text and image tokens that came with `request`."""
    image = 0 if request.image is None else request.image.codes.size
    left_out = 0 if request.left_out is None else int(request.left_out.sum())
    return len(request.text) + image - left_out


def tokens_down(request: Request, response: Response) -> int:
    """Text or image tokens, or labels, that `response` sends; known ones stay at home."""
    if response.text is not None:
        return len(response.text)
    if response.labels is not None:
        return len(response.labels.numbers)
    assert response.image is not None, "Response checks its parts"
    if request.mask is not None:
        return request.mask.count
    source = request.image.codes.size if request.image else 0
    return int(response.image.codes.size) - source
