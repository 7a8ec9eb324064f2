"""Sessions with the cloud that requests borrow, one request each at a time.

It does not know what is asked of them. A request about a picture gets the session that has it
already, if that is free: then no token of it travels again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from edge_client.exchange.coded_exchange import OnPreview
from edge_client.gateway.work.partials import MOST_REPORTS
from edge_client.session.session import Session
from shared_protocol.errors import WorkCancelledError
from shared_protocol.messages import OnStep

IDLE_S = 300.0
"""After so long without a turn the link of a session is closed; the next turn opens another."""
_LOOK_S = 0.25


@dataclass(eq=False)
class Seat:
    """One session of the pool.

    Attributes:
        session: it.
        busy: whether somebody has borrowed it.
        previews: whether its link brings intermediate tokens.
        used: when it was given back.
    """

    session: Session
    busy: bool = False
    previews: bool = False
    used: float = field(default_factory=time.monotonic)

    def listen(self, on_step: OnStep | None, on_preview: OnPreview | None) -> None:
        """Hear of the next turn that makes a picture, or nothing."""
        self.previews = on_preview is not None
        self.session.listen(on_step, on_preview, MOST_REPORTS)


class SessionPool:
    """At most so many sessions, made as they are needed.

    Args:
        make: makes a session.
        most: most at once.
    """

    def __init__(self, make: Callable[[], Session], most: int) -> None:
        self._make = make
        self._most = most
        self._seats: list[Seat] = []
        self._changed = threading.Condition()
        self._closed = False

    @property
    def counts(self) -> tuple[int, int]:
        """Sessions that are borrowed, and all of them."""
        with self._changed:
            return sum(seat.busy for seat in self._seats), len(self._seats)

    @contextmanager
    def borrow(
        self,
        wanted: Seat | None = None,
        previews: bool = False,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Iterator[Seat]:
        """A session for a block, waiting for one if all are borrowed.

        Args:
            wanted: the one to have if it is free.
            previews: whether intermediate tokens will be asked for.
            cancelled: asked while waiting.

        Raises:
            WorkCancelledError: nobody waits any more.
        """
        seat = self._take(wanted, previews, cancelled)
        try:
            yield seat
        finally:
            seat.session.forget()
            with self._changed:
                seat.busy, seat.used = False, time.monotonic()
                self._changed.notify_all()

    def close_idle(self) -> None:
        """Close links that were not used for a while."""
        with self._changed:
            late = time.monotonic() - IDLE_S
            idle = [seat for seat in self._seats if not seat.busy and seat.used < late]
            for seat in idle:
                seat.busy = True
        for seat in idle:
            seat.session.close()
        with self._changed:
            for seat in idle:
                seat.busy, seat.used = False, time.monotonic()
            self._changed.notify_all()

    def close(self) -> None:
        """Close all; whoever waits is told that it is over."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            seats = list(self._seats)
        for seat in seats:
            seat.session.close()

    def _take(self, wanted: Seat | None, previews: bool, cancelled: Callable[[], bool]) -> Seat:
        with self._changed:
            while True:
                if self._closed or cancelled():
                    raise WorkCancelledError("nobody waits for the answer any more")
                seat = self._free(wanted, previews)
                if seat is not None:
                    seat.busy = True
                    return seat
                self._changed.wait(_LOOK_S)

    def _free(self, wanted: Seat | None, previews: bool) -> Seat | None:
        if wanted is not None and wanted in self._seats and not wanted.busy:
            return wanted
        free = [seat for seat in self._seats if not seat.busy]
        alike = [seat for seat in free if seat.previews == previews]
        if not alike and len(self._seats) < self._most:
            self._seats.append(Seat(self._make(), previews=False))
            return self._seats[-1]
        # The one that was used last has its link open, most likely.
        return max(alike or free, key=lambda seat: seat.used, default=None)
