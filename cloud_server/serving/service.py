"""Takes one message through decode, queue, model and encode.

It does not know HTTP: bodies come in as bytes and go out as bytes, progress as pairs of numbers.

::

    bytes ─ check, decode ─► Request ─ price ─► work queue ─► engine ─► Response ─ encode ─► bytes
             codec lanes                │       (passed in)              │       codec lanes
                                        └── Idempotency-Key known? ◄── results
All between two counts of `admission.gate`: whoever is let in is served in time, others are told.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from dataclasses import asdict
from functools import partial
from typing import Any, TypeVar

from cloud_server.generation.work import Result, Watch, Work
from cloud_server.keys import NOBODY, Keyring
from cloud_server.serving.admission.codec_lanes import CodecLanes
from cloud_server.serving.admission.gate import Gate, Tarpit
from cloud_server.serving.admission.price import check_price, most_work, price_of
from cloud_server.serving.admission.rate_limits import REQUESTS, TOKENS, RateLimits, limits_by
from cloud_server.serving.loaded_model import LoadedModel
from cloud_server.serving.results.found import FoundJob
from cloud_server.serving.results.kept import EngineTicket, KeptWork
from cloud_server.serving.telemetry.metrics import Metrics, Trace
from cloud_server.serving.ticket import Ticket, WorkQueue, spans_of
from cloud_server.serving.translation import (
    batch_key,
    check_claims,
    check_labelled,
    check_request,
    expected_steps,
    to_response,
    to_work,
    tokens_down,
    tokens_up,
)
from cloud_server.settings import Settings
from shared_protocol.errors import OverloadedError, UnimicError
from shared_protocol.message.codec import decode_request, encode_response
from shared_protocol.message.parameters import request_digest
from shared_protocol.messages import Admit, Claims, Request, Response

logger = logging.getLogger(__name__)

T = TypeVar("T")
EngineQueue = WorkQueue[Work, Result]
MakeQueue = Callable[[LoadedModel, Callable[[int], None]], EngineQueue]
"""From a loaded model, and who is told the size of every batch, to a queue that has not begun."""
_LOADING_RETRY_S = 2.0


class Service:
    """Serves messages once its model is loaded.

    Args:
        settings: limits and times.
        load: loads and warms the model; called once, on a thread of its own.
        make_queue: makes the queue in front of the model, once that is loaded.
    """

    def __init__(
        self, settings: Settings, load: Callable[[], LoadedModel], make_queue: MakeQueue
    ) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.keyring = Keyring(settings.api_key, settings.api_keys)
        self.rates = RateLimits(limits_by(settings, self.keyring), self.metrics.observe_limited)
        self._load = load
        self._model: LoadedModel | None = None
        self._make_queue = make_queue
        self._queue: EngineQueue | None = None
        self._loading: asyncio.Task[None] | None = None
        self._stopping = False
        self._gate = Gate(
            settings.max_queue + max(1, settings.max_batch),
            settings.max_inflight,
            self._retry_after,
        )
        self._wrong, self._early = Tarpit(50, 0.25), Tarpit(300, 4.0)
        self._codecs = CodecLanes(settings.codec_threads)
        self.kept = KeptWork(settings)

    async def start(self) -> None:
        """Begin to load the model; `ready()` tells when it is there."""
        self._loading = asyncio.create_task(self._prepare())
        self._loading.add_done_callback(_note_failure)

    async def ready(self) -> None:
        """Wait until the model is loaded and warm; raises what kept it from loading."""
        assert self._loading is not None, "start() comes first"
        await asyncio.shield(self._loading)

    async def _prepare(self) -> None:
        model = await asyncio.to_thread(self._load)
        self.kept.open(model.bundle.fingerprint)
        self._queue = self._make_queue(model, self.metrics.observe_batch)
        self._queue.start()
        self._model = model

    @property
    def state(self) -> str:
        """One of "loading", "ready" and "stopping"."""
        if self._stopping:
            return "stopping"
        return "loading" if self._model is None else "ready"

    @property
    def model(self) -> LoadedModel:
        """The loaded model.

        Raises:
            OverloadedError: it is still being loaded.
        """
        if self._model is None:
            raise OverloadedError("the model is being loaded", "retry", _LOADING_RETRY_S)
        return self._model

    @property
    def queue_depth(self) -> int:
        """Requests that wait for the model."""
        return self._queue.depth if self._queue else 0

    @property
    def inflight(self) -> int:
        """Requests being served."""
        return self._gate.inside

    def refuse(self) -> None:
        """Take no more requests and refuse those that wait; what runs goes on."""
        self._stopping = True
        if self._queue:
            self._queue.refuse()

    def stop_now(self) -> None:
        """Make a running batch end at its next step; may be called from a signal handler."""
        if self._queue:
            self._queue.stop_now()

    async def drain(self, grace_s: float) -> None:
        """`refuse`, and stop what still runs after `grace_s` seconds."""
        self.refuse()
        if self._queue:
            await self._queue.close(grace_s)

    async def close(self, grace_s: float) -> None:
        """`drain`, and let go of all threads."""
        await self.drain(grace_s)
        if self._loading:
            self._loading.cancel()
        self._codecs.close()
        await self.kept.close()

    def owner(self, authorization: str | None) -> str:
        """Whose key an Authorization header holds; "" where no key is asked for.

        Raises:
            UnauthorizedError: it holds none of the keys.
        """
        return self.keyring.owner(authorization) if self.keyring.asks else NOBODY

    def check_open(self, party: str = "") -> None:
        """Tell early whether a request would be refused whatever it says.

        Args:
            party: whose turns it takes, see `party_of`.

        Raises:
            OverloadedError: loading, stopping, or no room in the queue.
        """
        if self._stopping:
            raise OverloadedError("the server is stopping", "retry", _LOADING_RETRY_S)
        _ = self.model
        assert self._queue is not None, "made together with the model"
        self._queue.check_room(party)

    @contextmanager
    def admission(self, party: str = "", owner: str = NOBODY) -> Iterator[None]:
        """Count a request in, from its first byte to the end of its encoding.

        Raises:
            OverloadedError: too many are in already, or `check_open` says so.
            RateLimitError: the key, whose name is `owner`, has asked too often in a minute.
        """
        self.check_open(party)
        with self._gate.passed(party), self._counted(owner, REQUESTS):
            yield

    def _counted(self, owner: str, limit: str, amount: int = 1) -> AbstractContextManager[None]:
        return self.rates.taken(owner, limit, amount) if owner else nullcontext()

    def patience_with(self, party: str, error: UnimicError) -> float:
        """Seconds after which a party is told of an error; more than 0 for too many of them.

        To be refused for want of room is no fault, unless one asks again and again before the time.
        """
        tarpit = self._early if isinstance(error, OverloadedError) else self._wrong
        return tarpit.fault(party)

    def _retry_after(self, party: str) -> float:
        return self._queue.retry_after(party) if self._queue else _LOADING_RETRY_S

    @asynccontextmanager
    async def job(self, data: bytes, trace: Trace, key: str | None) -> AsyncIterator[ServiceJob]:
        """Decode and check a message and queue its work, while the context lasts.

        Args:
            data: the message.
            trace: filled in on the way.
            key: names the work, see `request_job`.

        Raises:
            UnimicError: the message is bad, asks for what cannot be done, or the queue is full.
        """
        model = self.model
        with trace.stage("decode"):
            decoded = await self.decode(
                trace, lambda admit: decode_request(data, model.bundle, admit=admit)
            )
            trace.parts_up = asdict(decoded.anatomy.sizes)
        request = decoded.value
        if key is not None:
            self.kept.check_same(key, request)
        async with self.request_job(request, trace, key) as job:
            yield job

    @asynccontextmanager
    async def request_job(
        self,
        request: Request,
        trace: Trace,
        work_key: str | None,
        watch: Watch | None = None,
    ) -> AsyncIterator[ServiceJob]:
        """Check a decoded request and queue its work, while the context lasts.

        Args:
            request: what is asked.
            trace: filled in on the way.
            work_key: equal keys with equal requests name one piece of work; None = it is nobody
                else's.
            watch: told the codes of a picture while it is made, on the model's thread.

        Raises:
            UnimicError: it asks for what cannot be done, or the queue is full.
        """
        model = self.model
        check_request(request, trace.task, model.bundle, self.settings)
        trace.tokens_up = tokens_up(request)
        key = (work_key, request_digest(request)) if work_key else None
        known = await self.kept.known(key, request) if key else None
        if known is not None:
            self.metrics.observe_replay()
            yield ServiceJob(self, model, request, trace, known)
            return
        submit = partial(self._submit, request, trace, watch)
        ticket, shared = self.kept.ticket(key, submit) if key else (submit(), False)
        if shared:
            self.metrics.observe_replay()
        async with ticket.waiting():
            yield ServiceJob(self, model, request, trace, ticket)

    async def decode(self, trace: Trace, decode: Callable[[Admit], T]) -> T:
        """Decode a message off the event loop, refusing what can be refused before it is paid for.

        Args:
            trace: whose turn it takes.
            decode: given what refuses, decodes; may be called twice.
        """
        bundle, settings, model = self.model.bundle, self.settings, self.model

        def check(claims: Claims) -> None:
            check_claims(claims, trace.task, bundle, settings)
            check_labelled(claims.task, model.labels)

        tokens = bundle.grid[0] * bundle.grid[1]
        return await self._codecs.decode(trace.party, tokens, check, decode)

    def _submit(self, request: Request, trace: Trace, watch: Watch | None) -> EngineTicket:
        assert self._queue is not None, "made together with the model"
        model = self.model
        price = price_of(request, model.bundle, model.effort)
        check_price(price, self.most_work, request, model.bundle)
        work = to_work(request, model.bundle, watch)
        key = batch_key(request, model.bundle)
        with self._counted(trace.owner, TOKENS, price):
            ticket = self._queue.submit(work, key, trace.party, price)
        trace.price = price
        ticket.phases = None if trace.spans is None else []
        return ticket

    @property
    def most_work(self) -> int:
        """The largest price of a request that is served, see `admission.price`."""
        return most_work(self.settings, self.model.bundle, self.model.effort)

    def find_job(self, key: str) -> FoundJob | None:
        """Work that was asked for under a work key and is not forgotten yet."""
        found = self.kept.find(key)
        if found is None:
            return None
        request, source = found
        on_thread = partial(self.on_codec_thread, "")
        if isinstance(source, Ticket):
            return FoundJob(self.model.bundle, on_thread, request, None, source.progress)
        return FoundJob(self.model.bundle, on_thread, request, source)

    async def on_codec_thread(self, party: str, work: Callable[..., T], *args: Any) -> T:
        """Run what would keep the event loop from other requests, when it is the party's turn."""
        return await self._codecs.run(party, work, *args)


