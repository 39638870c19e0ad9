"""The export of spans with OpenTelemetry. Only this module imports it, and only if traces are on."""

import logging
import os
import threading
import time

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from core import VERSION
from core.settings import SettingsError
from core.telemetry.logging import get_logger
from core.telemetry.tracing import FLUSH_SECONDS, Kind, Span
from core.telemetry.tracing.ids import Caller

log = get_logger(__name__)

QUIET_SECONDS = 60.0
"""Least time between two log lines about failed exports."""

LIBRARY = "opentelemetry"
"""The parent of all loggers of OpenTelemetry."""

_KINDS = {Kind.SERVER: SpanKind.SERVER, Kind.INTERNAL: SpanKind.INTERNAL, Kind.CONSUMER: SpanKind.CONSUMER}


class Export:
    """Sends ended spans to a collector, in batches and on its own thread.

    Endpoint, headers, time limits and sizes come from the standard variables of OpenTelemetry. The provider is not
    registered globally: a library that finds a global provider would send its own spans.
    """

    def __init__(self, process: str) -> None:
        """Start the thread. `process` is the service instance. Raises SettingsError for a value that is invalid."""
        _log_seldom()
        self._ids = _GivenIds()
        try:
            processor = BatchSpanProcessor(OTLPSpanExporter())
        except ValueError as error:
            raise SettingsError(f"OpenTelemetry: {error}") from None
        self._provider = TracerProvider(
            sampler=ALWAYS_ON,  # the decision was made before a span gets here
            resource=_resource(process),
            id_generator=self._ids,
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("giro")

    def send(self, span: Span) -> None:
        """Put a span into the queue of the thread. If the queue is full, the oldest span is dropped."""
        self._ids.give(span.trace_id, span.span_id)
        # A context is always given: without one, the library would look for a current span.
        parent = SpanContext(span.trace_id, span.parent_id or 0, is_remote=True, trace_flags=_SAMPLED)
        made = self._tracer.start_span(
            span.name,
            set_span_in_context(NonRecordingSpan(parent)),
            kind=_KINDS[span.kind],
            attributes=span.attributes,
            links=[_link(span.caller)] if span.caller else (),
            start_time=span.started_at * 1000,
        )
        if span.failed:
            made.set_status(StatusCode.ERROR)
        made.end(span.ended_at * 1000)

    def close(self) -> None:
        """Export what is left, for at most FLUSH_SECONDS; the library itself would wait for half a minute."""
        closing = threading.Thread(target=self._provider.shutdown, name="trace-flush", daemon=True)
        closing.start()
        closing.join(FLUSH_SECONDS)


class _GivenIds(IdGenerator):
    """Returns the ids of the span that the same thread is about to make."""

    def __init__(self) -> None:
        self._next = threading.local()

    def give(self, trace_id: int, span_id: int) -> None:
        self._next.ids = trace_id, span_id

    def generate_trace_id(self) -> int:
        trace_id: int = self._next.ids[0]
        return trace_id

    def generate_span_id(self) -> int:
        span_id: int = self._next.ids[1]
        return span_id


class _Seldom(logging.Handler):
    """Logs what the exporter reports, at most once in QUIET_SECONDS, and counts what it leaves out."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._next_at = 0.0
        self._left_out = 0

    def emit(self, record: logging.LogRecord) -> None:
        if time.monotonic() < self._next_at:
            self._left_out += 1
            return
        self._next_at = time.monotonic() + QUIET_SECONDS
        log.warning("trace_export_warning", reason=_message(record), left_out=self._left_out)
        self._left_out = 0


def _message(record: logging.LogRecord) -> str:
    """Format a record. Of exceptions only the type is written: their text can contain the collector's URL."""
    if not isinstance(record.args, tuple):
        return str(record.msg)
    return str(record.msg) % tuple(type(it).__name__ if isinstance(it, BaseException) else it for it in record.args)


def _log_seldom() -> None:
    logger = logging.getLogger(LIBRARY)
    logger.handlers[:] = [_Seldom()]
    logger.propagate = False


def _resource(process: str) -> Resource:
    """Describe this process. The variables OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win."""
    given = OTELResourceDetector().detect().attributes
    own: dict[str, str | int] = {
        "service.name": "giro",
        "service.version": VERSION,
        "service.instance.id": process,
        "process.pid": os.getpid(),
    }
    return Resource.create({name: value for name, value in own.items() if name not in given})


_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


def _link(caller: Caller) -> Link:
    return Link(SpanContext(caller.trace_id, caller.span_id, is_remote=True, trace_flags=TraceFlags(caller.flags)))
