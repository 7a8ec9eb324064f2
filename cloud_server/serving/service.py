"""Takes one message through decode, queue, model and encode.

It does not know HTTP: bodies come in as bytes and go out as bytes, progress as pairs of numbers.

::

    bytes ─ decode ─► Request ─ check ─► work queue ─► engine ─► Response ─ encode ─► bytes
            codec threads          │      (passed in)              │       codec threads
                                   └── Idempotency-Key known? ◄── ResultCache
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict
from typing import Any, TypeVar

from cloud_server.generation.work import Result, Watch, Work
from cloud_server.keys import NOBODY, Keyring
from cloud_server.serving.jobs import FoundJob
from cloud_server.serving.loaded_model import LoadedModel
from cloud_server.serving.metrics import Metrics, Trace
from cloud_server.serving.result_cache import ResultCache, ResultKey
from cloud_server.serving.ticket import Ticket, WorkQueue
from cloud_server.serving.translation import (
    batch_key,
    check_request,
    expected_steps,
    to_response,
    to_work,
    tokens_down,
    tokens_up,
)
from cloud_server.settings import Settings
from shared_protocol.errors import OverloadedError
from shared_protocol.message.codec import decode_request, encode_response
from shared_protocol.message.parameters import request_digest
from shared_protocol.messages import Request, Response

logger = logging.getLogger(__name__)

T = TypeVar("T")
EngineTicket = Ticket[Work, Result]
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
        self._load = load
        self._model: LoadedModel | None = None
        self._make_queue = make_queue
        self._queue: EngineQueue | None = None
        self._loading: asyncio.Task[None] | None = None
        self._stopping = False
        self._inflight = 0
        self._codecs = ThreadPoolExecutor(settings.codec_threads, thread_name_prefix="codec")
        self._results = ResultCache(
            settings.cache_entries, settings.cache_bytes, settings.cache_ttl
        )
        self._shared: dict[ResultKey, EngineTicket] = {}
        self._asked: OrderedDict[str, Request] = OrderedDict()

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
        return self._inflight

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
        self._codecs.shutdown(wait=False, cancel_futures=True)

    def owner(self, authorization: str | None) -> str:
        """Whose key an Authorization header holds; "" where no key is asked for.

        Raises:
            UnauthorizedError: it holds none of the keys.
        """
        return self.keyring.owner(authorization) if self.keyring.asks else NOBODY

    def check_open(self) -> None:
        """Tell early whether a request would be refused whatever it says.

        Raises:
            OverloadedError: loading, stopping, or no room in the queue.
        """
        if self._stopping:
            raise OverloadedError("the server is stopping", "retry", _LOADING_RETRY_S)
        _ = self.model
        assert self._queue is not None, "made together with the model"
        self._queue.check_room()

    @contextmanager
    def admission(self) -> Iterator[None]:
        """Count a request in for as long as it is worked on.

        Raises:
            OverloadedError: too many are in already, or `check_open` says so.
        """
        self.check_open()
        if self._inflight >= self.settings.max_inflight:
            raise OverloadedError(
                f"{self._inflight} requests are being served already",
                "retry later",
                self._retry_after(),
            )
        self._inflight += 1
        try:
            yield
        finally:
            self._inflight -= 1

    def _retry_after(self) -> float:
        return self._queue.retry_after() if self._queue else _LOADING_RETRY_S

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
            decoded = await self.on_codec_thread(decode_request, data, model.bundle)
            trace.parts_up = asdict(decoded.anatomy.sizes)
        request = decoded.value
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
        if key:
            self._remember(key[0], request)
        known = self._results.get(key) if key else None
        if known is not None:
            self.metrics.observe_replay()
            yield ServiceJob(self, model, request, trace, known)
            return
        ticket = self._shared_ticket(key, request, watch) if key else self._submit(request, watch)
        async with ticket.waiting():
            yield ServiceJob(self, model, request, trace, ticket)

    def _submit(self, request: Request, watch: Watch | None) -> EngineTicket:
        assert self._queue is not None, "made together with the model"
        bundle = self.model.bundle
        return self._queue.submit(to_work(request, bundle, watch), batch_key(request, bundle))

    def _shared_ticket(self, key: ResultKey, request: Request, watch: Watch | None) -> EngineTicket:
        """The ticket of this very work, if it is under way, else a new one."""
        ticket = self._shared.get(key)
        if ticket is None or ticket.failed:
            ticket = self._shared[key] = self._submit(request, watch)
            ticket.done.add_done_callback(lambda done: self._keep(key, done))
        else:
            self.metrics.observe_replay()
        # A client that comes back finds its work, though the link or its time has ended.
        ticket.keep_s = self.settings.keep_lost
        return ticket

    def find_job(self, key: str) -> FoundJob | None:
        """Work that was asked for under a work key and is not forgotten yet."""
        request = self._asked.get(key)
        if request is None:
            return None
        place = key, request_digest(request)
        ticket = self._shared.get(place)
        if ticket is not None and not ticket.failed and not ticket.done.done():
            return FoundJob(self.model.bundle, self.on_codec_thread, request, None, ticket.progress)
        result = self._results.get(place)
        if result is None:
            return None
        return FoundJob(self.model.bundle, self.on_codec_thread, request, result)

    def cancel_job(self, key: str) -> bool:
        """End such work at its next step and forget its result; whether there was any."""
        request = self._asked.pop(key, None)
        if request is None:
            return False
        place = key, request_digest(request)
        ticket = self._shared.get(place)
        if ticket is not None:
            ticket.cancel()
        return self._results.forget(place) or ticket is not None

    def _remember(self, key: str, request: Request) -> None:
        """Note what was asked under a key, so that its result can be coded for it later."""
        self._asked[key] = request
        self._asked.move_to_end(key)
        while len(self._asked) > self.settings.cache_entries + self.settings.max_inflight:
            self._asked.popitem(last=False)

    def _keep(self, key: ResultKey, done: asyncio.Future[Result]) -> None:
        ticket = self._shared.get(key)
        if ticket is not None and ticket.done is done:
            del self._shared[key]
        if not done.cancelled() and done.exception() is None:
            self._results.put(key, done.result())

    async def on_codec_thread(self, work: Callable[..., T], *args: Any) -> T:
        """Run what would keep the event loop from other requests."""
        return await asyncio.get_running_loop().run_in_executor(self._codecs, work, *args)


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
                encode_response, response, self.request, self.model.bundle
            )
        self.trace.parts_down = asdict(encoded.anatomy.sizes)
        return encoded.data

    async def _result(self) -> Result:
        source = self._source
        if not isinstance(source, Ticket):
            self.trace.seconds |= {"queue": 0.0, "model": 0.0}
            return source
        result = await source.result()
        self.trace.seconds |= {"queue": source.queue_s, "model": source.model_s}
        return result


def work_key(owner: str, key: str) -> str:
    """What names a piece of work: a client's key, which no other owner's can meet."""
    return f"{owner} {key}"


def _note_failure(loading: asyncio.Task[None]) -> None:
    if not loading.cancelled() and loading.exception() is not None:
        logger.debug("loading failed", exc_info=loading.exception())
