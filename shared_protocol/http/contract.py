"""Paths, media types, header names and limits of the HTTP interface; HTTP.md is the specification.

It does not know how a request is served or sent; both ends take every name from here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from shared_protocol.tasks import Task

MESSAGE_TYPE = "application/msgpack"
MESSAGE_TYPES = frozenset((MESSAGE_TYPE, "application/x-msgpack", "application/vnd.msgpack"))
"""What a request may call its body; a server answers with the first."""
STREAM_TYPE = "application/msgpack-seq"
JSON_TYPE = "application/json"
FILE_TYPE = "application/octet-stream"
ACCEPT_STREAM = f"{STREAM_TYPE}, {MESSAGE_TYPE};q=0.9"
"""What a client sends that wants to follow the work."""

IDEMPOTENCY_KEY = "Idempotency-Key"
IDEMPOTENCY_PATTERN = "[!-~]{1,200}"
REQUEST_ID = "X-Request-Id"
TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"
SERVER_TIMING = "Server-Timing"
RETRY_AFTER = "Retry-After"
RATE_LIMIT_HEADER = "x-ratelimit-{what}-{limit}"
"""What: limit, remaining and reset; of which limit: requests and tokens."""
PREFER = "Prefer"
_TIMING = "timing"
_STEPS = "steps"
FEW_STEPS = 4
"""Progress reports of a stream unless a client prefers another number."""

INFO_PATH = "/v1/info"
METRICS_PATH = "/metrics"
HEALTH_PATH = "/healthz"
READY_PATH = "/readyz"
BUNDLE_PATH = "/v1/bundles/{fingerprint}"
JOB_PATH = "/v1/jobs/{key}"
FILE_PATH = "/v1/bundles/{fingerprint}/{file}"
NO_PATH = "there is nothing at this path"
"""What a server says, as not_found, of a path that is none of its own."""

MAX_REPLY_BYTES = 1 << 20
"""Longest reply that a client reads."""

REQUEST_ID_PATTERN = "[A-Za-z0-9._~:/+=@-]{1,128}"
_REFUSES = re.compile(r";\s*q=0(\.0*)?\s*(;|$)")


def task_path(task: Task) -> str:
    """Where requests for a task go.

    >>> task_path(Task.T2I)
    '/v1/t2i'
    """
    return f"/v1/{task.slug}"


def wants_stream(accept: str) -> bool:
    """Whether an Accept header names the streamed form.

    >>> wants_stream("application/msgpack-seq, application/msgpack;q=0.9")
    True
    """
    ranges = (part.strip().lower() for part in accept.split(","))
    return any(
        r.partition(";")[0].strip() == STREAM_TYPE and not _REFUSES.search(r) for r in ranges
    )


@dataclass(frozen=True)
class Preferences:
    """What a client would like, see `preferences`.

    Args:
        timing: to be told where the time went.
        steps: most progress reports of a stream.
    """

    timing: bool = False
    steps: int = FEW_STEPS

    @property
    def header(self) -> str:
        """The value of a Prefer header; empty where nothing is said.

        >>> Preferences(True, 100).header
        'timing, steps=100'
        """
        said = [_TIMING] if self.timing else []
        said += [f"{_STEPS}={self.steps}"] if self.steps != FEW_STEPS else []
        return ", ".join(said)


TIMED = Preferences(timing=True)


def preferences(header: str) -> Preferences:
    """What a Prefer header says; what is not understood is left out.

    >>> preferences("timing, wait=10, steps=100")
    Preferences(timing=True, steps=100)
    """
    given = dict((part.strip().partition("=")[::2]) for part in header.lower().split(","))
    steps = given.get(_STEPS, "").strip()
    few = int(steps) if re.fullmatch("[0-9]{1,6}", steps) else FEW_STEPS
    return Preferences(_TIMING in given, few)


def is_request_id(name: str) -> bool:
    """Whether a request may be called so: 1 to 128 characters that are safe in any log."""
    return re.fullmatch(REQUEST_ID_PATTERN, name) is not None


def is_idempotency_key(key: str) -> bool:
    """Whether a header may carry `key`: 1 to 200 visible ASCII characters."""
    return re.fullmatch(IDEMPOTENCY_PATTERN, key) is not None
