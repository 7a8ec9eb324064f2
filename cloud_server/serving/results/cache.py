"""Results kept for a while, so that a retry with the same Idempotency-Key costs no model time.

It does not know how a result is made or sent; the reply's coder is no part of a result.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from cloud_server.generation.work import AnswerResult, LabelsResult, Result

ResultKey = tuple[str, bytes]
"""(what names the work, `message.parameters.request_digest`)."""

_OVERHEAD_BYTES = 512
_LABEL_BYTES = 128


def size_of(result: Result) -> int:
    """Roughly the bytes of memory that keeping `result` takes."""
    if isinstance(result, LabelsResult):
        return _OVERHEAD_BYTES + sum(_LABEL_BYTES + len(name) for name in result.ranking.names)
    kept = result.text_ids if isinstance(result, AnswerResult) else result.codes
    return _OVERHEAD_BYTES + kept.nbytes


@dataclass(frozen=True)
class _Entry:
    result: Result
    size: int
    expires: float


class ResultCache:
    """Least-recently-used results, bounded by count, bytes and age; for one thread.

    Args:
        max_entries: most results; 0 keeps none.
        max_bytes: most memory.
        ttl_s: seconds that a result is kept.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        max_entries: int,
        max_bytes: int,
        ttl_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._ttl_s = ttl_s
        self._clock = clock
        self._entries: OrderedDict[ResultKey, _Entry] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: ResultKey) -> Result | None:
        """The result under `key` that has not expired."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.expires <= self._clock():
            self._remove(key)
            return None
        self._entries.move_to_end(key)
        return entry.result

    def put(self, key: ResultKey, result: Result) -> None:
        """Keep `result`, at the cost of those used longest ago."""
        if key in self._entries:
            self._remove(key)
        entry = _Entry(result, size_of(result), self._clock() + self._ttl_s)
        self._entries[key] = entry
        self._bytes += entry.size
        while self._entries and self._is_too_full():
            self._remove(next(iter(self._entries)))

    def forget(self, key: ResultKey) -> bool:
        """Keep the result under `key` no longer; whether there was one."""
        found = key in self._entries
        if found:
            self._remove(key)
        return found

    def _is_too_full(self) -> bool:
        return len(self._entries) > self._max_entries or self._bytes > self._max_bytes

    def _remove(self, key: ResultKey) -> None:
        self._bytes -= self._entries.pop(key).size
