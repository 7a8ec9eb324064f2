"""Finished requests as spans of OpenTelemetry, for whoever runs a collector.

It does not know how a request is served: a `Trace` says what happened when, and all spans are made
of it afterwards, so that nothing is slower where nobody traces.

::

    t2i ┬ receive ─ decode ─ queue ─ model ┬ prompt ─ generate ─ mend ─ settle
        └ … encode ─ send                  └ of its whole batch, in the order that they were begun
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from cloud_server.serving.telemetry.metrics import Trace
from cloud_server.settings import Settings
from shared_protocol.errors import ConfigError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

logger = logging.getLogger(__name__)

SERVICE = "unimic-cloud"
TRACES_PATH = "/v1/traces"
_REMEDY = "pip install 'unimic[tracing]'"
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_FAILED = 500


class Spans:
    """Makes spans of finished requests.

    Args:
        provider: takes them.
    """

    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry import trace
        from opentelemetry.trace.propagation import tracecontext

        self._otel = trace
        self._provider = provider
        self._tracer = provider.get_tracer(SERVICE)
        self._places = tracecontext.TraceContextTextMapPropagator()

    def export(self, trace: Trace) -> None:
        """Make the spans of a request that has ended, and note its trace for the log."""
        otel, offset = self._otel, time.time_ns() - time.monotonic_ns()

        def at(seconds: float) -> int:
            return offset + int(seconds * 1e9)

        root = self._tracer.start_span(
            trace.task_name,
            self._places.extract(trace.origin.headers),
            otel.SpanKind.SERVER,
            _attributes(trace),
            start_time=at(trace.started),
        )
        if trace.status >= _FAILED:
            root.set_status(otel.StatusCode.ERROR)
        trace.trace_id = otel.format_trace_id(root.get_span_context().trace_id)
        inside = {"": otel.set_span_in_context(root)}
        for name, began, ended, within in trace.spans or ():
            parts = {"decode": trace.parts_up, "encode": trace.parts_down}.get(name, {})
            sizes = {f"unimic.bytes.{part}": size for part, size in parts.items()}
            span = self._tracer.start_span(
                name, inside[within], attributes=sizes, start_time=at(began)
            )
            inside[name] = otel.set_span_in_context(span)
            span.end(at(ended))
        root.end(at(trace.started + trace.seconds["total"]))

    def close(self) -> None:
        """Send what is not sent yet."""
        self._provider.shutdown()


def open_spans(settings: Settings, environment: Mapping[str, str]) -> Spans | None:
    """What exports spans to the collector that the settings or OpenTelemetry's variables name.

    Returns:
        None where neither names one, or where only the variables do and the packages are missing.

    Raises:
        ConfigError: the settings name one, and the packages are missing.
    """
    if not settings.otlp_endpoint and not _is_wanted(environment):
        return None
    try:
        return Spans(_provider(settings.otlp_endpoint, environment))
    except ModuleNotFoundError as error:
        if settings.otlp_endpoint:
            raise ConfigError(f"{error.name} is not installed, for traces", _REMEDY) from error
        logger.warning("no traces: %s is not installed (%s)", error.name, _REMEDY)
        return None


def start_spans(
    settings: Settings, environment: Mapping[str, str], listen: Callable[[Any], None]
) -> Callable[[], None]:
    """Have finished requests exported where that is asked for; returns what ends it.

    Args:
        settings, environment: see `open_spans`.
        listen: given what is to be told of each finished request; not called without.
    """
    spans = open_spans(settings, environment)
    if spans is None:
        return lambda: None
    listen(spans.export)
    return spans.close


def _is_wanted(environment: Mapping[str, str]) -> bool:
    disabled = environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
    exporter = environment.get("OTEL_TRACES_EXPORTER", "otlp")
    named = any(environment.get(name) for name in _ENDPOINTS)
    return named and not disabled and exporter == "otlp"


def _provider(endpoint: str, environment: Mapping[str, str]) -> TracerProvider:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    about = {"service.version": _version()}
    if not environment.get("OTEL_SERVICE_NAME"):
        about["service.name"] = SERVICE
    url = endpoint.rstrip("/").removesuffix(TRACES_PATH) + TRACES_PATH if endpoint else None
    provider = TracerProvider(resource=Resource.create(about))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=url)))
    logger.info("traces go to %s", url or "the collector that OTEL_* names")
    return provider


def _attributes(trace: Trace) -> dict[str, str | int]:
    said: dict[str, str | int] = {
        "unimic.task": trace.task_name,
        "unimic.request_id": trace.id,
        "unimic.status": trace.status,
        "unimic.bytes_up": trace.bytes_up,
        "unimic.bytes_down": trace.bytes_down,
        "unimic.token_steps": trace.price,
    }
    if trace.owner:
        said["unimic.key"] = trace.owner
    for each in trace.note.split():
        name, _, value = each.partition("=")
        said[f"unimic.{name}"] = value
    return said


def _version() -> str:
    try:
        return version("unimic")
    except PackageNotFoundError:
        return "unknown"
