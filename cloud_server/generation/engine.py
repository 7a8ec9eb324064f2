"""Runs generation and answering on token ids: request values in, result values out.

Does not know bytes, HTTP, pixels, text, or which host runs it; holds no global state.

::

    PictureWork ── canvas, windows ──► masked decoding ──► PictureResult (codes)
    AnswerWork ───── mmu prompt ────────► next-token decoding ──► AnswerResult (text ids)

A batch is a list. By default the requests of a batch pass through the network one by one, so that
a request's result never depends on its neighbours, to the last bit; `requests_per_forward` trades
that for throughput on accelerators (there a batched matrix product may differ in its last bits
from an unbatched one, which can flip a sampled token on rare occasions).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from cloud_server.generation.backbone.protocol import Backbone
from cloud_server.generation.image_logits import guided_image_logits
from cloud_server.generation.masked_decoding import (
    STANDARD,
    DecodingPolicy,
    NoiseSource,
    RowGenerators,
    decode_masked,
)
from cloud_server.generation.prompting import QuestionFrame
from cloud_server.generation.text_decoding import AnswerOptions, PictureReader, generate_text
from cloud_server.generation.windows import (
    UNKNOWN,
    IntGrid,
    Window,
    in_waves,
    pad_to_side,
    plan_windows,
)
from cloud_server.generation.work import (
    AnswerResult,
    AnswerWork,
    AnyIntegers,
    PictureResult,
    PictureWork,
    Result,
    Work,
)
from shared_protocol.errors import InvalidInputError, TokenRangeError
from shared_protocol.messages import OnStep
from shared_protocol.vocabulary import Vocabulary

FILL_STEPS = 8
"""Steps that fill the gaps of a picture before a question about it is answered."""
_SEED_STEP = 0x9E3779B9
"""Between the seeds of a request's windows; odd, so that 2**32 windows differ."""


@dataclass(frozen=True)
class EngineOptions:
    """What an engine must know about its model, and how it trades speed for exactness.

    Attributes:
        eot_id: text id that opens and closes texts (Show-o: sot = eot = bos = eos).
        frame: text ids around a question.
        side: native grid side W in tokens.
        max_text_len: length of the text block, without the task token.
        policy: order and annealing of masked decoding.
        min_known_share: least share of known cells per window when growing a picture.
        requests_per_forward: 1 = results never depend on the rest of the batch.
        windows_per_forward: most windows of one request that are filled together.
        kept_pictures: of how many pictures the network's reading is kept for further questions
            (3 MB each for the built-in transformer, 100 MB for Show-o's in float32).
    """

    eot_id: int
    frame: QuestionFrame
    side: int = 16
    max_text_len: int = 128
    policy: DecodingPolicy = STANDARD
    min_known_share: float = 0.5
    requests_per_forward: int = 1
    windows_per_forward: int = 4
    kept_pictures: int = 4


def seeded_noise(seeds: Sequence[int], device: torch.device | str = "cpu") -> NoiseSource:
    """One generator per request, so that its draws are its own; another device, other draws."""
    return RowGenerators([torch.Generator(device).manual_seed(seed) for seed in seeds])


def window_seed(seed: int, index: int) -> int:
    """The seed of a request's `index`-th window; the first one's is the request's own."""
    return (seed + index * _SEED_STEP) % (1 << 64)