class ServiceJob:
    """One request under way; made by `Service.job`."""

    def __init__(
        self,
        service: Service,
        model: LoadedModel,
        request: Request,
        trace: Trace,
        source: EngineTicket | Result,
    ) -> None:
        self.model = model
        self.request = request
        self.trace = trace
        self._service = service
        self._source = source

    async def steps(self) -> AsyncIterator[tuple[int, int]]:
        """Yield (finished steps, all steps), from (0, a first guess) on."""
        yield 0, expected_steps(self.request, self.model.bundle)
        if isinstance(self._source, Ticket):
            async for progress in self._source.steps():
                yield progress

    def cancel(self) -> None:
        """End the work at its next step; a result that is there already stays."""
        if isinstance(self._source, Ticket):
            self._source.cancel()

    async def response(self) -> Response:
        """The response as a value.

        Raises:
            UnimicError: the work was refused or failed.
        """
        result = await self._result()
        response = to_response(self.request, result, self.model.bundle)
        self.trace.tokens_down = tokens_down(self.request, response)
        return response

    async def message(self) -> bytes:
        """The encoded response.

        Raises:
            UnimicError: the work was refused or failed.
        """
        response = await self.response()
        with self.trace.stage("encode"):
            encoded = await self._service.on_codec_thread(
                self.trace.party, encode_response, response, self.request, self.model.bundle
            )
        self.trace.parts_down = asdict(encoded.anatomy.sizes)
        return encoded.data

    async def _result(self) -> Result:
        source = self._source
        if not isinstance(source, Ticket):
            self.trace.seconds |= {"queue": 0.0, "model": 0.0}
            return source
        try:
            result = await source.result()
        finally:
            if self.trace.spans is not None:
                self.trace.spans += spans_of(source, self.trace.started)
        self.trace.seconds |= {"queue": source.queue_s, "model": source.model_s}
        return result


def work_key(owner: str, key: str) -> str:
    """What names a piece of work: a client's key, which no other owner's can meet."""
    return f"{owner} {key}"


def party_of(owner: str, address: str) -> str:
    """Whose turns a request takes: those of its key, or of its address where there are no keys."""
    return f"key {owner}" if owner else f"address {address}"


def _note_failure(loading: asyncio.Task[None]) -> None:
    if not loading.cancelled() and loading.exception() is not None:
        logger.debug("loading failed", exc_info=loading.exception())
