"""Results on disk, so that a retry after a restart costs no model time.

It does not know requests: a result is found by the digest of what names it and of what was asked,
under the bundle that it was made with. The file is SQLite's, in a folder that only the server's
user may read; it is bounded in size and in age, and whole whenever the process is killed.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from cloud_server.generation.work import AnswerResult, LabelsResult, PictureResult, Result
from cloud_server.serving.results.cache import ResultKey
from shared_protocol.errors import ConfigError, InvalidInputError
from shared_protocol.labels import LabelSet, Ranking

logger = logging.getLogger(__name__)

FILE = "results.sqlite3"
_MADE = """
create table if not exists results (
    name blob primary key, made real not null, size integer not null, result blob not null
) without rowid;
create index if not exists by_age on results (made);
"""
_ANSWER, _PICTURE, _LABELS = 0, 1, 2


class ResultStore:
    """Results in a file; all calls are made on one event loop, all SQL on one thread.

    Args:
        folder: is made if it is not there, for this user only.
        fingerprint: of the bundle; results of others are not found.
        max_bytes: most bytes of results; the oldest go first.
        ttl_s: seconds that a result is kept.
        clock: seconds since 1970, which go on while the server is down.

    Raises:
        ConfigError: the folder or its file cannot be used.
    """

    def __init__(
        self,
        folder: Path,
        fingerprint: bytes,
        max_bytes: int,
        ttl_s: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._fingerprint = fingerprint
        self._max_bytes = max_bytes
        self._ttl_s = ttl_s
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="results")
        self._base = self._thread.submit(_open, folder).result()
        self._failed = False

    async def get(self, key: ResultKey) -> Result | None:
        """The result under `key` that has not expired; None, too, where the disk fails."""
        found: Result | None = await self._begin(self._get, self._name(key))
        return found

    def put(self, key: ResultKey, result: Result) -> None:
        """Keep `result`; returns before that is done."""
        self._begin(self._put, self._name(key), _packed(result))

    def forget(self, key: ResultKey) -> None:
        """Keep it no longer; returns before that is done."""
        self._begin(self._forget, self._name(key))

    async def close(self) -> None:
        """Finish what was begun, and let go of the file."""
        await self._begin(self._base.close)
        self._thread.shutdown(wait=False)

    def _name(self, key: ResultKey) -> bytes:
        """A digest: whoever reads the file learns no key."""
        named = hashlib.sha256(self._fingerprint)
        named.update(hashlib.sha256(key[0].encode()).digest() + key[1])
        return named.digest()

    def _begin(self, work: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """Run SQL after all that was begun before: what was put is there for whoever asks next."""
        return asyncio.get_running_loop().run_in_executor(self._thread, self._run, work, *args)

    def _run(self, work: Callable[..., Any], *args: Any) -> Any:
        """On the thread; a disk that fails costs retries, and no request."""
        try:
            found = work(*args)
            self._failed = False
            return found
        except (sqlite3.Error, OSError) as error:
            if not self._failed:
                logger.error("results are not kept on disk: %s", error)
            self._failed = True
            return None

    def _get(self, name: bytes) -> Result | None:
        query = "select result from results where name = ? and made > ?"
        row = self._base.execute(query, (name, self._clock() - self._ttl_s)).fetchone()
        return None if row is None else _unpacked(row[0])

    def _put(self, name: bytes, packed: bytes) -> None:
        now = self._clock()
        with self._base:
            self._base.execute(
                "insert or replace into results values (?, ?, ?, ?)",
                (name, now, len(packed), packed),
            )
            self._base.execute("delete from results where made <= ?", (now - self._ttl_s,))
            # Of the newest that fit together: whatever is older goes.
            self._base.execute(
                "delete from results where name in (select name from (select name, "
                "sum(size) over (order by made desc, name) as so_far from results) "
                "where so_far > ?)",
                (self._max_bytes,),
            )

    def _forget(self, name: bytes) -> None:
        with self._base:
            self._base.execute("delete from results where name = ?", (name,))


def _open(folder: Path) -> sqlite3.Connection:
    file = folder / FILE
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_mode & 0o077:
            raise ConfigError(
                f"others may look into {folder}", f"'chmod 700 {folder}', or name another folder"
            )
        os.close(os.open(file, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600))
        base = sqlite3.connect(file, timeout=5.0)
        base.execute("pragma journal_mode = wal")
        base.execute("pragma synchronous = normal")
        base.execute("pragma auto_vacuum = incremental")
        base.executescript(_MADE)
        return base
    except (OSError, sqlite3.Error) as error:
        raise ConfigError(
            f"cannot keep results in {folder}: {error}",
            f"remove {file}, or name another folder with --results-folder",
        ) from error


def _packed(result: Result) -> bytes:
    if isinstance(result, AnswerResult):
        said = [_ANSWER, result.text_ids.tolist(), result.finished]
    elif isinstance(result, LabelsResult):
        found = result.ranking
        of = [found.of.fingerprint, found.of.count]
        said = [_LABELS, of, [found.numbers, found.levels, found.names]]
    else:
        said = [_PICTURE, list(result.codes.shape), result.codes.astype("<u4").tobytes()]
    packed: bytes = msgpack.packb(said)
    return packed


def _unpacked(packed: bytes) -> Result | None:
    """The mirror of `_packed`; None for what no server of this version has written."""
    try:
        kind, first, second = msgpack.unpackb(packed)
        if kind == _ANSWER:
            return AnswerResult(np.array(first, dtype=np.int64), bool(second))
        if kind == _LABELS:
            return LabelsResult(Ranking(LabelSet(*first), *map(tuple, second)))
        codes = np.frombuffer(second, dtype="<u4").reshape(first)
        return PictureResult(codes.astype(np.int64))
    except (ValueError, TypeError, InvalidInputError, msgpack.UnpackException):
        return None