class Engine:
    """Runs batches of requests on one backbone."""

    def __init__(
        self,
        backbone: Backbone,
        vocabulary: Vocabulary,
        options: EngineOptions,
        noise: Callable[[Sequence[int]], NoiseSource] | None = None,
    ) -> None:
        self._backbone = backbone
        self._vocabulary = vocabulary
        self._options = options
        self._noise = noise or partial(seeded_noise, device=backbone.device)
        self._pictures = PictureReader(backbone, vocabulary, options.kept_pictures)

    def run(self, requests: Sequence[Work], on_step: OnStep | None = None) -> list[Result]:
        """Run requests that share kind and steps; results come in the order of the requests.

        Args:
            requests: all of one kind; generation requests with equal `steps`.
            on_step: called after every step with (finished, all) of this batch.

        Raises:
            InvalidInputError: kinds or steps differ, or codes do not fit the model.
        """
        if not requests:
            return []
        _check_batch(requests)
        size = self._options.requests_per_forward
        chunks = [requests[start : start + size] for start in range(0, len(requests), size)]
        results: list[Result] = []
        for index, chunk in enumerate(chunks):
            results += self._run_chunk(chunk, _share_of(on_step, index, len(chunks)))
        return results

    def _run_chunk(self, chunk: Sequence[Work], on_step: OnStep) -> Sequence[Result]:
        generations = [request for request in chunk if isinstance(request, PictureWork)]
        if generations:
            return self._generate(generations, on_step)
        return self._answer([r for r in chunk if isinstance(r, AnswerWork)], on_step)

    def _generate(self, requests: Sequence[PictureWork], on_step: OnStep) -> list[PictureResult]:
        jobs = [self._job(request) for request in requests]
        passes = list(self._passes(jobs))
        for index, places in enumerate(passes):
            self._fill(places, _share_of(on_step, index, len(passes)))
        return [PictureResult(job.result()) for job in jobs]

    def _job(self, request: PictureWork) -> "_Job":
        side = self._options.side
        start = _start_codes(request, side)
        self._check_codes(start)
        canvas = pad_to_side(start, side)
        windows = plan_windows(canvas == UNKNOWN, side, self._options.min_known_share)
        waves = in_waves(windows, canvas == UNKNOWN)
        return _Job(request, canvas, windows, waves, start.shape)

    def _passes(self, jobs: Sequence["_Job"]) -> Iterator[list["_Place"]]:
        """The windows of all jobs, in groups that are filled together, in order."""
        size = max(self._options.requests_per_forward, self._options.windows_per_forward)
        for wave in range(max(len(job.waves) for job in jobs)):
            places = [
                _Place(job, index)
                for job in jobs
                if wave < len(job.waves)
                for index in job.waves[wave]
            ]
            yield from (places[start : start + size] for start in range(0, len(places), size))

    def _fill(self, places: Sequence["_Place"], on_step: OnStep) -> None:
        """Run masked decoding on some windows, in place."""
        requests = [place.job.request for place in places]
        codes = np.stack([place.codes.reshape(-1) for place in places])  # (B, N)
        logits = guided_image_logits(
            self._backbone,
            self._vocabulary,
            [request.text_ids.astype(np.int64) for request in requests],
            guidance=[request.guidance for request in requests],
            negatives=[_negative(request) for request in requests],
            eot_id=self._options.eot_id,
            max_text_len=self._options.max_text_len,
            tokens=codes.shape[1],
        )
        decoded = decode_masked(
            logits,
            torch.from_numpy(codes).to(self._backbone.device),
            steps=requests[0].steps,
            temperatures=[request.temperature for request in requests],
            policy=self._options.policy,
            noise=self._noise([place.seed for place in places]),
            on_step=on_step,
            on_codes=_watcher(places),
        )
        for place, row in zip(places, decoded.cpu().numpy(), strict=True):
            place.fill(row)

    def _answer(self, requests: Sequence[AnswerWork], on_step: OnStep) -> list[AnswerResult]:
        requests = self._without_gaps(requests, on_step)
        for request in requests:
            self._check_native(request.codes)
        answers = generate_text(
            self._pictures,
            self._backbone,
            self._vocabulary,
            codes=[request.codes.astype(np.int64) for request in requests],
            questions=[self._options.frame.wrap(r.text_ids.astype(np.int64)) for r in requests],
            options=[AnswerOptions(r.max_new_tokens, r.temperature, r.top_k) for r in requests],
            eot_id=self._options.eot_id,
            noise=self._noise([request.seed for request in requests]),
            on_step=on_step,
        )
        return [_answer_result(ids, self._options.eot_id) for ids in answers]

    def _without_gaps(
        self, requests: Sequence[AnswerWork], on_step: OnStep
    ) -> Sequence[AnswerWork]:
        """The requests with whole pictures: what is missing is filled in without a prompt.

        Nobody described the picture, so nothing guides the filling.
        """
        gappy = [request for request in requests if request.missing is not None]
        if not gappy:
            return requests
        no_words = np.zeros(0, dtype=np.int64)
        fills = [
            PictureWork(
                "inpaint",
                no_words,
                codes=request.codes,
                mask=request.missing,
                steps=FILL_STEPS,
                guidance=0.0,
                seed=request.seed,
            )
            for request in gappy
        ]
        made = iter(self._generate(fills, on_step))
        return [
            request
            if request.missing is None
            else replace(request, codes=next(made).codes, missing=None)
            for request in requests
        ]

    def _check_codes(self, codes: AnyIntegers) -> None:
        size = self._vocabulary.codebook_size
        if codes.size and (codes.min() < UNKNOWN or codes.max() >= size):
            raise TokenRangeError(
                f"codes must lie in 0..{size - 1}, got {codes.min()}..{codes.max()}"
            )

    def _check_native(self, codes: AnyIntegers) -> None:
        self._check_codes(codes)
        side = self._options.side
        if codes.shape != (side, side) or codes.min() < 0:
            raise InvalidInputError(
                f"a question needs a full {side} x {side} grid, got {codes.shape}"
            )


