"""What is counted and timed of each exchange, and how Prometheus reads it.

It does not know prompts, images or how a request is served; nothing here is global.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from shared_protocol.http.origin import UNKNOWN, Origin
from shared_protocol.http.reply_stream import ServerTiming
from shared_protocol.tasks import Task

_SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)

STATUS_CLIENT_GONE = 499
"""Recorded, never sent: the client hung up."""


def new_name() -> str:
    """A name for a request that came without one."""
    return uuid.uuid4().hex[:8]


class Span(NamedTuple):
    """Something that happened within a request, in seconds of `time.monotonic`.

    Attributes:
        within: the span that it is a part of; "" = the request.
    """

    name: str
    began: float
    ended: float
    within: str = ""


@dataclass
class Trace:
    """What happened to one request; filled in as it goes along.

    Attributes:
        task: what was asked; None while nobody knows.
        owner: name of the key that asked; "" where there are no keys.
        party: whose turns it takes, see `service.party_of`.
        note: of which conversation, for the log; never what was said.
        id: names the request in the log and in the reply.
        status: HTTP status, or that of an error that came after the start of the reply.
        bytes_up: request body bytes read.
        bytes_down: reply body bytes sent, progress included.
        parts_up: bytes of the request message by part.
        parts_down: bytes of the reply message by part.
        price: token-steps that the work takes at most, where it was not done before.
        tokens_up: text and image tokens received.
        tokens_down: text and image tokens sent.
        seconds: by stage.
        started: when it began, by `time.monotonic`.
        origin: where it comes from.
        trace_id: the trace that its spans are in, once they are exported.
        spans: what happened when; None = nobody wants to know.
    """

    task: Task | None
    owner: str = ""
    party: str = ""
    note: str = ""
    id: str = field(default_factory=new_name)
    status: int = 200
    bytes_up: int = 0
    bytes_down: int = 0
    parts_up: Mapping[str, float] = field(default_factory=dict)
    parts_down: Mapping[str, float] = field(default_factory=dict)
    price: int = 0
    tokens_up: int = 0
    tokens_down: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)
    origin: Origin = UNKNOWN
    trace_id: str = ""
    spans: list[Span] | None = None

    @classmethod
    def of(cls, origin: Origin, traced: bool) -> Trace:
        """That of a request of an unknown task that comes from there."""
        spans: list[Span] | None = [] if traced else None
        return cls(None, id=origin.request_id or new_name(), origin=origin, spans=spans)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage; a stage that fails counts too."""
        started = time.monotonic()
        try:
            yield
        finally:
            ended = time.monotonic()
            self.seconds[name] = ended - started
            if self.spans is not None:
                self.spans.append(Span(name, started, ended))

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """Note a span that is no stage."""
        started = time.monotonic()
        try:
            yield
        finally:
            if self.spans is not None:
                self.spans.append(Span(name, started, time.monotonic()))

    def timing(self) -> ServerTiming:
        """Milliseconds by stage, for the client."""
        return ServerTiming(**{name: round(1000 * s, 2) for name, s in self.seconds.items()})

    def finish(self) -> None:
        """Note the end of the exchange."""
        self.seconds["total"] = time.monotonic() - self.started

    @property
    def task_name(self) -> str:
        """What was asked, for the log and for metrics."""
        return "unread" if self.task is None else self.task.slug

    def log_fields(self) -> dict[str, Any]:
        """What its line in a structured log holds, besides the words of `str`."""
        fields: dict[str, Any] = {"request_id": self.id, "key": self.owner}
        trace_id = self.trace_id or self.origin.trace_id
        fields |= {"trace_id": trace_id} if trace_id else {}
        fields |= dict(each.split("=", 1) for each in self.note.split())
        fields |= {"task": self.task_name, "status": self.status}
        fields |= {"bytes_up": self.bytes_up, "bytes_down": self.bytes_down}
        fields |= {"tokens_up": self.tokens_up, "tokens_down": self.tokens_down}
        fields |= {"token_steps": self.price}
        rounded = {name: round(spent, 6) for name, spent in self.seconds.items()}
        seconds = rounded.pop("total", 0.0)
        return {**fields, "seconds": seconds, "stages": rounded}

    def __str__(self) -> str:
        model, total = (1000 * self.seconds.get(name, 0.0) for name in ("model", "total"))
        owner = f"key={self.owner} " if self.owner else ""
        return (
            f"id={self.id} {owner}{self.note}task={self.task_name} status={self.status} "
            f"bytes={self.bytes_up}/{self.bytes_down} tokens={self.tokens_up}/{self.tokens_down} "
            f"model_ms={model:.0f} total_ms={total:.0f}"
        )


class Metrics:
    """The server's counters and histograms, in a registry of their own.

    Attributes:
        exporter: told each finished exchange, too; None = nobody.
    """

    def __init__(self) -> None:
        self.exporter: Callable[[Trace], None] | None = None
        self._registry = CollectorRegistry()
        self._requests = self._counter("requests", "Requests answered", "task", "status")
        self._bytes = self._counter("body_bytes", "Bytes of bodies", "direction")
        self._parts = self._counter("part_bytes", "Message bytes by part", "direction", "part")
        self._stages = self._histogram("stage_seconds", "Time by stage", _SECONDS, "task", "stage")
        self._batches = self._histogram("batch_size", "Requests in a batch", _BATCH_SIZES)
        self._queue = self._gauge("queue_depth", "Requests waiting for the model")
        self._inflight = self._gauge("inflight_requests", "Requests being served")
        self._replays = self._counter("replays", "Replies whose result was made before")
        self._of_keys = self._counter("key_requests", "Requests by key", "key", "status")
        self._steps = self._counter("key_token_steps", "Token-steps taken by key", "key")
        self._limited = self._counter("rate_limited", "Refused by a key's limit", "key", "limit")

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"unimic_{name}", text, labels, registry=self._registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"unimic_{name}", text, registry=self._registry)

    def _histogram(
        self, name: str, text: str, buckets: tuple[float, ...], *labels: str
    ) -> Histogram:
        return Histogram(f"unimic_{name}", text, labels, buckets=buckets, registry=self._registry)

    def listen(self, exporter: Callable[[Trace], None]) -> None:
        """Have each finished exchange told to somebody else, too."""
        self.exporter = exporter

    def observe(self, trace: Trace) -> None:
        """Count a finished exchange."""
        task = trace.task_name
        self._requests.labels(task, str(trace.status)).inc()
        for direction, body, parts in (
            ("up", trace.bytes_up, trace.parts_up),
            ("down", trace.bytes_down, trace.parts_down),
        ):
            self._bytes.labels(direction).inc(body)
            for part, size in parts.items():
                self._parts.labels(direction, part).inc(size)
        if trace.owner:
            self._of_keys.labels(trace.owner, str(trace.status)).inc()
            self._steps.labels(trace.owner).inc(trace.price)
        for stage, seconds in trace.seconds.items():
            self._stages.labels(task, stage).observe(seconds)
        if self.exporter is not None:
            self.exporter(trace)

    def observe_batch(self, size: int) -> None:
        """Count a batch that starts."""
        self._batches.observe(size)

    def observe_limited(self, key: str, limit: str) -> None:
        """Count a refusal, by the name of the key and which of its limits."""
        self._limited.labels(key, limit).inc()

    def observe_replay(self) -> None:
        """Count a reply whose result came from an earlier or a running request."""
        self._replays.inc()

    def expose(self, queue_depth: int, inflight: int) -> bytes:
        """All metrics in Prometheus' text format."""
        self._queue.set(queue_depth)
        self._inflight.set(inflight)
        return generate_latest(self._registry)
