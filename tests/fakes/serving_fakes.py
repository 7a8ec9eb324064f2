"""A tiny bundle and engines without a model, so that serving can be tested by itself."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import httpx
import numpy as np

from cloud_server.generation.work import (
    AnswerResult,
    AnswerWork,
    PictureResult,
    PictureWork,
    Result,
    Work,
)
from cloud_server.http.app import create_app
from cloud_server.http.host import build_host, listen, url_of
from cloud_server.serving.batcher import batching_queue
from cloud_server.serving.classifying import Classifying, named
from cloud_server.serving.loaded_model import LoadedModel
from cloud_server.serving.service import Service
from cloud_server.settings import Settings
from shared_protocol.message.codec import encode_request
from shared_protocol.messages import OnStep, Options, Request
from shared_protocol.tasks import Extension, Scenario, Task
from shared_protocol.tokens import ImageTokens, TextTokens, TokenMask
from shared_protocol.vocabulary import Vocabulary

EOT = 0
LONG_S = 30.0
"""A time limit that no test reaches unless it hangs."""
MSGPACK = {"Content-Type": "application/msgpack"}
STREAM = {**MSGPACK, "Accept": "application/msgpack-seq"}


class NoEntropy:
    """A bundle without entropy models: everything is coded uniformly."""

    paths: dict[Scenario, Any] = {}  # noqa: RUF012 - nothing is recorded for a fake

    def available(self) -> tuple[Scenario, ...]:
        return ()


@dataclass(frozen=True)
class FakeDefaults:
    steps: int = 5
    guidance: float = 2.0
    max_new_tokens: int = 6


@dataclass(frozen=True)
class FakeBundle:
    name: str = "fake"
    vocabulary: Vocabulary = field(default_factory=lambda: Vocabulary(300, 64))
    fingerprint: bytes = bytes(range(32))
    grid: tuple[int, int] = (4, 4)
    max_text_tokens: int = 8
    eot_id: int = EOT
    text_prior: Any = None
    mask_prior: Any = None
    entropy: Any = field(default_factory=NoEntropy)
    defaults: FakeDefaults = field(default_factory=FakeDefaults)


BUNDLE = FakeBundle()


class FakeEngine:
    """Answers at once; what it makes depends on the seed only."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.requests: list[Work] = []

    def run(self, requests: Sequence[Work], on_step: OnStep | None = None) -> list[Result]:
        self.batches.append(len(requests))
        self.requests += requests
        self.work(requests, on_step or (lambda step, total: None))
        return [fake_result(request) for request in requests]

    def work(self, requests: Sequence[Work], on_step: OnStep) -> None:
        total = getattr(requests[0], "steps", 3)
        for step in range(1, total + 1):
            self.step(step)
            on_step(step, total)

    def step(self, step: int) -> None:
        """Overridden by engines that take time."""


class SlowEngine(FakeEngine):
    """Sleeps in every step."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    def step(self, step: int) -> None:
        time.sleep(self._seconds)


class GatedEngine(FakeEngine):
    """Stands still in its first step until `gate` opens; `started` tells that it got there."""

    def __init__(self) -> None:
        super().__init__()
        self.started = threading.Event()
        self.gate = threading.Event()
        self.steps_done = 0

    def step(self, step: int) -> None:
        self.started.set()
        assert self.gate.wait(LONG_S)
        self.steps_done += 1


class FailingEngine(FakeEngine):
    """Raises what it was given, at its second step."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def step(self, step: int) -> None:
        if step == 2:
            raise self._error


def fake_result(request: Work) -> Result:
    """What every fake engine answers to `request`."""
    if isinstance(request, AnswerWork):
        answer = [*request.text_ids.tolist()[::-1], EOT, 5]
        return AnswerResult(np.array(answer, dtype=np.int64), True)
    return PictureResult(_merged(request))


def _merged(request: PictureWork) -> np.ndarray:
    known = request.codes
    if known is None:
        shape, new = request.grid, np.ones(request.grid, dtype=bool)
        known = np.zeros(shape, dtype=np.int64)
    elif request.extension is not None:
        new = request.extension.new_positions(*known.shape)
        known = request.extension.place(known.astype(np.int32)).astype(np.int64)
    else:
        new = request.mask
    made = (np.arange(known.size).reshape(known.shape) + request.seed) % 64
    return np.where(new, made, known)


def fake_model(runner: Any = None, bundle: FakeBundle = BUNDLE, **changes: Any) -> LoadedModel:
    """A loaded model around `runner`."""
    model = LoadedModel(
        bundle=bundle,
        engine=runner or FakeEngine(),
        device="fake",
        max_batch=1,
        scenarios=(),
        entropy={"ok": True, "digest": "00"},
    )
    return replace(model, **changes)


