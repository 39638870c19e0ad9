"""One transfer is one trace: its request, its commit and its settlement, exported by two processes."""

from collections.abc import Callable, Iterator

import httpx2
import pytest

from tests.collector import Collector, Received, collecting
from tests.flows.stack import Stack
from tests.waiting import eventually

pytestmark = pytest.mark.whole_service

CALLER_TRACE, CALLER_SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture
def traced(new_stack: Callable[..., Stack], collector: Collector) -> Stack:
    """A running service that exports its traces to the collector every 100 ms, and says so in its log."""
    stack = new_stack(traces=True, scraped=True, log_level="debug")
    stack.environment |= {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
    stack.environment |= {"FASTAPI_OTEL_AUTO_CONFIGURE": "true", "OTEL_METRIC_EXPORT_INTERVAL": "100"}
    return stack.start()


def trace_of(collector: Collector, request_id: str, count: int) -> list[Received]:
    """The spans of a request, in the order of their starts, once `count` of them have come."""
    trace_id = request_id.replace("-", "")
    spans = eventually(lambda: len(found := [x for x in collector.spans if x.trace_id == trace_id]) >= count and found)
    return sorted(spans, key=lambda span: span.started_at)


def test_a_transfer_is_one_trace(traced: Stack, collector: Collector) -> None:
    ada = traced.sign_up()
    payer, payee = ada.open_account(funds=500_000), ada.open_account()
    headers = {"Prefer": "wait=20", "traceparent": f"00-{CALLER_TRACE}-{CALLER_SPAN}-01"}
    body = {"from_account_id": payer, "to_account_id": payee, "amount": 123456, "description": "canary-description"}
    answer = ada.post("/transfers", body, **headers, **{"Idempotency-Key": "canary-key"})
    assert answer.json()["status"] == "completed"
    request_id = answer.headers["x-request-id"]
    root, commit, settle = trace_of(collector, request_id, 3)

    assert (root.name, root.kind, root.parent_id) == ("POST /transfers", "SERVER", "")
    assert root.span_id == request_id.replace("-", "")[16:]
    assert root.attributes == {
        "http.request.method": "POST",
        "http.route": "/transfers",
        "http.response.status_code": 200,
        "giro.request_id": request_id,
        "giro.caller_trace_id": CALLER_TRACE,
    }
    assert root.links == [(CALLER_TRACE, CALLER_SPAN)]
    assert (commit.name, commit.parent_id) == ("intake commit", root.span_id)
    assert commit.attributes == {"giro.group_size": 1}
    assert root.started_at <= commit.started_at < commit.ended_at <= root.ended_at
    assert (settle.name, settle.kind, settle.parent_id) == ("settle", "CONSUMER", root.span_id)
    assert settle.attributes == {
        "giro.sequence": settle.attributes["giro.sequence"],
        "giro.status": "completed",
        "giro.count": 1,
        "giro.failed": 0,
    }
    assert [span.resource["service.instance.id"] for span in (root, commit, settle)] == ["api", "api", "settlement"]
    assert {span.resource["service.name"] for span in (root, commit, settle)} == {"giro"}
    assert not any(span.failed for span in (root, commit, settle))

    exported = b"".join(collector.bodies)
    for private in ("canary", "@example.com", payer, payee, answer.json()["id"], "123456", "127.0.0.1"):
        assert private.encode() not in exported

    assert {span.scope for span in collector.spans} == {"giro"}, "the framework exports nothing"
    assert collector.paths == {"/v1/traces"}

    # The same id is on the log lines of both processes, and is the exemplar of the histogram.
    lines = traced.logged("transfer_accepted") + traced.logged("transfer_settled")
    assert {line["process"] for line in lines if line["trace_id"] == root.trace_id} == {"api", "settlement"}
    metrics = httpx2.get(
        f"http://127.0.0.1:{traced.metrics_ports['settlement']}/metrics",
        headers={"Accept": "application/openmetrics-text; version=1.0.0"},
        trust_env=False,
    )
    assert metrics.headers["content-type"].startswith("application/openmetrics-text")
    buckets = [line for line in metrics.text.splitlines() if line.startswith("giro_transfer_lifetime_seconds_bucket")]
    assert any(f'# {{trace_id="{root.trace_id}"}}' in line for line in buckets)


def test_a_stop_exports_the_last_spans(new_stack: Callable[..., Stack], collector: Collector) -> None:
    stack = new_stack(traces=True)
    stack.environment |= {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "600000"}
    stack.start()
    request_id = stack.client.get("/health/live").headers["x-request-id"]
    assert collector.spans == []
    assert stack.stop() == 0
    (root,) = trace_of(collector, request_id, 1)
    assert root.name == "GET /health/live"


def test_an_absent_collector_neither_fails_nor_delays_anything(new_stack: Callable[..., Stack]) -> None:
    stack = new_stack(traces=True)
    stack.environment |= {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_BSP_SCHEDULE_DELAY": "50"}
    stack.start()
    ada = stack.sign_up()
    payer, payee = ada.open_account(funds=500), ada.open_account()
    for _ in range(20):
        assert ada.submit(payer, payee, 1, Prefer="wait=20").json()["status"] == "completed"
    lines = eventually(lambda: stack.logged("trace_export_warning"))
    assert len({line["process"] for line in lines}) == len(lines), "one line for each process in a minute"
    assert stack.stop() == 0
    assert stack.logged("child_killed") == []
