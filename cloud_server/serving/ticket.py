"""What a queue in front of a model is, and a place in it: who waits, how far it is, how it ended.

It does not know how a queue orders or batches, nor what a job is; it lives on the event loop.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any, Generic, Protocol, TypeVar

from cloud_server.serving.telemetry.metrics import Span
from shared_protocol.errors import WorkCancelledError

JobT = TypeVar("JobT")
ResultT = TypeVar("ResultT")

_FOREVER = math.inf
_NEVER = -math.inf


class WorkQueue(Protocol[JobT, ResultT]):
    """What serving needs of the queue in front of a model; `batcher.Batcher` is one.

    All calls are made on the event loop, but for `stop_now`.
    """

    def start(self) -> None:
        """Begin to take jobs."""

    @property
    def depth(self) -> int:
        """Number of waiting jobs."""

    def check_room(self, owner: str) -> None:
        """Raise `OverloadedError` where `submit` would whatever the job is."""

    def submit(self, job: JobT, key: Hashable, owner: str, price: float) -> Ticket[JobT, ResultT]:
        """Queue a job; jobs with equal keys may share a batch, owners take turns."""

    def retry_after(self, owner: str) -> float:
        """Whole seconds after which there should be room for the owner."""

    def refuse(self) -> None:
        """Take no more jobs and refuse those that wait; what runs goes on."""

    def stop_now(self) -> None:
        """Make what runs end at its next step; may be called from any thread."""

    async def close(self, grace_s: float) -> None:
        """`refuse`, and stop what still runs after `grace_s` seconds."""


class Ticket(Generic[JobT, ResultT]):
    """One job on its way; any number of callers may wait for it.

    Attributes:
        job: what is to be run.
        key: jobs with equal keys may share a batch.
        owner: whose turns it takes.
        price: how long it takes, in any unit that is the same for all jobs.
        progress: (finished steps, all steps), (0, 0) before the first step.
        queue_s: seconds the job waited; known once it runs.
        began: when it was taken out of the queue, by `time.monotonic`; 0 = it was not.
        phases: what its batch began to do when; None = nobody wants to know.
        model_s: seconds its batch ran; known once it is done.
        keep_s: seconds for which the job is kept although nobody waits for it any more, because
            somebody may come back for its result; 0 = it is dropped at once.
    """

    def __init__(
        self,
        job: JobT,
        key: Hashable,
        drop: Callable[[], None],
        owner: str = "",
        price: float = 1.0,
    ) -> None:
        self.job = job
        self.key = key
        self.owner = owner
        self.price = price
        self.progress = (0, 0)
        self.queue_s = 0.0
        self.began = 0.0
        self.phases: list[tuple[str, float]] | None = None
        self.model_s = 0.0
        self.keep_s = 0.0
        self.submitted = time.monotonic()
        self.done: asyncio.Future[ResultT] = _new_future()
        self.done.add_done_callback(_retrieve)
        self._change: asyncio.Future[None] = _new_future()
        self._waiters = 0
        self._left_at: float | None = None
        self._cancelled = False
        self._drop = drop

    @property
    def wanted_until(self) -> float:
        """Time until which the result is wanted; infinite until the last waiter has left."""
        if self._cancelled:
            return _NEVER
        return _FOREVER if self._left_at is None else self._left_at + self.keep_s

    @property
    def lost(self) -> bool:
        """Whether everybody who waited has left."""
        return self._left_at is not None

    @property
    def failed(self) -> bool:
        """Whether the job was dropped or ended in an error."""
        done = self.done
        return done.done() and (done.cancelled() or done.exception() is not None)

    def cancel(self) -> None:
        """End the job at its next step, whoever else waits for it."""
        self._cancelled = True
        if not self.done.done():
            self.done.set_exception(WorkCancelledError("the work was cancelled", "ask again"))
            self._drop()

    @asynccontextmanager
    async def waiting(self) -> AsyncIterator[None]:
        """Hold an interest in the result; see `keep_s` for what becomes of it without any."""
        self._waiters += 1
        self._left_at = None
        try:
            yield
        finally:
            self._waiters -= 1
            if not self._waiters:
                self._left_at = time.monotonic()
                if not self.done.done() and not self.keep_s:
                    self._drop()

    async def result(self) -> ResultT:
        """Wait for the result; cancelling this call does not cancel the job of other holders."""
        async with self.waiting():
            return await asyncio.shield(self.done)

    async def steps(self) -> AsyncIterator[tuple[int, int]]:
        """Yield `progress` when it has changed, until the job is done; what is stale is skipped.

        Hold `waiting()` meanwhile.
        """
        seen = (0, 0)
        while not self.done.done():
            if self.progress != seen:
                seen = self.progress
                yield seen
            else:
                either: set[asyncio.Future[Any]] = {self._change, self.done}
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)

    def report(self, step: int, total: int) -> None:
        """Note progress and wake whoever follows it."""
        self.progress = (step, total)
        change, self._change = self._change, _new_future()
        change.set_result(None)


class Reports:
    """Picks at most `count` of all steps of a job, evenly."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._sent = 0

    def due(self, done: int, total: int) -> bool:
        """Whether this step is to be reported."""
        share = done * (self._count + 1) // max(1, total)
        if not self._sent < share <= self._count:
            return False
        self._sent = share
        return True


def _new_future() -> asyncio.Future[Any]:
    return asyncio.get_running_loop().create_future()


def _retrieve(future: asyncio.Future[ResultT]) -> None:
    if not future.cancelled():
        future.exception()  # an error that nobody waits for any more needs no warning


def spans_of(ticket: Ticket[Any, Any], since: float) -> list[Span]:
    """When a ticket that has just ended waited, and what its batch did when; nothing from before.

    Args:
        ticket: somebody else may have made it.
        since: when its request began, by `time.monotonic`.
    """
    ended = time.monotonic()
    began = ticket.began or ended
    spans = [Span("queue", ticket.submitted, began), Span("model", began, ended)]
    phases = ticket.phases or []
    for (name, start), (_, end) in pairwise([*phases, ("", ended)]):
        spans.append(Span(name, start, end, "model"))
    return [each._replace(began=max(each.began, since)) for each in spans if each.ended > since]
