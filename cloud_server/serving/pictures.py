"""Pictures of conversations, kept for a while so that a new connection may name them.

It does not know connections. A picture is found by the owner that brought it and by nobody else:
a name under another owner is as unknown as one that there never was.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from shared_protocol.session.state import KnownPicture

_OVERHEAD_BYTES = 512

Place = tuple[str, bytes]
"""(owner, name of the picture)."""


@dataclass
class _Entry:
    picture: KnownPicture
    size: int
    expires: float


class PictureStore:
    """Least-recently-used pictures, bounded by bytes and by age; for one thread.

    Args:
        owner_bytes: most memory for the pictures of one owner.
        total_bytes: most memory in all.
        ttl_s: seconds after its last use that a picture is kept.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        owner_bytes: int,
        total_bytes: int,
        ttl_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._owner_bytes = owner_bytes
        self._total_bytes = total_bytes
        self._ttl_s = ttl_s
        self._clock = clock
        self._entries: OrderedDict[Place, _Entry] = OrderedDict()
        self._owners: dict[str, int] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def size(self) -> int:
        """Bytes that are kept, about."""
        return self._bytes

    def get(self, owner: str, name: bytes) -> KnownPicture | None:
        """The owner's picture of that name, if it is still here."""
        self._forget_old()
        entry = self._entries.get((owner, name))
        if entry is None:
            return None
        self._use((owner, name), entry)
        return entry.picture

    def put(self, owner: str, picture: KnownPicture) -> None:
        """Keep a picture, at the cost of those used longest ago."""
        self._forget_old()
        place = owner, picture.name
        self._remove(place)
        tokens = picture.tokens
        size = _OVERHEAD_BYTES + tokens.codes.nbytes + tokens.flags.nbytes
        self._use(place, _Entry(picture, size, 0.0))
        self._bytes += size
        self._owners[owner] = self._owners.get(owner, 0) + size
        while self._owners.get(owner, 0) > self._owner_bytes:
            self._remove(next(each for each in self._entries if each[0] == owner))
        while self._bytes > self._total_bytes:
            self._remove(next(iter(self._entries)))

    def clear(self) -> None:
        """Forget everything."""
        for place in list(self._entries):
            self._remove(place)

    def _use(self, place: Place, entry: _Entry) -> None:
        entry.expires = self._clock() + self._ttl_s
        self._entries[place] = entry
        self._entries.move_to_end(place)

    def _forget_old(self) -> None:
        """All entries live equally long, so that those used longest ago end first."""
        now = self._clock()
        while self._entries:
            place, entry = next(iter(self._entries.items()))
            if entry.expires > now:
                return
            self._remove(place)

    def _remove(self, place: Place) -> None:
        entry = self._entries.pop(place, None)
        if entry is None:
            return
        self._bytes -= entry.size
        left = self._owners[place[0]] - entry.size
        if left:
            self._owners[place[0]] = left
        else:
            del self._owners[place[0]]
