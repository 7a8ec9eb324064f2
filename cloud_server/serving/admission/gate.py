"""Counts who is in, from the first byte of a request to the last of its reply, by owner.

It does not know what is asked. An owner is a key's name, or an address where there are no keys.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from shared_protocol.errors import OverloadedError


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
