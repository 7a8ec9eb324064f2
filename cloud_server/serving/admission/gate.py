"""Counts who is in, from the first byte of a request to the last of its reply, by owner.

It does not know what is asked. An owner is a key's name, or an address where there are no keys.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from shared_protocol.errors import OverloadedError

_MOST_REMEMBERED = 4096


class Gate:
    """Lets requests, or conversations, in, as long as their owner and all together have room.

    Args:
        most_of_one: requests of one owner that are in at once.
        most: of all owners.
        retry_after: given an owner, seconds after which there should be room.
    """

    def __init__(self, most_of_one: int, most: int, retry_after: Callable[[str], float]) -> None:
        self._most_of_one = most_of_one
        self._most = most
        self._retry_after = retry_after
        self._inside: Counter[str] = Counter()

    @property
    def inside(self) -> int:
        """Requests that are in."""
        return self._inside.total()

    @contextmanager
    def passed(self, owner: str) -> Iterator[None]:
        """Be in.

        Raises:
            OverloadedError: there is no room.
        """
        if self._inside[owner] >= self._most_of_one:
            raise self._full(owner, f"{self._inside[owner]} of yours are being served already")
        if self.inside >= self._most:
            raise self._full(owner, f"{self.inside} are being served already")
        self._inside[owner] += 1
        try:
            yield
        finally:
            self._inside[owner] -= 1
            if not self._inside[owner]:
                del self._inside[owner]

    def _full(self, owner: str, fault: str) -> OverloadedError:
        return OverloadedError(fault, "retry later", self._retry_after(owner))


class Tarpit:
    """Makes an owner wait whose requests are wrong again and again.

    To read and refuse costs little, and enough of it keeps the server from others.

    Args:
        most: faults that an owner may make at once.
        longest_s: the longest wait.
        per_s: faults a second that it may make on and on.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        most: float,
        longest_s: float,
        per_s: float = 40.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most, self._per_s, self._longest_s = most, per_s, longest_s
        self._clock = clock
        self._faults: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def fault(self, owner: str) -> float:
        """Count a fault; returns the seconds after which the owner is to be told of it."""
        now = self._clock()
        count, at = self._faults.pop(owner, (0.0, now))
        count = max(0.0, count - (now - at) * self._per_s) + 1.0
        self._faults[owner] = count, now
        while len(self._faults) > _MOST_REMEMBERED:
            self._faults.popitem(last=False)
        return min(self._longest_s, max(0.0, (count - self._most) / self._per_s))
