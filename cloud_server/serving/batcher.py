"""The queue in front of the model: bounded, batching, one worker thread.

Its class does not know what a job is, only its batch key; it knows no HTTP and no tokens.

::

    event loop                                            worker thread
    submit ──► waiting (bounded) ──► head and its equals ──► run(batch, on_step)
       ▲            │ nobody waits any more: dropped              │ steps
       └─ Ticket ◄──┴───────────── results, progress ◄────────────┘

All state is touched on the event loop only; the worker reads one number per job (`wanted_until`).
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Generic

from cloud_server.generation.work import Result, Work
from cloud_server.serving.loaded_model import LoadedModel
from cloud_server.serving.ticket import JobT, ResultT, Ticket
from cloud_server.settings import Settings
from shared_protocol.errors import InternalError, OverloadedError
from shared_protocol.messages import OnStep

Run = Callable[[Sequence[JobT], OnStep], Sequence[ResultT]]

logger = logging.getLogger(__name__)

_FIRST_GUESS_S = 1.0
_SMOOTHING = 0.3
_LONGEST_RETRY_S = 60


class _AbandonedError(Exception):
    """Raised inside the worker to stop a batch that nobody waits for."""


class Batcher(Generic[JobT, ResultT]):
    """Runs jobs in batches on one worker thread.

    Args:
        run: called on the worker thread with jobs of one key; returns one result per job.
        max_batch: most jobs in one call.
        max_queue: most jobs that wait.
        window_s: how long the head of a batch waits for others of its key.
        on_batch: told every batch size.
    """

    def __init__(
        self,
        run: Run[JobT, ResultT],
        *,
        max_batch: int,
        max_queue: int,
        window_s: float = 0.0,
        on_batch: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._run = run
        self._max_batch = max_batch
        self._max_queue = max_queue
        self._window_s = window_s
        self._on_batch = on_batch
        self._waiting: list[Ticket[JobT, ResultT]] = []
        self._running: list[Ticket[JobT, ResultT]] = []
        self._arrived = asyncio.Event()
        self._stopped = False
        self._closing = False
        self._batch_s = _FIRST_GUESS_S
        self._worker: ThreadPoolExecutor | None = None
        self._loop_task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to take jobs; call on the event loop."""
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._loop_task = asyncio.get_running_loop().create_task(self._serve())

    @property
    def depth(self) -> int:
        """Number of waiting jobs."""
        return len(self._waiting)

    def check_room(self) -> None:
        """Raise `OverloadedError` where `submit` would."""
        if self._closing:
            raise OverloadedError("the server is stopping", "retry", self.retry_after())
        if len(self._waiting) >= self._max_queue and not any(t.lost for t in self._waiting):
            raise OverloadedError(
                f"{len(self._waiting)} requests are waiting already",
                "retry later",
                self.retry_after(),
            )

    def submit(self, job: JobT, key: Hashable) -> Ticket[JobT, ResultT]:
        """Queue a job; await `Ticket.result()`.

        Raises:
            OverloadedError: the queue is full, or the server is stopping.
        """
        self.check_room()
        if len(self._waiting) >= self._max_queue:
            self._drop(next(ticket for ticket in self._waiting if ticket.lost))
        ticket: Ticket[JobT, ResultT] = Ticket(job, key, lambda: self._drop(ticket))
        self._waiting.append(ticket)
        self._arrived.set()
        return ticket

    def retry_after(self) -> float:
        """Whole seconds after which there should be room, from how long batches took."""
        batches = 1 + len(self._waiting) // self._max_batch
        return float(min(_LONGEST_RETRY_S, max(1, math.ceil(batches * self._batch_s))))

    def stop_now(self) -> None:
        """Make what runs end at its next step; may be called from any thread."""
        self._stopped = True

    def refuse(self) -> None:
        """Take no more jobs and refuse those that wait; what runs goes on."""
        self._closing = True
        for ticket in self._waiting:
            error = OverloadedError("the server is stopping", "retry", self.retry_after())
            ticket.done.set_exception(error)
        self._waiting.clear()

    async def close(self, grace_s: float) -> None:
        """`refuse`, wait for what runs, and stop it at its next step after `grace_s` seconds."""
        self.refuse()
        running = list(self._running)
        if running:
            await asyncio.wait([ticket.done for ticket in running], timeout=grace_s)
        self.stop_now()
        if self._loop_task is not None:
            self._loop_task.cancel()
            with suppress(asyncio.CancelledError):
                await self._loop_task
        _settle_error(running, _AbandonedError())
        if self._worker is not None:
            self._worker.shutdown(wait=False)

    def _drop(self, ticket: Ticket[JobT, ResultT]) -> None:
        if ticket in self._waiting:
            self._waiting.remove(ticket)
            ticket.done.cancel()

    async def _serve(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._waiting:
                await self._run_next()

    async def _run_next(self) -> None:
        if self._window_s and self._mates() < self._max_batch:
            await asyncio.sleep(self._window_s)
        batch = self._take()
        if not batch:
            return
        self._running = batch
        self._on_batch(len(batch))
        try:
            await self._run_batch(batch)
        finally:
            self._running = []

    def _mates(self) -> int:
        key = self._waiting[0].key
        return sum(ticket.key == key for ticket in self._waiting)

    def _take(self) -> list[Ticket[JobT, ResultT]]:
        """Remove the head of the queue and its equals, in order of arrival.

        What somebody waits for comes first; what is wanted no more is dropped.
        """
        now = time.monotonic()
        for ticket in [each for each in self._waiting if each.wanted_until < now]:
            self._drop(ticket)
        self._waiting.sort(key=lambda ticket: ticket.lost)  # stable: the order of arrival stays
        if not self._waiting:
            return []
        key = self._waiting[0].key
        batch: list[Ticket[JobT, ResultT]] = []
        rest: list[Ticket[JobT, ResultT]] = []
        for ticket in self._waiting:
            fits = ticket.key == key and len(batch) < self._max_batch
            (batch if fits else rest).append(ticket)
        self._waiting = rest
        for ticket in batch:
            ticket.queue_s = now - ticket.submitted
        return batch

    async def _run_batch(self, batch: Sequence[Ticket[JobT, ResultT]]) -> None:
        """Run a batch; if it fails, run its jobs one by one, so that only the bad ones fail."""
        started = time.monotonic()
        try:
            results = await self._on_worker(batch)
        except Exception as error:
            if len(batch) > 1 and not isinstance(error, _AbandonedError):
                for ticket in batch:
                    await self._run_batch([ticket])
                return
            _settle_error(batch, error)
            return
        seconds = time.monotonic() - started
        self._batch_s += _SMOOTHING * (seconds - self._batch_s)
        for ticket, result in zip(batch, results, strict=True):
            ticket.model_s = seconds
            if not ticket.done.done():
                ticket.done.set_result(result)

    async def _on_worker(self, batch: Sequence[Ticket[JobT, ResultT]]) -> Sequence[ResultT]:
        loop = asyncio.get_running_loop()

        def report(step: int, total: int) -> None:
            for ticket in batch:
                ticket.report(step, total)

        def on_step(step: int, total: int) -> None:
            self._stop_if_unwanted(batch)
            loop.call_soon_threadsafe(report, step, total)

        def work() -> Sequence[ResultT]:
            self._stop_if_unwanted(batch)
            results = self._run([ticket.job for ticket in batch], on_step)
            if len(results) != len(batch):
                raise InternalError(f"{len(batch)} jobs gave {len(results)} results")
            return results

        assert self._worker is not None, "start() comes before submit()"
        return await loop.run_in_executor(self._worker, work)

    def _stop_if_unwanted(self, batch: Sequence[Ticket[JobT, ResultT]]) -> None:
        wanted_until = max(ticket.wanted_until for ticket in batch)
        if self._stopped or wanted_until < time.monotonic():
            raise _AbandonedError


def _settle_error(batch: Sequence[Ticket[JobT, ResultT]], error: Exception) -> None:
    if isinstance(error, _AbandonedError):
        error = OverloadedError("the work was stopped before its end", "retry", 1.0)
    for ticket in batch:
        if not ticket.done.done():
            ticket.done.set_exception(error)


def batching_queue(
    settings: Settings, model: LoadedModel, on_batch: Callable[[int], None]
) -> Batcher[Work, Result]:
    """The queue of a host with one model of its own."""
    return Batcher(
        model.engine.run,
        max_batch=model.max_batch,
        max_queue=settings.max_queue,
        window_s=settings.batch_window,
        on_batch=on_batch,
    )
