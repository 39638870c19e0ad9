"""Traces of jobs: one span for each run of a job."""

import pytest
from dramatiq.brokers.redis import RedisBroker

from core.storage.sqlite.engine import Database
from core.telemetry.tracing import Kind
from tests.builders import rows
from tests.recorded_spans import record_spans


def test_a_job_has_one_span(broker: RedisBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    spans = record_spans(monkeypatch)
    broker.get_actor("checkpoint").fn()
    (span,) = spans
    assert (span.name, span.kind, span.parent_id, span.failed) == ("job checkpoint", Kind.CONSUMER, None, False)


def test_a_failed_job_is_marked_and_still_counted(
    broker: RedisBroker, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    spans = record_spans(monkeypatch)

    def broken(_database: Database) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("core.storage.sqlite.upkeep.checkpoint", broken)
    broker.get_actor("checkpoint").fn()
    (span,) = spans
    assert span.failed
    assert [row["actor"] for row in rows(database, "SELECT actor FROM dead_letters")] == ["checkpoint"]


def test_an_unsampled_job_has_no_span(broker: RedisBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    spans = record_spans(monkeypatch, lambda _id: False)
    broker.get_actor("checkpoint").fn()
    assert spans == []
