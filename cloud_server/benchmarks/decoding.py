"""Pictures and answers of a model of Show-o's size: plain loops, the engine, captured passes.

It does not judge quality: weights are random. All three draw with the same random numbers, so that
in float32 all give the same tokens; in bfloat16 sums round differently, and a share of the draws
falls out differently.
"""

from __future__ import annotations

import gc
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from cloud_server.benchmarks.engine_bench import PICTURES, random_phi
from cloud_server.benchmarks.tables import Attempts, Cell, Setup, Table, say, seconds
from cloud_server.generation.backbone.graphed import GraphedBackbone
from cloud_server.generation.backbone.protocol import Backbone
from cloud_server.generation.backbone.showo import ShowoBackbone, ShowoConfig
from cloud_server.generation.engine import Engine, EngineOptions, seeded_noise
from cloud_server.generation.masked_decoding import REFERENCE
from cloud_server.generation.prompting import QuestionFrame
from cloud_server.generation.reference_loop import PlainShowo
from cloud_server.generation.text_decoding import AnswerOptions
from cloud_server.generation.work import (
    AnswerResult,
    AnswerWork,
    PictureResult,
    PictureWork,
    Result,
    Work,
)
from shared_protocol.vocabulary import Vocabulary

Tokens = list[list[int]]
GIGABYTE = 1e9
MAX_TEXT_LEN = 128
MANY = 8
"""Requests in a pass that takes long enough to be timed once."""
PLAIN_ANSWERS = 2
"""Answers that the plain loop is timed on; it gives them one by one, so that all cost alike."""


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Attributes:
        config, vocabulary: of the model.
        dtype: of its weights.
        sides: of pictures, in tokens.
        batches: requests in one pass.
        steps: of masked decoding.
        answer: tokens of an answer.
        rounds: of which the best counts.
    """

    config: ShowoConfig
    vocabulary: Vocabulary
    dtype: torch.dtype
    sides: tuple[int, ...]
    batches: tuple[int, ...]
    steps: int
    answer: int
    rounds: int


_CODES = 8192
FULL = Plan(
    ShowoConfig(), Vocabulary(50295, _CODES), torch.bfloat16, (16, 32), (1, 2, 4, 8, 16), 16, 64, 2
)
EXACT = replace(FULL, dtype=torch.float32, sides=(16,), batches=(1, 4), steps=8, rounds=1)
_TOY = Vocabulary(200, _CODES)
TOY = Plan(
    ShowoConfig(_TOY.size, 32, 64, 2, 2), _TOY, torch.float32, (16,), (1, 2), 2, 3, 1
)  # fmt: skip

COLUMNS = (
    "requests", "plain s", "engine s", "with graphs s", "plain / graphs", "engine / graphs",
    "plain GB", "engine GB", "with graphs GB", "engine = plain", "graphs = engine",
)  # fmt: skip


def decoding(setup: Setup) -> Iterator[Table]:
    """A table for each size of pictures, and one for answers; then the same in float32."""
    attempts = Attempts()
    for plan in [TOY] if setup.small else [FULL, EXACT]:
        yield from _tables(plan, setup, attempts)
    attempts.finish()


def _tables(plan: Plan, setup: Setup, attempts: Attempts) -> Iterator[Table]:
    backbone = ShowoBackbone(random_phi(plan.config, setup.device, plan.dtype))
    kind = f"{plan.config.layers} layers of {plan.config.hidden_size}, {plan.dtype}"
    for side in plan.sides:
        pixels, _, guidance = PICTURES[side]
        trials = [_Pictures(plan, backbone, side, count) for count in plan.batches]
        title = f"t2i, {pixels} px, {plan.steps} steps, guidance {guidance:g}; {kind}"
        yield Table(title, COLUMNS, [_row(each, setup, attempts) for each in trials])
    answers = [_Answers(plan, backbone, 16, count) for count in plan.batches]
    rows = [_row(each, setup, attempts) for each in answers]
    yield Table(f"vqa, 256 px, {plan.answer} tokens; {kind}", COLUMNS, rows)


@dataclass(frozen=True)
class _Trial(ABC):
    """Some requests, done in three ways; each way gives their tokens."""

    plan: Plan
    backbone: ShowoBackbone
    side: int
    count: int

    @property
    def loops(self) -> PlainShowo:
        vocabulary = self.plan.vocabulary
        return PlainShowo(self.backbone, vocabulary, vocabulary.text_size - 1, MAX_TEXT_LEN)

    @abstractmethod
    def requests(self, count: int) -> list[Work]:
        """So many of them, for the engine."""

    @abstractmethod
    def plain(self) -> Tokens:
        """By Show-o's loops."""

    @property
    def plain_share(self) -> float:
        """How much of the work the plain loops do."""
        return 1.0

    def served(self, backbone: Backbone, count: int) -> Tokens:
        """By the engine over a backbone."""
        eot = self.plan.vocabulary.text_size - 1
        frame = QuestionFrame((), ())
        options = EngineOptions(
            eot, frame, self.side, MAX_TEXT_LEN, REFERENCE,
            requests_per_forward=self.count, kept_pictures=0,
        )  # fmt: skip
        engine = Engine(backbone, self.plan.vocabulary, options)
        return [_tokens(result) for result in engine.run(self.requests(count))]


