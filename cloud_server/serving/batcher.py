"""The queue in front of the model: bounded, batching, in turns between owners.

Its class does not know what a job is, only its batch key, its owner and its price; it knows no
HTTP and no tokens.

::

    event loop                                             worker threads, one of them computing
    submit ──► waiting ──► whose turn is it? ──► a batch ──► run(batch, on_step)
       ▲         │              ▲                               │ steps
       │         │              └── it rests between two steps ◄┤ while it is others' turn
       └─ Ticket ◄── nobody waits any more: dropped             │
            └─────────────── results, progress ◄────────────────┘

Turns are those of `admission.fairness.FairClock`, in seconds of the model: at any step, what its
owner would have used least for when it is done comes next (finish tags of weighted fair queueing).
So a short question waits for one step of a long picture, and a client with many requests takes
turns with one that has a single one; one owner's requests come in their order. Work that nobody
waits for comes after all other. All state is touched on the event loop only.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Generic

from cloud_server.generation.work import Result, Work
from cloud_server.serving.admission.fairness import FairClock
from cloud_server.serving.loaded_model import LoadedModel
from cloud_server.serving.running import AbandonedError, Run, RunJobs
from cloud_server.serving.ticket import JobT, ResultT, Ticket
from cloud_server.settings import Settings
from shared_protocol.errors import OverloadedError

logger = logging.getLogger(__name__)

MOST_RUNS = 8
"""Runs that are under way at once, all but one of them resting."""
SLICE_S = 0.05
"""How much less another owner must have used before a run rests for it."""
_FIRST_GUESS_S = 1.0
_SMOOTHING = 0.3
_LONGEST_RETRY_S = 60


class Batcher(Generic[JobT, ResultT]):
    """Runs jobs in batches, in turns.

    Args:
        run: called on worker threads with jobs of one key; returns one result per job. Where it
            reports a step it may be held up while another call runs.
        max_batch: most jobs in one call.
        max_queue: most jobs of one owner that wait.
        window_s: how long the head of a batch waits for others of its key.
        on_batch: told every batch size.
        promise_s: seconds in which a job that is taken is to be done.
    """

    def __init__(
        self,
        run: RunJobs[JobT, ResultT],
        *,
        max_batch: int,
        max_queue: int,
        window_s: float = 0.0,
        on_batch: Callable[[int], None] = lambda size: None,
        promise_s: float = math.inf,
    ) -> None:
        self._run = run
        self._max_batch = max_batch
        self._max_queue = max_queue
        self._window_s = window_s
        self._on_batch = on_batch
        self._promise_s = promise_s
        self._clock = FairClock()
        self._waiting: list[Ticket[JobT, ResultT]] = []
        self._resting: list[Run[JobT, ResultT]] = []
        self._active: Run[JobT, ResultT] | None = None
        self._runs: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._stopped = False
        self._closing = False
        self._seconds_per_price: float | None = None
        self._first_rate: float | None = None
        self._workers: ThreadPoolExecutor | None = None
        self._loop_task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to take jobs; call on the event loop."""
        self._workers = ThreadPoolExecutor(MOST_RUNS, thread_name_prefix="model")
        self._loop_task = asyncio.get_running_loop().create_task(self._serve())

    @property
    def depth(self) -> int:
        """Number of waiting jobs."""
        return len(self._waiting)

    def check_room(self, owner: str = "") -> None:
        """Raise `OverloadedError` where `submit` would whatever the job is."""
        if self._closing:
            raise OverloadedError("the server is stopping", "retry", self.retry_after(owner))
        own = [ticket for ticket in self._waiting if ticket.owner == owner]
        if len(own) >= self._max_queue and not any(ticket.lost for ticket in own):
            raise OverloadedError(
                f"{len(own)} requests are waiting already", "retry later", self.retry_after(owner)
            )

    def submit(
        self, job: JobT, key: Hashable, owner: str = "", price: float = 1.0
    ) -> Ticket[JobT, ResultT]:
        """Queue a job; await `Ticket.result()`.

        Args:
            job: what to run.
            key: jobs with equal keys may share a batch.
            owner: whose turns it takes.
            price: how long it takes, in any unit that is the same for all jobs.

        Raises:
            OverloadedError: the queue is full, would not be done in time, or is closing.
        """
        self.check_room(owner)
        self._check_promise(owner, price)
        own = [ticket for ticket in self._waiting if ticket.owner == owner]
        if len(own) >= self._max_queue:
            self._drop(next(ticket for ticket in own if ticket.lost))
        ticket: Ticket[JobT, ResultT] = Ticket(job, key, lambda: self._drop(ticket), owner, price)
        self._waiting.append(ticket)
        self._notice()
        return ticket

    def _check_promise(self, owner: str, price: float) -> None:
        """Refuse a job whose turn comes too late, by how long jobs have taken so far."""
        if self._seconds_per_price is None or math.isinf(self._promise_s):
            return
        wait = self._fair_wait(owner, price * self._seconds_per_price)
        own = self._backlog().get(owner, 0.0)
        if own and wait > self._promise_s:
            raise OverloadedError(
                f"it would not be done in {self._promise_s:g} s: your requests before it take "
                f"about {own:.0f} s",
                "retry later, or ask for fewer steps",
                self.retry_after(owner),
            )

    def retry_after(self, owner: str = "") -> float:
        """Whole seconds after which what the owner has waiting should be done."""
        wait = max(self._fair_wait(owner, 0.0), self._one_job_s)
        return float(min(_LONGEST_RETRY_S, max(1, math.ceil(wait))))

    @property
    def _one_job_s(self) -> float:
        return self._seconds(1.0) if self._seconds_per_price is None else 0.0

    def _fair_wait(self, owner: str, more: float) -> float:
        """Seconds until an owner's work is done, and `more` of it: all others share the time."""
        backlog = self._backlog()
        own = backlog.pop(owner, 0.0) + more
        return own + sum(min(own, other) for other in backlog.values())

    def _backlog(self) -> dict[str, float]:
        """Seconds of work of each owner, of what somebody waits for."""
        found: dict[str, float] = {}
        for ticket in self._live():
            done, total = ticket.progress
            left = 1.0 - done / total if total else 1.0
            seconds = self._seconds(ticket.price) * max(0.0, left)
            found[ticket.owner] = found.get(ticket.owner, 0.0) + seconds
        return found

    def _live(self) -> Iterator[Ticket[JobT, ResultT]]:
        tickets = [*self._waiting, *(ticket for run in self._under_way() for ticket in run.batch)]
        return (ticket for ticket in tickets if not ticket.lost and not ticket.done.done())

    def _under_way(self) -> list[Run[JobT, ResultT]]:
        return [*self._resting, *([] if self._active is None else [self._active])]

    def _seconds(self, price: float) -> float:
        rate = self._first_rate if self._seconds_per_price is None else self._seconds_per_price
        return _FIRST_GUESS_S if rate is None else price * rate

    def stop_now(self) -> None:
        """Make what runs end at its next step; may be called from any thread."""
        self._stopped = True
        for run in list(self._resting):
            run.resume()

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
        running = [ticket for run in self._under_way() for ticket in run.batch]
        if running:
            await asyncio.wait([ticket.done for ticket in running], timeout=grace_s)
        self.stop_now()
        for task in [*self._runs, *([] if self._loop_task is None else [self._loop_task])]:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        _settle_error(running, AbandonedError())
        if self._workers is not None:
            self._workers.shutdown(wait=False)

    def _drop(self, ticket: Ticket[JobT, ResultT]) -> None:
        if ticket in self._waiting:
            self._waiting.remove(ticket)
            ticket.done.cancel()

    async def _serve(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            while self._active is None and (self._waiting or self._resting):
                await self._give_turn()

    async def _give_turn(self) -> None:
        """Start or resume what comes next."""
        self._forget_unwanted()
        found = self._next()
        if isinstance(found, Ticket) and self._window_s and self._mates(found) < self._max_batch:
            await asyncio.sleep(self._window_s)
            found = self._next()
        if isinstance(found, Ticket):
            self._start(self._take(found))
        elif found is not None:
            self._resting.remove(found)
            self._active = found
            found.resume()

    def _forget_unwanted(self) -> None:
        now = time.monotonic()
        for ticket in [each for each in self._waiting if each.wanted_until < now]:
            self._drop(ticket)

    def _next(self) -> Run[JobT, ResultT] | Ticket[JobT, ResultT] | None:
        """What comes next: of those that are wanted, what belongs to whoever has used least."""
        ended = next((run for run in self._resting if run.unwanted), None)
        if ended is not None:
            return ended  # it ends as soon as it goes on
        run = min(self._resting, key=self._rank_of_run, default=None)
        ticket = min(self._heads(self._resting), key=self._rank, default=None)
        if ticket is None or (run is not None and self._rank_of_run(run) <= self._rank(ticket)):
            return run
        if len(self._resting) < MOST_RUNS:
            return ticket
        lost = next((each for each in self._resting if each.lost), None)
        if lost is None:
            return run
        for each in lost.batch:  # kept as a favour, as long as there was room
            each.cancel()
        return lost

    def _heads(self, begun: Sequence[Run[JobT, ResultT]]) -> list[Ticket[JobT, ResultT]]:
        """The first ticket of each owner, but of those whose work has begun: that goes first."""
        busy = {owner for run in begun if not run.lost for owner in run.owners}
        heads: dict[tuple[str, bool], Ticket[JobT, ResultT]] = {}
        for ticket in self._waiting:
            if ticket.lost or ticket.owner not in busy:
                heads.setdefault((ticket.owner, ticket.lost), ticket)
        return list(heads.values())

    def _rank(self, ticket: Ticket[JobT, ResultT]) -> tuple[bool, float]:
        """Wanted work first; then what its owner would have used least when it is done."""
        done, total = ticket.progress
        left = 1.0 - done / total if total else 1.0
        ends = self._clock.used(ticket.owner) + left * self._seconds(ticket.price)
        return ticket.lost, ends

    def _rank_of_run(self, run: Run[JobT, ResultT]) -> tuple[bool, float]:
        return min(map(self._rank, run.batch))

    def _mates(self, head: Ticket[JobT, ResultT]) -> int:
        return sum(ticket.key == head.key for ticket in self._waiting)

    def _take(self, head: Ticket[JobT, ResultT]) -> list[Ticket[JobT, ResultT]]:
        """Remove the head and its equals from the queue, in order of their ranks."""
        equals = (each for each in self._waiting if each.key == head.key and each is not head)
        batch = [head, *sorted(equals, key=self._rank)][: self._max_batch]
        now = time.monotonic()
        for ticket in batch:
            self._waiting.remove(ticket)
            ticket.queue_s, ticket.began = now - ticket.submitted, now
        return batch

    def _notice(self) -> None:
        """Something has come or changed: let the active run rest if it is another's turn."""
        self._changed.set()
        run = self._active
        if run is None:
            return
        self._charge(run)
        heads = self._heads([run, *self._resting])
        others = [*map(self._rank, heads), *map(self._rank_of_run, self._resting)]
        mine = self._rank_of_run(run)
        run.should_rest = any(
            lost < mine[0] or (lost == mine[0] and used + SLICE_S < mine[1])
            for lost, used in others
        )

    def _charge(self, run: Run[JobT, ResultT]) -> None:
        share = run.lap() / len(run.batch)
        for ticket in run.batch:
            self._clock.charge(ticket.owner, share)
        self._clock.follow(ticket.owner for ticket in self._live())
        done, total = run.batch[0].progress
        if done and self._seconds_per_price is None:  # as the very first work goes on
            price = sum(ticket.price for ticket in run.batch)
            self._first_rate = run.used * total / (done * price)

    def _start(self, batch: Sequence[Ticket[JobT, ResultT]]) -> None:
        self._on_batch(len(batch))
        self._active = run = Run(batch, lambda: self._stopped)
        task = asyncio.get_running_loop().create_task(self._execute(run))
        self._runs.add(task)
        task.add_done_callback(self._runs.discard)

    async def _execute(self, run: Run[JobT, ResultT]) -> None:
        try:
            await self._run_batch(run, run.batch)
        finally:
            if self._active is run:
                self._charge(run)
                self._active = None
            elif run in self._resting:
                self._resting.remove(run)
            self._changed.set()

    async def _run_batch(
        self, run: Run[JobT, ResultT], batch: Sequence[Ticket[JobT, ResultT]]
    ) -> None:
        """Run a batch; if it fails, run its jobs one by one, so that only the bad ones fail."""
        assert self._workers is not None, "start() comes before submit()"
        used, began = run.used, time.monotonic()
        try:
            results = await run.compute(
                self._workers, self._run, batch, lambda _: self._notice(), self._rested
            )
        except Exception as error:
            if len(batch) > 1 and not isinstance(error, AbandonedError):
                for ticket in batch:
                    await self._run_batch(run, [ticket])
                return
            _settle_error(batch, error)
            return
        self._charge(run)
        seconds = run.used - used
        self._learn(seconds / sum(ticket.price for ticket in batch))
        for ticket, result in zip(batch, results, strict=True):
            ticket.model_s = seconds
            ticket.queue_s += max(0.0, time.monotonic() - began - seconds)
            if not ticket.done.done():
                ticket.done.set_result(result)

    def _rested(self, run: Run[JobT, ResultT]) -> None:
        if self._active is run:
            self._charge(run)
            self._active = None
            self._resting.append(run)
            self._changed.set()
        else:
            run.resume()

    def _learn(self, rate: float) -> None:
        known = self._seconds_per_price
        self._seconds_per_price = rate if known is None else known + _SMOOTHING * (rate - known)


def _settle_error(batch: Sequence[Ticket[JobT, ResultT]], error: Exception) -> None:
    if isinstance(error, AbandonedError):
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
        promise_s=settings.request_timeout,
    )
