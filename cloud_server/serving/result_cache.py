"""Results kept for a while, so that a retry with the same Idempotency-Key costs no model time.

It does not know how a result is made or sent; the reply's coder is no part of a result.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from cloud_server.generation import engine
from shared_protocol.messages import Request

ResultKey = tuple[str, bytes]
"""(Idempotency-Key, digest of the request)."""

_OVERHEAD_BYTES = 512


def request_digest(request: Request) -> bytes:
    """SHA-256 of all that decides the result of `request`: everything but `options.reply`."""
    options = request.options
    knobs = (options.steps, options.guidance, options.seed, options.max_new_tokens)
    sides = request.extension.sides if request.extension else None
    digest = hashlib.sha256(repr((int(request.task), knobs, sides)).encode())
    image = request.image.codes if request.image else None
    mask = request.mask.flags if request.mask else None
    dropped = request.dropped.flags if request.dropped else None
    for array in (request.text.ids, image, mask, dropped):
        shape = None if array is None else array.shape
        digest.update(f"|{shape}|".encode())
        digest.update(b"" if array is None else array.tobytes())
    return digest.digest()


def size_of(result: engine.Result) -> int:
    """Roughly the bytes of memory that keeping `result` takes."""
    kept = result.text_ids if isinstance(result, engine.AnswerResult) else result.codes
    return _OVERHEAD_BYTES + kept.nbytes


@dataclass(frozen=True)
class _Entry:
    result: engine.Result
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

    def get(self, key: ResultKey) -> engine.Result | None:
        """The result under `key` that has not expired."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.expires <= self._clock():
            self._remove(key)
            return None
        self._entries.move_to_end(key)
        return entry.result

    def put(self, key: ResultKey, result: engine.Result) -> None:
        """Keep `result`, at the cost of those used longest ago."""
        if key in self._entries:
            self._remove(key)
        entry = _Entry(result, size_of(result), self._clock() + self._ttl_s)
        self._entries[key] = entry
        self._bytes += entry.size
        while self._entries and self._is_too_full():
            self._remove(next(iter(self._entries)))

    def _is_too_full(self) -> bool:
        return len(self._entries) > self._max_entries or self._bytes > self._max_bytes

    def _remove(self, key: ResultKey) -> None:
        self._bytes -= self._entries.pop(key).size
