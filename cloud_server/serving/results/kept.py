"""Work that has a name: shared while it is under way, kept when it is done, found and ended by it.

It does not know HTTP, nor how work is done. A name is a client's Idempotency-Key with its owner, or
a conversation's turn; HTTP.md has the rule ("Work that loses its client").
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable

from cloud_server.generation.work import Result, Work
from cloud_server.serving.results.cache import ResultCache, ResultKey
from cloud_server.serving.results.store import ResultStore
from cloud_server.serving.ticket import Ticket
from cloud_server.settings import Settings
from shared_protocol.errors import InvalidInputError
from shared_protocol.http.contract import IDEMPOTENCY_KEY
from shared_protocol.message.parameters import request_digest
from shared_protocol.messages import Request

EngineTicket = Ticket[Work, Result]


class KeptWork:
    """Named work of one server.

    Args:
        settings: how much is kept, where, and for how long.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._results = ResultCache(
            settings.cache_entries, settings.cache_bytes, settings.cache_ttl
        )
        self._store: ResultStore | None = None
        self._shared: dict[ResultKey, EngineTicket] = {}
        self._asked: OrderedDict[str, Request] = OrderedDict()

    def open(self, fingerprint: bytes) -> None:
        """Open what is kept on disk, of the bundle of that fingerprint.

        Raises:
            ConfigError: it cannot be used.
        """
        settings = self._settings
        if settings.results_folder is not None:
            self._store = ResultStore(
                settings.results_folder, fingerprint, settings.results_bytes, settings.cache_ttl
            )

    async def close(self) -> None:
        """Finish writing."""
        store, self._store = self._store, None
        if store is not None:
            await store.close()

    def check_same(self, name: str, request: Request) -> None:
        """Refuse a name that is of other work, which is under way or done.

        Raises:
            InvalidInputError: it is.
        """
        asked = self._asked.get(name)
        if asked is None or request_digest(asked) == request_digest(request):
            return
        place = name, request_digest(asked)
        ticket = self._shared.get(place)
        if self._results.get(place) is not None or (ticket is not None and not ticket.failed):
            raise InvalidInputError(
                f"this {IDEMPOTENCY_KEY} was used for another request", "choose a new key for it"
            )

    async def known(self, key: ResultKey, request: Request) -> Result | None:
        """The result of `request`, made before by this process or one before it."""
        self._remember(key[0], request)
        found = self._results.get(key)
        if found is None and self._store is not None and key not in self._shared:
            found = await self._store.get(key)
            if found is not None:
                self._results.put(key, found)
        return found

    def ticket(
        self, key: ResultKey, submit: Callable[[], EngineTicket]
    ) -> tuple[EngineTicket, bool]:
        """The ticket of this very work, if it is under way, else a new one; whether it was."""
        ticket = self._shared.get(key)
        shared = ticket is not None and not ticket.failed
        if ticket is None or ticket.failed:
            ticket = self._shared[key] = submit()
            ticket.done.add_done_callback(lambda done: self._keep(key, done))
        # A client that comes back finds its work, though the link or its time has ended.
        ticket.keep_s = self._settings.keep_lost
        return ticket, shared

    def find(self, name: str) -> tuple[Request, Result | EngineTicket] | None:
        """What was asked under a name, and its result or its ticket; None if it is forgotten."""
        request = self._asked.get(name)
        if request is None:
            return None
        place = name, request_digest(request)
        ticket = self._shared.get(place)
        if ticket is not None and not ticket.failed and not ticket.done.done():
            return request, ticket
        result = self._results.get(place)
        return None if result is None else (request, result)

    def cancel(self, name: str) -> bool:
        """End such work at its next step and forget its result; whether there was any."""
        request = self._asked.pop(name, None)
        if request is None:
            return False
        place = name, request_digest(request)
        ticket = self._shared.get(place)
        if ticket is not None:
            ticket.cancel()
        if self._store is not None:
            self._store.forget(place)
        return self._results.forget(place) or ticket is not None

    def _remember(self, name: str, request: Request) -> None:
        """Note what was asked, so that its result can be coded for it later."""
        self._asked[name] = request
        self._asked.move_to_end(name)
        while len(self._asked) > self._settings.cache_entries + self._settings.max_inflight:
            self._asked.popitem(last=False)

    def _keep(self, key: ResultKey, done: asyncio.Future[Result]) -> None:
        ticket = self._shared.get(key)
        if ticket is not None and ticket.done is done:
            del self._shared[key]
        if not done.cancelled() and done.exception() is None:
            self._results.put(key, done.result())
            if self._store is not None:
                self._store.put(key, done.result())
