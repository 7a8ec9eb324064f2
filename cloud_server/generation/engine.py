"""Runs generation and answering on token ids: request values in, result values out.

Does not know bytes, HTTP, pixels, text, or which host runs it; holds no global state.

::

    PictureWork ── canvas, windows ──► masked decoding ──► PictureResult (codes)
                                               └─► mended, settled
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
from cloud_server.generation.canvases import (
    Job,
    Place,
    least_known,
    negative_of,
    start_codes,
    watcher,
    window_seed,
)
from cloud_server.generation.masked_decoding import (
    STANDARD,
    DecodingPolicy,
    NoiseSource,
    RowGenerators,
)
from cloud_server.generation.mending.choosing import best_of, shows
from cloud_server.generation.mending.finishing import Finisher, PriceOf, Progress, Unfinished
from cloud_server.generation.mending.layout import MOST_THINGS, Layout, lay_out
from cloud_server.generation.mending.looking import Onlooker
from cloud_server.generation.mending.mender import Draft, Mender
from cloud_server.generation.mending.wording import Wording
from cloud_server.generation.painting import Brush, Painter
from cloud_server.generation.prompting import QuestionFrame
from cloud_server.generation.text_decoding import AnswerOptions, PictureReader, generate_text
from cloud_server.generation.windows import (
    UNKNOWN,
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
    begin,
    filling,
)
from cloud_server.prompts.asked import Asked
from shared_protocol.errors import InvalidInputError, TokenRangeError
from shared_protocol.messages import OnStep
from shared_protocol.vocabulary import Vocabulary


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
        places: phrases of places that prompts are laid out in if they name none; none at all =
            nothing is laid out.
        mend: how often a result is mended at most where a request does not say it.
        best_of: how many pictures are drawn at most, until the model says that one shows what was
            asked; for backbones that cannot be mended.
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
    places: tuple[str, ...] = ()
    mend: int = 0
    best_of: int = 1


def seeded_noise(seeds: Sequence[int], device: torch.device | str = "cpu") -> NoiseSource:
    """One generator per request, so that its draws are its own; another device, other draws."""
    return RowGenerators([torch.Generator(device).manual_seed(seed) for seed in seeds])


class Engine:
    """Runs batches of requests on one backbone."""

    def __init__(
        self,
        backbone: Backbone,
        vocabulary: Vocabulary,
        options: EngineOptions,
        noise: Callable[[Sequence[int]], NoiseSource] | None = None,
        wording: Wording | None = None,
        price_of: PriceOf | None = None,
    ) -> None:
        self._backbone = backbone
        self._vocabulary = vocabulary
        self._options = options
        self._noise = noise or partial(seeded_noise, device=backbone.device)
        self._pictures = PictureReader(backbone, vocabulary, options.kept_pictures)
        self._painter = Painter(
            backbone, vocabulary, options.eot_id, options.max_text_len, options.policy
        )
        self._wording = wording
        self._onlooker = self._mender = None
        if wording is not None:
            self._onlooker = Onlooker(backbone, vocabulary, self._pictures, wording)
            if backbone.pointing is not None:
                self._mender = Mender(self._painter, self._onlooker, wording, self._noise)
        self._finisher = Finisher(self._painter, self._mender, price_of, options.side)

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
        tries = self._options.best_of if self._chooses else 1

        def draw(number: int, some: Sequence[int]) -> list[PictureResult]:
            seeds = (window_seed(requests[i].seed, -number) for i in some)
            again = [replace(requests[i], seed=seed) for i, seed in zip(some, seeds, strict=True)]
            return self._draw(again, _share_of(on_step, number, tries))

        def is_right(index: int, result: PictureResult) -> bool:
            return self._shows(requests[index], result)

        return best_of(tries, len(requests), draw, is_right)

    @property
    def _chooses(self) -> bool:
        return self._onlooker is not None and self._mender is None

    def _shows(self, request: PictureWork, result: PictureResult) -> bool:
        """Whether a whole picture shows what was asked; True where that cannot be told."""
        side = self._options.side
        if request.kind != "t2i" or result.codes.shape != (side, side) or not len(request.text_ids):
            return True
        assert self._onlooker is not None
        assert self._wording is not None
        ids = request.text_ids.astype(np.int64)
        return shows(result.codes, ids, self._asked(request), self._onlooker, self._wording)

    def _draw(self, requests: Sequence[PictureWork], on_step: OnStep) -> list[PictureResult]:
        begin("prompt")
        jobs = list(map(self._job, requests))
        passes = list(self._passes(jobs))
        for index, places in enumerate(passes):
            self._fill(places, _share_of(on_step, index, len(passes)))
        return [PictureResult(job.result()) for job in jobs]

    def _job(self, request: PictureWork) -> Job:
        side = self._options.side
        start = start_codes(request, side)
        self._check_codes(start)
        canvas = pad_to_side(start, side)
        share = least_known(request, side, self._options.policy, self._options.min_known_share)
        windows = plan_windows(canvas == UNKNOWN, side, share)
        waves = in_waves(windows, canvas == UNKNOWN)
        asked = self._asked(request) if self._rounds(request) else None
        layout = self._layout(request, start.shape, asked)
        known = self._known(request, side)
        return Job(request, canvas, windows, waves, start.shape, layout, known, asked)

    def _asked(self, request: PictureWork) -> Asked | None:
        if self._wording is None:
            return None
        return self._wording.asked(request.text_ids.astype(np.int64))

    def _layout(
        self, request: PictureWork, shape: tuple[int, ...], asked: Asked | None
    ) -> Layout | None:
        """Where the things of a prompt go, if a picture of the native size is drawn from nothing.

        Not where something is to be led away from: that belongs to the prompt as it was said.
        """
        side = self._options.side
        fits = request.kind == "t2i" and shape == (side, side) and request.negative_ids is None
        if not fits or self._mender is None or asked is None or not asked.complete:
            return None
        return lay_out(asked, self._options.places, side, request.seed)

    def _rounds(self, request: PictureWork) -> int:
        return self._options.mend if request.mend is None else request.mend

    def _known(self, request: PictureWork, side: int) -> tuple[str, ...]:
        """Phrases of what an extended picture shows, or its middle, if that is a window."""
        codes = request.codes
        if request.kind != "outpaint" or codes is None or not self._rounds(request):
            return ()
        if min(codes.shape) < side or request.mask is not None:
            return ()
        top, left = ((length - side) // 2 for length in codes.shape)
        return self._finisher.names(codes[top : top + side, left : left + side].astype(np.int64))

    def _brush(self, job: Job) -> Brush:
        request = job.request
        words = request.text_ids.astype(np.int64)
        if job.layout is not None and self._wording is not None:
            words = self._wording.prompt(job.layout.text)
        return Brush(words, request.guidance, request.temperature, negative_of(request))

    def _passes(self, jobs: Sequence[Job]) -> Iterator[list[Place]]:
        """The windows of all jobs, in groups that are filled together, in order."""
        size = max(self._options.requests_per_forward, self._options.windows_per_forward)
        for wave in range(max(len(job.waves) for job in jobs)):
            places = [
                Place(job, index)
                for job in jobs
                if wave < len(job.waves)
                for index in job.waves[wave]
            ]
            yield from (places[start : start + size] for start in range(0, len(places), size))

    def _fill(self, places: Sequence[Place], on_step: OnStep) -> None:
        """Run masked decoding on some windows, mend and settle them, in place."""
        begin("generate")
        requests = [place.job.request for place in places]
        codes = np.stack([place.codes.reshape(-1) for place in places])  # (B, N)
        brushes = [self._brush(place.job) for place in places]
        steps = requests[0].steps
        progress = Progress(on_step, steps + self._finisher.sure_steps)
        decoded = self._painter.fill(
            torch.from_numpy(codes),
            brushes,
            steps,
            self._noise([place.seed for place in places]),
            lambda step, _: progress.reach(step),
            watcher(places),
        )
        unfinished = [
            self._unfinished(place, brush, row)
            for place, brush, row in zip(places, brushes, decoded.numpy(), strict=True)
        ]
        for place, grid in zip(places, self._finisher.finish(unfinished, progress), strict=True):
            place.show(grid.reshape(-1))
            place.fill(grid.reshape(-1))

    def _unfinished(self, place: Place, brush: Brush, row: NDArray[np.int64]) -> Unfinished:
        request, side = place.job.request, self._options.side
        asked = place.job.asked
        draft = Draft(
            codes=row.reshape(side, side),
            wanted=place.codes == UNKNOWN,
            asked=Asked(()) if asked is None else asked,
            layout=place.job.layout,
            brush=brush,
            seed=place.seed,
            rounds=self._rounds(request),
            steps=request.steps,
        )
        words = request.text_ids.astype(np.int64)
        # More than fits a picture is drawn as the prompt says: what is there is not thinned out.
        fits = asked is not None and sum(thing.count for thing in asked.things) <= MOST_THINGS
        return Unfinished(draft, place.extent, words, fits, place.job.known)

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
        fills = [
            filling(request.codes, request.missing, request.seed)
            for request in gappy
            if request.missing is not None
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


def _share_of(on_step: OnStep | None, index: int, parts: int) -> OnStep:
    """Report part `index` of `parts` equal parts as progress of the whole."""

    def report(step: int, total: int) -> None:
        if on_step is not None:
            on_step(index * total + step, parts * total)

    return report
