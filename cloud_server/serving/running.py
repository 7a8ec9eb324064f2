"""One batch on a thread of its own, which rests between two steps while it is others' turn.

It does not know whose turn it is: `batcher` says so. Only one run computes at any time; those that
rest keep what they have computed so far.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any, Generic

from cloud_server.generation.work import OnPhase, phases_told
from cloud_server.serving.ticket import JobT, ResultT, Ticket
from shared_protocol.errors import InternalError
from shared_protocol.messages import OnStep

RunJobs = Callable[[Sequence[JobT], OnStep], Sequence[ResultT]]
_numbers = itertools.count()


class AbandonedError(Exception):
    """Raised inside the worker to stop a batch that nobody waits for."""


class Run(Generic[JobT, ResultT]):
    """A batch under way.

    Args:
        batch: its tickets.
        stopped: whether all work is to end now; asked on the worker's thread.

    Attributes:
        should_rest: set on the event loop; the worker rests at its next step.
        used: seconds that it has computed, up to its last rest.
    """

    def __init__(self, batch: Sequence[Ticket[JobT, ResultT]], stopped: Callable[[], bool]) -> None:
        self.batch = batch
        self.number = next(_numbers)
        self.should_rest = False
        self.used = 0.0
        self._stopped = stopped
        self._since = time.monotonic()
        self._go = threading.Event()
        self._go.set()

    @property
    def owners(self) -> set[str]:
        """Whose jobs it holds."""
        return {ticket.owner for ticket in self.batch}

    @property
    def lost(self) -> bool:
        """Whether nobody waits for any of it."""
        return all(ticket.lost for ticket in self.batch)

    @property
    def unwanted(self) -> bool:
        """Whether it is to end at its next step."""
        wanted_until = max(ticket.wanted_until for ticket in self.batch)
        return self._stopped() or wanted_until < time.monotonic()

    def lap(self) -> float:
        """Seconds computed since this was asked last."""
        now = time.monotonic()
        seconds, self._since = now - self._since, now
        self.used += seconds
        return seconds

    def resume(self) -> None:
        """Let the worker go on."""
        self.should_rest = False
        self._since = time.monotonic()
        self._go.set()

    async def compute(
        self,
        worker: Executor,
        run: RunJobs[JobT, ResultT],
        batch: Sequence[Ticket[JobT, ResultT]],
        stepped: Callable[[Run[JobT, ResultT]], None],
        rested: Callable[[Run[JobT, ResultT]], None],
    ) -> Sequence[ResultT]:
        """The results of some of its tickets.

        Args:
            worker: has a thread free for every run.
            run: see `Batcher`.
            batch: all of its tickets, or one that is tried alone.
            stepped: called on the event loop after each step.
            rested: called on the event loop when the worker rests.

        Raises:
            AbandonedError: nobody wants them any more.
        """
        loop = asyncio.get_running_loop()

        def report(step: int, total: int) -> None:
            for ticket in batch:
                ticket.report(step, total)
            stepped(self)

        def on_step(step: int, total: int) -> None:
            self._stop_if_unwanted()
            loop.call_soon_threadsafe(report, step, total)
            if self.should_rest:
                self._go.clear()
                loop.call_soon_threadsafe(rested, self)
                self._go.wait()
                self._stop_if_unwanted()

        def work() -> Sequence[ResultT]:
            self._stop_if_unwanted()
            with phases_told(_noting(batch)):
                results = run([ticket.job for ticket in batch], on_step)
            if len(results) != len(batch):
                raise InternalError(f"{len(batch)} jobs gave {len(results)} results")
            return results

        return await loop.run_in_executor(worker, work)

    def _stop_if_unwanted(self) -> None:
        if self.unwanted:
            raise AbandonedError


def _noting(batch: Sequence[Ticket[Any, Any]]) -> OnPhase | None:
    """What notes the phases of a batch in those of its tickets that want to know them."""
    phases = [ticket.phases for ticket in batch if ticket.phases is not None]

    def note(name: str) -> None:
        now = time.monotonic()
        for each in phases:
            each.append((name, now))

    return note if phases else None
