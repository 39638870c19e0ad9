"""Traces, if `GIRO_TRACES` is set: the spans of requests, commits, settlement and jobs.

The trace id of a request is its request id, and the id of its root span is derived from that. The request id is stored
with each transfer, so the settlement worker makes spans of the same trace, and neither the queue nor the database has
to transport a context.

`active` is None if traces are off. Callers check it first, so that they then do no other work for traces.
"""

import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import Enum, auto

import structlog

from core.clock import now_us
from core.ids import new_id
from core.settings.groups.telemetry import TelemetrySettings
from core.telemetry.tracing.ids import Caller, caller_of, in_hex, root_id_of, trace_id_of
from core.telemetry.tracing.requirements import check_requirements
from core.telemetry.tracing.sampling import IsSampled, sampler_of

FLUSH_SECONDS = 0.5
"""How long a stop waits for the last spans to be exported. The supervisor grants some processes one second in all."""

INTAKE_COMMIT, SETTLE = "intake commit", "settle"

Attributes = Mapping[str, str | int]


class Kind(Enum):
    """The kinds of spans, named as in OpenTelemetry."""

    SERVER = auto()
    INTERNAL = auto()
    CONSUMER = auto()
    """Work that starts after the request was answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A span that has ended. Times are microseconds since the epoch."""

    name: str
    kind: Kind
    trace_id: int
    span_id: int
    parent_id: int | None
    """None for a root span."""
    started_at: int
    ended_at: int
    attributes: Attributes = field(default_factory=dict)
    failed: bool = False
    caller: Caller | None = None
    """The span that this one is linked to."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A start: the time of day, and a clock that measures durations. The time of day can be set back in between."""

    at: int = field(default_factory=now_us)
    counter: float = field(default_factory=time.perf_counter)

    def until(self, counter: float) -> int:
        """Return the time of day at a later reading of `time.perf_counter`."""
        return self.at + round((counter - self.counter) * 1e6)


@dataclass(frozen=True, slots=True)
class TracedRequest:
    """A sampled request that has begun."""

    request_id: str
    trace_id: int
    caller: Caller | None
    client_request_id: str | None
    begun: Moment = field(default_factory=Moment)


_request: ContextVar[TracedRequest | None] = ContextVar("traced_request", default=None)


class Tracer:
    """Makes the spans of this process, and gives those of sampled traces to `send`."""

    def __init__(self, is_sampled: IsSampled, send: Callable[[Span], None], close: Callable[[], None]) -> None:
        self._is_sampled = is_sampled
        self._send = send
        self.close = close

    # --- a request to the API ---

    def begin_request(
        self, request_id: str, traceparents: list[str], client_request_id: str | None = None
    ) -> TracedRequest | None:
        """Begin the trace of a request, if it is sampled. A caller's span counts if there is one valid header."""
        trace_id = trace_id_of(request_id)
        request = None
        if self._is_sampled(trace_id):
            caller = caller_of(traceparents[0]) if len(traceparents) == 1 else None
            request = TracedRequest(request_id, trace_id, caller, client_request_id)
        _request.set(request)
        return request

    def end_request(self, request: TracedRequest, method: str | None, route: str | None, status: int) -> None:
        """Send the root span. `method` and `route` are None if unknown, `status` is 0 if no answer was begun."""
        attributes: dict[str, str | int] = {
            "http.request.method": method or "_OTHER",
            "giro.request_id": request.request_id,
        }
        if request.client_request_id:
            attributes["giro.client_request_id"] = request.client_request_id
        if route:
            attributes["http.route"] = route
        if status:
            attributes["http.response.status_code"] = status
        if request.caller:
            attributes["giro.caller_trace_id"] = in_hex(request.caller.trace_id)
        name = method or "HTTP"
        self._send(
            Span(
                name=f"{name} {route}" if route else name,
                kind=Kind.SERVER,
                trace_id=request.trace_id,
                span_id=root_id_of(request.trace_id),
                parent_id=None,
                started_at=request.begun.at,
                ended_at=request.begun.until(time.perf_counter()),
                attributes=attributes,
                failed=status == 0 or status >= 500,
                caller=request.caller,
            )
        )

    def current_request(self) -> TracedRequest | None:
        """Return the sampled request that is being handled, or None."""
        return _request.get()

    # --- parts of a request ---

    def send_part(
        self,
        trace_id: int,
        name: str,
        started_at: int,
        ended_at: int,
        attributes: Attributes,
        *,
        kind: Kind = Kind.INTERNAL,
        failed: bool = False,
    ) -> None:
        """Send a span whose parent is the root span of its trace, in this process or another."""
        self._send(
            Span(
                name=name,
                kind=kind,
                trace_id=trace_id,
                span_id=_new_span_id(),
                parent_id=root_id_of(trace_id),
                started_at=started_at,
                ended_at=ended_at,
                attributes=attributes,
                failed=failed,
            )
        )

    def sampled(self, request_ids: Iterable[str]) -> dict[str, int]:
        """Return the trace ids of those requests that are sampled, by request id."""
        found = {request_id: trace_id_of(request_id) for request_id in set(request_ids)}
        return {request_id: trace_id for request_id, trace_id in found.items() if self._is_sampled(trace_id)}

    # --- jobs ---

    @contextmanager
    def job(self, name: str) -> Iterator[None]:
        """Trace a job. It has a trace alone, whose id is on the job's log lines."""
        trace_id, begun, failed = new_id().int, Moment(), True
        try:
            with structlog.contextvars.bound_contextvars(trace_id=in_hex(trace_id)):
                yield
            failed = False
        finally:
            if self._is_sampled(trace_id):
                self._send(
                    Span(
                        name=f"job {name}",
                        kind=Kind.CONSUMER,
                        trace_id=trace_id,
                        span_id=root_id_of(trace_id),
                        parent_id=None,
                        started_at=begun.at,
                        ended_at=begun.until(time.perf_counter()),
                        attributes={"giro.job": name},
                        failed=failed,
                    )
                )


active: Tracer | None = None
"""The tracer of this process, or None if traces are off."""


def check_tracing(settings: TelemetrySettings) -> IsSampled | None:
    """Return the sampler if traces are on, otherwise None.

    Raises SettingsError if the packages are missing, or a variable of OpenTelemetry has an unsupported value.
    """
    if not settings.traces or os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    check_requirements(os.environ)
    return sampler_of(os.environ)


def start_tracing(settings: TelemetrySettings, *, process: str) -> None:
    """Export the traces of this process, if the settings say so. `process` is named in each span's resource.

    Raises SettingsError as `check_tracing` does.
    """
    global active  # noqa: PLW0603 - one tracer for the process, as there is one registry of metrics
    active = None
    is_sampled = check_tracing(settings)
    if is_sampled is None:
        return
    from core.telemetry.tracing.export import Export

    export = Export(process)
    active = Tracer(is_sampled, export.send, export.close)


def stop_tracing() -> None:
    """Export the last spans, for at most FLUSH_SECONDS. Spans that end later are dropped."""
    global active
    tracer, active = active, None
    if tracer is not None:
        tracer.close()


def _new_span_id() -> int:
    return secrets.randbits(64) or 1
