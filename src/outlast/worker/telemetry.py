"""OpenTelemetry in an executor: every attempt is a span below whoever triggered the run, and what instrumented code does in it is
shown with the run and exported. Nothing of OpenTelemetry is imported unless the project asks for it."""

from __future__ import annotations

import os
import threading
from collections.abc import Awaitable, Generator
from contextlib import contextmanager
from itertools import islice
from typing import Any

from outlast import current, logs
from outlast.config import Telemetry
from outlast.errors import ConfigurationError
from outlast.model.messages import RunPush
from outlast.version import __version__
from outlast.worker.ended import Ended

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
MAX_OPEN = 10_000  # spans that have begun and not ended, whose run is remembered
MAX_ATTRIBUTES = 40  # of one span, on the run's page
FLUSH_MS = 2_000


def start(telemetry: Telemetry, service: str | None) -> Tracing | None:
    """Begin, if the project's config or OTEL_EXPORTER_OTLP_ENDPOINT asks for it.

    Raises:
        ConfigurationError: it is asked for, and OpenTelemetry is not installed.
    """
    from_environment = any(os.environ.get(name) for name in ENDPOINTS)
    if not (from_environment or telemetry.is_asked_for):
        return None
    try:
        return Tracing(telemetry, service or "outlast-worker", from_environment)
    except ImportError as error:
        raise ConfigurationError(f"telemetry is configured, and {error.name} is missing: pip install 'outlast[otel]'") from error


class Tracing:
    def __init__(self, telemetry: Telemetry, service: str, from_environment: bool) -> None:
        from opentelemetry import metrics, trace
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._trace, self._propagator = trace, TraceContextTextMapPropagator()
        resource = Resource.create({"service.name": service, **telemetry.resource})
        provider = self._provider = TracerProvider(resource=resource)
        provider.add_span_processor(_of_runs())
        exporters, readers = list(telemetry.exporters), list(telemetry.metric_readers)
        if from_environment:
            from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

            exporters.append(OTLPSpanExporter())
            readers.append(PeriodicExportingMetricReader(OTLPMetricExporter()))
        for exporter in exporters:
            provider.add_span_processor(BatchSpanProcessor(exporter))
        trace.set_tracer_provider(provider)
        self._meters = MeterProvider(readers, resource=resource)
        metrics.set_meter_provider(self._meters)
        meter = self._meters.get_meter("outlast", __version__)
        self._attempts = meter.create_counter("outlast.attempts", description="Attempts that ended")
        self._durations = meter.create_histogram("outlast.attempt.duration", unit="s", description="Active time of attempts")
        self._tracer = provider.get_tracer("outlast", __version__)
        logs.tracer = self._tracer
        for instrumentor in telemetry.instrumentors:
            instrumentor.instrument()

    async def traced(self, push: RunPush, running: Awaitable[Ended]) -> Ended:
        """An attempt as a span."""
        with self._attempt(push) as said:
            said.append(await running)
            return said[0]

    @contextmanager
    def _attempt(self, push: RunPush) -> Generator[list[Ended]]:
        """The block is an attempt; its end is put into the list."""
        parent = self._propagator.extract({"traceparent": push.traceparent} if push.traceparent else {})
        about = {"outlast.task": push.task, "outlast.version": push.version}
        more = {"outlast.run.id": push.run_id, "outlast.attempt": push.attempt}
        ended = list[Ended]()
        kind = self._trace.SpanKind.CONSUMER
        with self._tracer.start_as_current_span(push.task, context=parent, kind=kind, attributes={**about, **more}) as span:
            yield ended
            for end in ended:
                labels = {**about, "outlast.outcome": end.outcome}
                self._attempts.add(1, labels)
                self._durations.record(end.usage_ms / 1_000, labels)
                if end.error is not None:
                    span.set_status(self._trace.StatusCode.ERROR, f"{end.error.name}: {end.error.message}"[:500])

    def flush(self) -> None:
        """Before the process ends."""
        self._provider.force_flush(FLUSH_MS)
        self._meters.force_flush(FLUSH_MS)


def _of_runs() -> Any:
    """Hands spans that end inside an attempt to its run. Made here, so that its base class is only imported when it is needed."""
    from opentelemetry.sdk.trace import SpanProcessor

    class OfRuns(SpanProcessor):
        def __init__(self) -> None:
            self._open: dict[int, current.Attempt] = {}
            self._lock = threading.Lock()

        def on_start(self, span: Any, parent_context: Any = None) -> None:
            attempt = current.attempt.get()
            if attempt is not None and len(self._open) < MAX_OPEN:
                with self._lock:
                    self._open[span.context.span_id] = attempt

        def on_end(self, span: Any) -> None:
            with self._lock:
                attempt = self._open.pop(span.context.span_id, None)
            if attempt is None:
                return
            parent = f"{span.parent.span_id:016x}" if span.parent is not None else ""
            status = "bad" if span.status.status_code.name == "ERROR" else "ok"
            given: dict[str, Any] = dict(span.attributes or {})
            attributes = dict(islice(given.items(), MAX_ATTRIBUTES))
            logs.tell(attempt, span.name, f"{span.context.span_id:016x}", parent, span.start_time, span.end_time, status, attributes)

    return OfRuns()