@dataclass(eq=False)
class _Job:
    """One generation request while its canvas is being filled."""

    request: PictureWork
    canvas: IntGrid
    windows: list[Window]
    waves: list[list[int]]
    shape: tuple[int, ...]

    def result(self) -> IntGrid:
        return self.canvas[: self.shape[0], : self.shape[1]].copy()


@dataclass(frozen=True, eq=False)
class _Place:
    """One window of a job."""

    job: _Job
    index: int

    @property
    def codes(self) -> IntGrid:
        return self.job.canvas[self.job.windows[self.index].area]

    @property
    def seed(self) -> int:
        return window_seed(self.job.request.seed, self.index)

    def show(self, row: NDArray[np.int64]) -> None:
        """Tell whoever watches what the picture would be if this window ended with `row`."""
        watch = self.job.request.watch
        if watch is not None:
            canvas = self.job.canvas.copy()
            cells = canvas[self.job.windows[self.index].area]
            cells[...] = np.where(cells == UNKNOWN, row.reshape(cells.shape), cells)
            watch(canvas[: self.job.shape[0], : self.job.shape[1]])

    def fill(self, row: NDArray[np.int64]) -> None:
        cells = self.codes
        cells[...] = np.where(cells == UNKNOWN, row.reshape(cells.shape), cells)


def _negative(request: PictureWork) -> NDArray[np.int64]:
    """Prompt ids of the pass that guidance leads away from; mostly none."""
    ids = request.negative_ids
    return np.zeros(0, dtype=np.int64) if ids is None else ids.astype(np.int64)


def _start_codes(request: PictureWork, side: int) -> IntGrid:
    """The canvas a request starts from: (H, W) codes, `UNKNOWN` where to generate."""
    if request.codes is None:
        return np.full(request.grid or (side, side), UNKNOWN, dtype=np.int64)
    codes = request.codes.astype(np.int64)
    if request.mask is not None:
        codes[request.mask] = UNKNOWN
    if request.extension is None:
        return codes
    return request.extension.place(codes.astype(np.int32), UNKNOWN).astype(np.int64)


def _answer_result(ids: list[int], eot_id: int) -> AnswerResult:
    finished = bool(ids) and ids[-1] == eot_id
    kept = ids[:-1] if finished else ids
    return AnswerResult(np.array(kept, dtype=np.int64), finished)


def _check_batch(requests: Sequence[Work]) -> None:
    kinds = {request.kind for request in requests}
    steps = {request.steps for request in requests if isinstance(request, PictureWork)}
    if len(kinds) > 1 or len(steps) > 1:
        raise InvalidInputError(
            f"a batch shares kind and steps, got kinds {kinds} and steps {steps}"
        )


def _watcher(places: Sequence[_Place]) -> Callable[[torch.Tensor], None] | None:
    """Shows the codes of every step to those that watch; None where nobody does."""
    if all(place.job.request.watch is None for place in places):
        return None

    def show(codes: torch.Tensor) -> None:
        for place, row in zip(places, codes.cpu().numpy(), strict=True):
            place.show(row)

    return show


def _share_of(on_step: OnStep | None, index: int, parts: int) -> OnStep:
    """Report part `index` of `parts` equal parts as progress of the whole."""

    def report(step: int, total: int) -> None:
        if on_step is not None:
            on_step(index * total + step, parts * total)

    return report