class _Pictures(_Trial):
    """Pictures from prompts of several lengths."""

    def requests(self, count: int) -> list[Work]:
        _, _, guidance = PICTURES[self.side]
        return [
            PictureWork("t2i", _prompt(n), steps=self.plan.steps, guidance=guidance, seed=n)
            for n in range(count)
        ]

    def plain(self) -> Tokens:
        _, _, guidance = PICTURES[self.side]
        codes = self.loops.generate(
            [_prompt(n).tolist() for n in range(self.count)],
            torch.full((self.count, self.side**2), -1),
            steps=self.plan.steps,
            guidance=guidance,
            temperature=1.0,
            policy=REFERENCE,
            noise=seeded_noise(range(self.count), self.backbone.device),
        )
        return [row.tolist() for row in codes]


class _Answers(_Trial):
    """Answers to questions of several lengths about pictures of their own."""

    def requests(self, count: int) -> list[Work]:
        most = self.plan.answer
        return [AnswerWork(_prompt(n), self._codes(n), max_new_tokens=most) for n in range(count)]

    def plain(self) -> Tokens:
        noise, options = seeded_noise([0]), AnswerOptions(self.plan.answer)
        emitted = slice(0, self.plan.vocabulary.text_size)
        answers = [
            self.loops.answer(self._codes(n), _prompt(n), options, noise, emitted)
            for n in range(min(self.count, PLAIN_ANSWERS))
        ]
        eot = self.plan.vocabulary.text_size - 1
        return [answer[:-1] if answer[-1:] == [eot] else answer for answer in answers]

    @property
    def plain_share(self) -> float:
        return min(self.count, PLAIN_ANSWERS) / self.count

    def _codes(self, number: int) -> np.ndarray:
        cells = np.arange(self.side**2).reshape(self.side, self.side)
        return cells * (31 + 2 * number) % self.plan.vocabulary.codebook_size


def _prompt(number: int) -> np.ndarray:
    """Text ids of a prompt, 12 to 15 of them."""
    return np.arange(100, 112 + number % 4, dtype=np.int64) + number


def _tokens(result: Result) -> list[int]:
    assert isinstance(result, (PictureResult, AnswerResult)), "no labels are asked for here"
    found = result.codes if isinstance(result, PictureResult) else result.text_ids
    return [int(token) for token in found.reshape(-1)]


@dataclass(frozen=True)
class _Run:
    """What came of one way: tokens, seconds, the GPU's peak memory in GB."""

    tokens: Tokens
    seconds: float
    memory: float | None


def _row(trial: _Trial, setup: Setup, attempts: Attempts) -> list[Cell]:
    ways: dict[str, Callable[[], _Run]] = {
        "plain": lambda: _plain(trial, setup),
        "engine": lambda: _served(trial, trial.backbone, setup),
    }
    if setup.on_gpu:  # a new one each time, so that no room of another shape counts as memory
        ways["graphs"] = lambda: _served(trial, GraphedBackbone(trial.backbone), setup)
    name = f"{type(trial).__name__[1:].lower()} {trial.side}x{trial.side}, {trial.count} requests"
    runs = {way: attempts.of(f"{name}, {way}", work) for way, work in ways.items()}
    plain, engine, graphs = (runs.get(way) for way in ("plain", "engine", "graphs"))
    three = (plain, engine, graphs)
    times = [run.seconds if run else None for run in three]
    row: list[Cell] = [trial.count, *times, _ratio(times[0], times[2]), _ratio(times[1], times[2])]
    row += [run.memory if run else None for run in three]
    row += [_same(plain, engine), _same(engine, graphs)]
    say(f"  {name}: {row[1:]}")
    return row


def _plain(trial: _Trial, setup: Setup) -> _Run:
    if trial.count == trial.plan.batches[0]:
        trial.plain()  # warms what all of them use
    run = _measured(trial.plain, setup, 1)
    return replace(run, seconds=run.seconds / trial.plain_share)


def _served(trial: _Trial, backbone: Backbone, setup: Setup) -> _Run:
    way = partial(trial.served, backbone, trial.count)
    way()  # warms, and captures
    return _measured(way, setup, trial.plan.rounds if trial.count < MANY else 1)


def _measured(way: Callable[[], Tokens], setup: Setup, rounds: int) -> _Run:
    gc.collect()
    if setup.on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    made: list[Tokens] = []
    taken = seconds(lambda: made.append(way()), setup, rounds)
    # What is reserved: what a graph uses while it plays is nowhere else.
    peak = torch.cuda.max_memory_reserved() / GIGABYTE if setup.on_gpu else None
    return _Run(made[-1], taken, peak)


def _ratio(slow: float | None, fast: float | None) -> float | None:
    return slow / fast if slow and fast else None


def _same(one: _Run | None, other: _Run | None) -> str | None:
    """Share of equal tokens, of the requests that both have."""
    if one is None or other is None:
        return None
    rows = zip(one.tokens, other.tokens, strict=False)
    pairs = [a == b for x, y in rows for a, b in zip(x, y, strict=False)]
    return "all" if all(pairs) else f"{sum(pairs) / len(pairs):.1%}"
