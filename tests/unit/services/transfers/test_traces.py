"""Traces of settlement: one span for the transfers of each sampled request in a unit of work."""

from uuid import uuid4

import pytest
from prometheus_client import REGISTRY
from prometheus_client.openmetrics.exposition import generate_latest

from core.clock import now_us
from core.services.transfers.settlement import settle_pending
from core.storage.sqlite.engine import Database
from core.telemetry import tracing
from core.telemetry.tracing import Kind, Span
from core.telemetry.tracing.ids import in_hex, root_id_of, trace_id_of
from tests.builders import Bank, accept, accepted, freeze, from_ada_to_bob, settle_all, withdrawal_request
from tests.recorded_spans import record_spans

pytestmark = pytest.mark.funded(ada_has=1000)

REQUEST = "01932f4e-8c1a-7b3d-9e5f-2a6b8c0d4e1f"


def shown(span: Span) -> dict[str, str | int]:
    return {name.removeprefix("giro."): value for name, value in span.attributes.items()}


def exemplars() -> str:
    lines = generate_latest(REGISTRY).decode().splitlines()
    return "\n".join(line for line in lines if line.startswith("giro_transfer_lifetime_seconds_bucket"))


@pytest.fixture
def spans(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> list[Span]:
    return record_spans(monkeypatch)


def test_a_settled_transfer_has_a_span_below_its_request(database: Database, bank: Bank, spans: list[Span]) -> None:
    transfer = accepted(database, from_ada_to_bob(bank, request_id=REQUEST))
    before = now_us()
    settle_all(database)
    (span,) = spans
    trace_id = trace_id_of(REQUEST)
    assert (span.name, span.kind, span.trace_id, span.parent_id) == (
        "settle",
        Kind.CONSUMER,
        trace_id,
        root_id_of(trace_id),
    )
    assert span.span_id != span.parent_id
    assert before <= span.started_at < span.ended_at <= now_us()
    assert shown(span) == {"sequence": transfer.sequence, "status": "completed", "count": 1, "failed": 0}


def test_a_failed_transfer_has_its_code_and_is_not_an_error(database: Database, bank: Bank, spans: list[Span]) -> None:
    accepted(database, from_ada_to_bob(bank, request_id=REQUEST))
    freeze(database, bank.ada_account)
    settle_all(database)
    (span,) = spans
    assert (shown(span)["status"], shown(span)["failure_code"]) == ("failed", "account_frozen")
    assert not span.failed


def test_transfers_of_one_request_are_one_span(database: Database, bank: Bank, spans: list[Span]) -> None:
    first, *_ = accept(database, *(from_ada_to_bob(bank, 1, request_id=REQUEST) for _ in range(30)))
    accept(database, from_ada_to_bob(bank, 1, request_id="another"))
    settle_all(database)
    (whole, other) = spans
    assert shown(whole) == {"sequence": first.sequence, "status": "completed", "count": 30, "failed": 0}  # type: ignore[union-attr]
    assert (shown(other)["count"], other.trace_id) == (1, trace_id_of("another"))


def test_a_request_that_settles_in_two_units_of_work_has_two_spans(
    database: Database, bank: Bank, spans: list[Span]
) -> None:
    accept(database, *(from_ada_to_bob(bank, 1, request_id=REQUEST) for _ in range(5)))
    settle_pending(database, batch=3, lock_ms=1000)
    assert [shown(span)["count"] for span in spans] == [3, 2]
    assert len({span.span_id for span in spans}) == 2


def test_an_unsampled_transfer_has_no_span(database: Database, bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    spans = record_spans(monkeypatch, lambda trace_id: trace_id == trace_id_of(REQUEST))
    accept(database, *(from_ada_to_bob(bank, 1, request_id=str(uuid4())) for _ in range(3)))
    accept(database, from_ada_to_bob(bank, 1, request_id=REQUEST))
    settle_all(database)
    assert [span.trace_id for span in spans] == [trace_id_of(REQUEST)]


def test_the_histogram_of_lifetimes_has_a_sampled_trace_as_exemplar(
    database: Database, bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampled, other = str(uuid4()), str(uuid4())
    record_spans(monkeypatch, lambda trace_id: trace_id == trace_id_of(sampled))
    accept(database, *(from_ada_to_bob(bank, 1, request_id=request_id) for request_id in (other, sampled, other)))
    settle_all(database)
    assert f'# {{trace_id="{in_hex(trace_id_of(sampled))}"}}' in exemplars()
    assert in_hex(trace_id_of(other)) not in exemplars()


def test_without_traces_no_exemplar_is_set(database: Database, bank: Bank) -> None:
    request_id = str(uuid4())
    accepted(database, withdrawal_request(bank.ada_account, 1, request_id=request_id))
    settle_all(database)
    assert tracing.active is None
    assert in_hex(trace_id_of(request_id)) not in exemplars()
