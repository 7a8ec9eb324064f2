"""A place in a trace for each interaction, where somebody traces; nothing is sent otherwise.

Somebody does whose variable TRACEPARENT names a trace, or a program that has set `ORIGIN` for its
own caller, or whoever asks for new traces. It does not know what is sent, nor who collects traces.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from edge_client.transport.base import ORIGIN
from shared_protocol.http.origin import UNKNOWN, Origin

TRACE_VARIABLE = "UNIMIC_TRACE"
_COLLECTED = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


@contextmanager
def interaction(environment: Mapping[str, str] = os.environ) -> Iterator[None]:
    """One interaction: what is sent within says its place, if there is a trace.

    A trace is that of `ORIGIN`, else of the variable TRACEPARENT, else a new one where
    UNIMIC_TRACE is 1 or OpenTelemetry's variables name a collector.
    """
    origin = ORIGIN.get()
    if origin.traceparent or _is_traced(environment):
        before = ORIGIN.set(_place(origin, environment).begun())
        try:
            yield
        finally:
            ORIGIN.reset(before)
    else:
        yield


def _is_traced(environment: Mapping[str, str]) -> bool:
    if environment.get("TRACEPARENT"):
        return True
    if TRACE_VARIABLE in environment:
        return environment[TRACE_VARIABLE] not in ("", "0")
    disabled = environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
    return not disabled and any(environment.get(name) for name in _COLLECTED)


def _place(origin: Origin, environment: Mapping[str, str]) -> Origin:
    """The origin with the place of this program in a trace; "" = a new one begins."""
    if origin.traceparent:
        return origin
    given = {name: environment.get(name, "") for name in ("TRACEPARENT", "TRACESTATE")}
    own = UNKNOWN if not given["TRACEPARENT"] else Origin.of(given)
    return replace(origin, traceparent=own.traceparent, tracestate=own.tracestate)
