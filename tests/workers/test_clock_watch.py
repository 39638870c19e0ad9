"""The scheduler observes the clocks once a minute, and logs a doubt once."""

import time

import pytest
from structlog.testing import capture_logs

from core.storage.sqlite.engine import Database
from tests.builders import move_on, rows
from tests.time_travel import Clock
from workers import clock_watch
from workers.clock_watch import ClockWatch


@pytest.fixture
def watch(database: Database, monkeypatch: pytest.MonkeyPatch) -> ClockWatch:
    """A watch that looks each time it is asked."""
    monkeypatch.setattr(clock_watch, "EVERY_SECONDS", 0)
    return ClockWatch(database)


def observed(database: Database) -> list[int]:
    return [row["wall_at"] for row in rows(database, "SELECT wall_at FROM clocks")]


def test_an_observation_is_stored_at_the_start_and_again_after_a_minute(
    database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch, now = ClockWatch(database), time.monotonic()
    monkeypatch.setattr(clock_watch.time, "monotonic", lambda: now)
    watch.look()
    first = observed(database)
    clock.advance(seconds=30)
    watch.look()
    assert observed(database) == first
    now += 61
    watch.look()
    assert observed(database) == [first[0] + 30_000_000]


def test_a_doubt_is_logged_when_it_begins_and_when_it_ends(watch: ClockWatch, database: Database, clock: Clock) -> None:
    watch.look()
    before = observed(database)
    clock.advance(days=40)
    with capture_logs() as lines:
        watch.look()
        watch.look()
    assert [(line["event"], line["log_level"]) for line in lines] == [("clock_in_doubt", "error")]
    assert abs(lines[0]["difference_seconds"] - 40 * 86_400) < 60
    assert observed(database) == before
    clock.advance(days=-40)
    with capture_logs() as lines:
        watch.look()
        watch.look()
    assert [line["event"] for line in lines] == ["clock_trusted_again"]


def test_a_database_that_cannot_be_written_stops_no_scheduler(watch: ClockWatch, database: Database) -> None:
    move_on(database)
    with capture_logs() as lines:
        watch.look()
    assert "clock_not_observed" in [line["event"] for line in lines]
