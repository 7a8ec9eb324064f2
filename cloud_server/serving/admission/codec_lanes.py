"""Threads that decode and encode: a fast lane in turns between owners, and a slow one for the rest.

It does not know what a message is. Large pictures are decoded one at a time, on a thread that
yields to all others, so that nobody who sends small ones waits for them.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from cloud_server.serving.admission.fairness import FairSlots
from shared_protocol.messages import Admit, Claims

T = TypeVar("T")
LIGHT_PICTURES = 4
"""Pictures of the bundle's own size whose tokens the fast lane still decodes."""
_NICENESS = 15


class _TooMuchForThisLaneError(Exception):
    """Not an error of the message: it goes on in the slow lane."""


class CodecLanes:
    """Runs what would keep the event loop from other requests.

    Args:
        threads: of the fast lane.
    """

    def __init__(self, threads: int) -> None:
        self._fast = ThreadPoolExecutor(threads, thread_name_prefix="codec")
        self._slow = ThreadPoolExecutor(1, thread_name_prefix="slow-codec", initializer=_yield_cpu)
        self._fast_slots, self._slow_slots = FairSlots(threads), FairSlots(1)

    async def run(self, owner: str, work: Callable[..., T], *args: Any) -> T:
        """Run `work` in the fast lane, when it is the owner's turn."""
        return await _on(self._fast, self._fast_slots, owner, work, *args)

    async def decode(
        self, owner: str, tokens: int, check: Admit, decode: Callable[[Admit], T]
    ) -> T:
        """Run `decode` in the lane that fits.

        Args:
            owner: whose turn it takes.
            tokens: of a picture of the bundle's own size.
            check: refuses by what a request claims to be.
            decode: given `check`, which it calls before it decodes symbols; maybe called twice.
        """

        def light(claims: Claims) -> None:
            check(claims)
            if claims.grid[0] * claims.grid[1] > LIGHT_PICTURES * tokens:
                raise _TooMuchForThisLaneError

        try:
            return await _on(self._fast, self._fast_slots, owner, decode, light)
        except _TooMuchForThisLaneError:
            return await _on(self._slow, self._slow_slots, owner, decode, check)

    def close(self) -> None:
        """Let go of the threads; what waits is not run."""
        for lane in (self._fast, self._slow):
            lane.shutdown(wait=False, cancel_futures=True)


async def _on(
    lane: ThreadPoolExecutor, slots: FairSlots, owner: str, work: Callable[..., T], *args: Any
) -> T:
    await slots.take(owner)
    running = asyncio.get_running_loop().run_in_executor(lane, work, *args)
    # Until the thread is free, whether or not somebody still waits: what is cut short must not
    # take the place of others' work.
    running.add_done_callback(lambda _: slots.give_back())
    return await asyncio.shield(running)


def _yield_cpu() -> None:
    """Let all other threads go first, where the system can say so of one thread."""
    with suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
