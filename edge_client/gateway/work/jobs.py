"""Requests under way: their work in threads, what it tells meanwhile, retries that join it.

It knows neither sessions nor HTTP. A client that gives up ends its work; one that says it will try
again is waited for, so that the model runs once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

from edge_client.gateway.refused import RefusedError
from edge_client.session.session import Session
from shared_protocol.errors import WorkCancelledError

KEPT_S = 120.0
"""How long the result of a request stands ready for a retry."""
_CANCEL_EVERY_S = 0.2
_MOST_KEPT = 64


class Telling:
    """What work in a thread says of itself, and hears.

    Args:
        say: told each event.
    """

    def __init__(self, say: Callable[[Any], None]) -> None:
        self._say = say
        self._sessions: set[Session] = set()
        self.cancelled = False

    def say(self, event: Any) -> None:
        """Tell those who follow."""
        self._say(event)

    def stop_if_cancelled(self) -> None:
        """Raise `WorkCancelledError` if nobody waits."""
        if self.cancelled:
            raise WorkCancelledError("nobody waits for the answer any more")

    def uses(self, session: Session) -> None:
        """From now on `session` is cancelled with this work."""
        self._sessions.add(session)

    def leaves(self, session: Session) -> None:
        """No longer."""
        self._sessions.discard(session)

    def cancel(self) -> None:
        """End the turns that it waits for just now."""
        self.cancelled = True
        for session in list(self._sessions):
            session.cancel()


Function = Callable[[Telling], Any]


class Job:
    """One request's work; several may follow it."""

    def __init__(self, function: Function, threads: ThreadPoolExecutor) -> None:
        self._loop = asyncio.get_running_loop()
        self._events: list[Any] = []
        self._changed = asyncio.Event()
        self._telling = Telling(self._heard)
        own = copy_context()  # says where the request comes from
        self._future = self._loop.run_in_executor(threads, own.run, function, self._telling)
        self._future.add_done_callback(lambda _: self._changed.set())
        self._followers = 0
        self._ending: asyncio.Task[None] | None = None
        self.ended = 0.0
        self._future.add_done_callback(self._note_end)

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self._future.done()

    @property
    def failed(self) -> bool:
        """Whether it has ended without a result."""
        return self.done and (self._future.cancelled() or self._future.exception() is not None)

    async def result(self) -> Any:
        """What it returns; raises what it raises."""
        return await asyncio.shield(self._future)

    async def events(self) -> AsyncIterator[Any]:
        """All events from the first on; raises what the work raises, at the end."""
        place = 0
        while True:
            while place < len(self._events):
                place += 1
                yield self._events[place - 1]
            if self.done and place == len(self._events):
                await self.result()
                return
            self._changed.clear()
            if not self.done and place == len(self._events):
                await self._changed.wait()

    def follow(self) -> None:
        """One more waits for it."""
        self._followers += 1

    def leave(self, patience: float) -> None:
        """One less; the last one's leaving ends it after so many seconds, unless one comes."""
        self._followers -= 1
        if self._followers == 0 and not self.done:
            self._ending = self._loop.create_task(self._end(patience))

    def cancel(self) -> None:
        """End it."""
        self._telling.cancelled = True
        if self._ending is None or self._ending.done():
            self._ending = self._loop.create_task(self._end(0.0))

    async def _end(self, patience: float) -> None:
        await asyncio.sleep(patience)
        # A cancel between two turns means nothing, so that it is said until it is heard.
        while not self.done and (self._followers == 0 or self._telling.cancelled):
            await self._loop.run_in_executor(None, self._telling.cancel)
            await asyncio.sleep(_CANCEL_EVERY_S)

    def _heard(self, event: Any) -> None:
        self._loop.call_soon_threadsafe(self._add, event)

    def _add(self, event: Any) -> None:
        self._events.append(event)
        self._changed.set()

    def _note_end(self, _: object) -> None:
        self.ended = time.monotonic()
        if not self._future.cancelled():
            self._future.exception()  # asked for, so that nobody warns of it


class Jobs:
    """All requests under way.

    Args:
        most: most at once, those that wait for a session included.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._threads = ThreadPoolExecutor(most, "gateway")
        self._jobs: dict[str, Job] = {}
        self._running: set[Job] = set()

    @property
    def count(self) -> int:
        """Requests under way."""
        self._running = {job for job in self._running if not job.done}
        return len(self._running)

    def begin(self, key: str, retry: bool, function: Function) -> Job:
        """Begin work, or join what an earlier attempt of the same request began.

        Args:
            key: equal for equal requests.
            retry: whether the client says that it has asked before.
            function: does the work, in a thread.

        Raises:
            RefusedError: there are too many.
        """
        self._forget_old()
        before = self._jobs.get(key)
        if retry and before is not None and not before.failed:
            return before
        if self.count >= self._most:
            raise RefusedError(
                f"{self._most} requests are under way, the most that this gateway takes "
                "(--sessions and --queue)",
                None,
                "gateway_full",
                429,
                {"retry-after": "2"},
            )
        job = Job(function, self._threads)
        self._running.add(job)
        self._jobs.pop(key, None)
        self._jobs[key] = job
        return job

    def close(self) -> None:
        """End all."""
        for job in self._running:
            job.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _forget_old(self) -> None:
        late = time.monotonic() - KEPT_S
        kept = {k: job for k, job in self._jobs.items() if not job.done or job.ended > late}
        self._jobs = dict(list(kept.items())[-_MOST_KEPT:])
