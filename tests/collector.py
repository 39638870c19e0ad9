"""A collector of traces on this machine: it takes OTLP over HTTP and decodes the spans."""

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1 import trace_pb2


@dataclass(frozen=True, slots=True)
class Received:
    """A span as it was exported. Ids are hexadecimal, times in nanoseconds."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    started_at: int
    ended_at: int
    attributes: dict[str, Any]
    links: list[tuple[str, str]]
    """Trace id and span id of each."""
    failed: bool
    resource: dict[str, Any]
    scope: str
    """Name of the library that made it."""


class Collector:
    """What was exported so far, and how the collector answers."""

    def __init__(self) -> None:
        self.url = ""
        self.status = 200
        self.spans: list[Received] = []
        self.bodies: list[bytes] = []
        self.paths: set[str] = set()

    def named(self, name: str) -> list[Received]:
        return [span for span in self.spans if span.name == name]

    def take(self, body: bytes) -> None:
        self.bodies.append(body)
        request = ExportTraceServiceRequest()
        request.ParseFromString(body)
        for of_process in request.resource_spans:
            resource = _values(of_process.resource.attributes)
            self.spans += [
                _received(span, resource, made.scope.name) for made in of_process.scope_spans for span in made.spans
            ]


@contextmanager
def collecting() -> Iterator[Collector]:
    """Run a collector on a free port. `url` is what OTEL_EXPORTER_OTLP_ENDPOINT takes."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.paths.add(self.path)
            if collector.status == 200 and self.path == "/v1/traces":
                collector.take(gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body)
            self.send_response(collector.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()


def _received(span: trace_pb2.Span, resource: dict[str, Any], scope: str) -> Received:
    return Received(
        name=span.name,
        kind=trace_pb2.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        started_at=span.start_time_unix_nano,
        ended_at=span.end_time_unix_nano,
        attributes=_values(span.attributes),
        links=[(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
        failed=span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
        resource=resource,
        scope=scope,
    )


def _values(attributes: Any) -> dict[str, Any]:
    return {item.key: getattr(item.value, item.value.WhichOneof("value")) for item in attributes}
