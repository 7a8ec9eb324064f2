"""Turns between owners: a clock of what each has used, and slots that go round.

An owner is a key's name, or an address where there are no keys. It does not know what is shared.

The clock is that of start-time fair queueing (Goyal, Vin and Cheng, 1996): whoever has used least
comes next, and an owner who was away comes back with a small credit, not with all that it missed.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Iterable

CREDIT_S = 1.0
"""What an owner who was away may use before it shares with others."""
_MOST_OWNERS = 4096


class FairClock:
    """How much of something each owner has used; for one thread.

    Args:
        credit_s: see `CREDIT_S`.
        most: owners that are remembered; beyond, those charged longest ago are forgotten.
    """

    def __init__(self, credit_s: float = CREDIT_S, most: int = _MOST_OWNERS) -> None:
        self._credit_s = credit_s
        self._most = most
        self._used: OrderedDict[str, float] = OrderedDict()
        self._now = 0.0

    def used(self, owner: str) -> float:
        """What it has used, in seconds; less than another's means that it is its turn."""
        return max(self._used.get(owner, 0.0), self._now - self._credit_s)

    def charge(self, owner: str, seconds: float) -> None:
        """Count what an owner has used."""
        self._used[owner] = self.used(owner) + seconds
        self._used.move_to_end(owner)
        while len(self._used) > self._most:
            self._used.popitem(last=False)

    def follow(self, owners: Iterable[str]) -> None:
        """Let the time of all be that of whoever has used least of those who want something."""
        least = min((self.used(owner) for owner in owners), default=self._now)
        self._now = max(self._now, least)


class FairSlots:
    """A number of slots; owners who wait for one get it in turn. For one event loop.

    Args:
        slots: how many may be held at once.
    """

    def __init__(self, slots: int) -> None:
        self._free = slots
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    async def take(self, owner: str) -> None:
        """Wait for a slot and take it; whoever takes one gives it back."""
        if self._free and not self._waiting:
            self._free -= 1
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(owner, deque()).append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self._free += 1
            self._pass_on()
            raise

    def give_back(self) -> None:
        """Let others have a slot that was taken."""
        self._free += 1
        self._pass_on()

    def _pass_on(self) -> None:
        """Give free slots to those who wait, one to each owner before any gets a second."""
        while self._free and self._waiting:
            owner, places = self._waiting.popitem(last=False)
            while places and places[0].done():
                places.popleft()
            if not places:
                continue
            places.popleft().set_result(None)
            self._free -= 1
            if places:
                self._waiting[owner] = places