class FakeClassifier:
    """The label whose number is the sum of the tokens is the likeliest, those after it less so."""

    def __init__(self, labels: Sequence[str] = tuple(f"thing {n}" for n in range(1000))) -> None:
        self.labels = tuple(labels)
        self.fingerprint = "ab" * 32
        self.seen: list[np.ndarray] = []

    def classify(self, tokens: np.ndarray) -> np.ndarray:
        assert tokens.dtype == np.int64
        assert tokens.ndim == 2
        self.seen.append(tokens)
        count = len(self.labels)
        places = (np.arange(count) - tokens.sum(1, keepdims=True)) % count
        scores = np.exp2(-places.astype(np.float32))
        return (scores / scores.sum(1, keepdims=True)).astype(np.float32)


def with_neck(classifier: Any = None, runner: Any = None) -> dict[str, Any]:
    """What `fake_model` and `serving` take for a model that classifies."""
    neck = named(classifier or FakeClassifier())
    assert neck is not None
    return {"engine": Classifying(runner or FakeEngine(), neck), "neck": neck}


def fake_settings(**changes: Any) -> Settings:
    """Settings with limits that tests do not reach by accident."""
    return Settings(**{"request_timeout": LONG_S, "body_timeout": LONG_S, **changes})


def text(*ids: int) -> TextTokens:
    return TextTokens(np.array(ids, dtype=np.int32), BUNDLE.vocabulary.text_size)


def image(height: int = 4, width: int = 4) -> ImageTokens:
    codes = np.arange(height * width, dtype=np.int32).reshape(height, width) % 64
    return ImageTokens(codes, BUNDLE.vocabulary.codebook_size)


def a_request(task: Task = Task.T2I, **options: Any) -> Request:
    """A request of each task that the fake bundle can serve."""
    chosen = Options(**options)
    if task is Task.T2I:
        return Request(task, text(7, 8), options=chosen)
    if task is Task.INPAINT:
        flags = np.zeros((4, 4), dtype=bool)
        flags[1:3, 1:3] = True
        return Request(task, text(7), image(), TokenMask(flags), options=chosen)
    if task is Task.OUTPAINT:
        return Request(task, text(7), image(), extension=Extension(right=2), options=chosen)
    if task is Task.CLASSIFY:
        return Request(task, text(), image(), options=chosen)
    return Request(task, text(7, 8, 9), image(), options=chosen)


def message(request: Request) -> bytes:
    """`request` as bytes of the fake bundle."""
    return encode_request(request, BUNDLE).data


def a_message(task: Task = Task.T2I, **options: Any) -> bytes:
    return message(a_request(task, **options))


@asynccontextmanager
async def serving(settings: Settings | None = None, runner: Any = None, **changes: Any):
    """A client of an application that is ready, and its service; nothing touches a socket."""
    chosen = settings or fake_settings()
    make_queue = partial(batching_queue, chosen)
    service = Service(chosen, lambda: fake_model(runner, **changes), make_queue)
    app = create_app(chosen, service)
    await service.start()
    await service.ready()
    transport = httpx.ASGITransport(app, raise_app_exceptions=True)
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client, service
    finally:
        await service.close(0.0)


@contextmanager
def opened(gate: threading.Event) -> Iterator[None]:
    """Open `gate` at the end whatever happens, so that no worker thread hangs."""
    try:
        yield
    finally:
        gate.set()


class LiveServer:
    """A real server on a loopback port, in a thread of this process."""

    def __init__(self, settings: Settings, runner: Any = None, **changes: Any) -> None:
        self._listener = listen(settings.host, settings.port or 0)
        self.url = url_of(self._listener, settings.host)
        self.port: int = self._listener.getsockname()[1]
        self._host = build_host(
            settings, lambda: fake_model(runner, **changes), [self.url], lambda line: None
        )
        self._thread = threading.Thread(
            target=self._host.run, kwargs={"sockets": [self._listener]}, daemon=True
        )

    @property
    def service(self) -> Service:
        return self._host.service

    @property
    def bare(self) -> str:
        """Address of bare frames, where the settings open one."""
        return next(url for url in self._host._urls if url.startswith("tcp:"))

    def signal(self) -> None:
        """What SIGTERM does."""
        self._host.handle_exit(signal.SIGTERM, None)

    def __enter__(self) -> LiveServer:
        self._thread.start()
        give_up = time.monotonic() + LONG_S
        while time.monotonic() < give_up:
            with suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/readyz").status_code == 200:
                    return self
            time.sleep(0.005)
        raise AssertionError("the server did not get ready")

    def __exit__(self, *_: object) -> None:
        self._host.should_exit = True
        self._thread.join(LONG_S)
        assert not self._thread.is_alive(), "the server did not stop"
