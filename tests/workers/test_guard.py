"""The guard around every actor: it never raises, counts failures, parks after three, and resets after a success."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import REGISTRY

from core.clock import to_us
from core.domain.dead_letters import MOST_ATTEMPTS, Letter
from core.domain.errors import OutcomeUnknown, Unavailable
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests.builders import rows
from tests.time_travel import Clock
from workers import guard
from workers.guard import Guard

LETTER = Letter("statements", "make_statement_group", (5,))


class Broken(Exception):
    """An unexpected error."""


def fails(error: Exception | None = None) -> Callable[[], None]:
    def work() -> None:
        raise error or Broken("the chain")

    return work


def letters(database: Database) -> list[dict[str, Any]]:
    return rows(database, "SELECT * FROM dead_letters ORDER BY id")


def attempts(database: Database) -> list[tuple[str, str, int, bool]]:
    return [
        (row["actor"], row["arguments"], row["attempts"], row["parked_at"] is not None) for row in letters(database)
    ]


def counted() -> float:
    return REGISTRY.get_sample_value("giro_unhandled_exceptions_total") or 0.0


def cannot_open() -> float:
    return REGISTRY.get_sample_value("giro_database_errors_total", {"error": "SQLITE_CANTOPEN"}) or 0.0


@pytest.fixture
def guarded(database: Database) -> Guard:
    return Guard(database)


def test_result_of_work_is_returned_and_nothing_is_recorded(database: Database, guarded: Guard) -> None:
    assert guarded.run(LETTER, lambda: 7) == 7
    assert letters(database) == []


def test_failure_is_counted_with_its_error(database: Database, guarded: Guard, clock: Clock) -> None:
    before, first = counted(), clock.now
    assert guarded.run(LETTER, fails()) is None
    second = clock.advance(minutes=1)
    assert guarded.run(LETTER, fails(Broken("again"))) is None
    (row,) = letters(database)
    assert (row["queue"], row["actor"], row["arguments"]) == ("statements", "make_statement_group", "[5]")
    assert (row["error"], row["attempts"], row["parked_at"]) == ("Broken: again", 2, None)
    assert (row["first_failed_at"], row["last_failed_at"]) == (to_us(first), to_us(second))
    assert counted() == before + 2


def test_long_error_is_truncated(database: Database, guarded: Guard) -> None:
    guarded.run(LETTER, fails(Broken("x" * 10_000)))
    assert len(letters(database)[0]["error"]) == 500


def test_third_failure_in_a_row_parks_the_message(database: Database, guarded: Guard, clock: Clock) -> None:
    assert MOST_ATTEMPTS == 3
    for number, parked in ((1, False), (2, False), (3, True), (4, True)):
        clock.advance(minutes=1)
        guarded.run(LETTER, fails())
        assert attempts(database) == [("make_statement_group", "[5]", number, parked)]
    assert letters(database)[0]["parked_at"] == to_us(clock.advance(minutes=-1))


def test_failures_are_counted_per_message(database: Database, guarded: Guard) -> None:
    for letter in (LETTER, Letter("statements", "make_statement_group", (6,)), Letter("jobs", "verify"), LETTER):
        guarded.run(letter, fails())
    assert attempts(database) == [
        ("make_statement_group", "[5]", 2, False),
        ("make_statement_group", "[6]", 1, False),
        ("verify", "[]", 1, False),
    ]


@pytest.mark.parametrize("times", [1, 3])
def test_success_resets_failures(database: Database, guarded: Guard, times: int) -> None:
    for _ in range(times):
        guarded.run(LETTER, fails())
    guarded.run(Letter("jobs", "verify"), fails())
    assert guarded.run(LETTER, lambda: 7) == 7
    assert attempts(database) == [("verify", "[]", 1, False)]


def test_failures_are_counted_across_processes(database: Database) -> None:
    for _ in range(3):
        Guard(database).run(LETTER, fails())
    assert attempts(database) == [("make_statement_group", "[5]", 3, True)]
    assert Guard(database).run(LETTER, lambda: 7) == 7
    assert letters(database) == []


def test_failures_of_another_process_are_reset_later(
    database: Database, guarded: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    guarded.run(LETTER, lambda: None)
    Guard(database).run(LETTER, fails())
    guarded.run(LETTER, lambda: None)
    assert len(letters(database)) == 1, "it has checked recently"
    later = guard.time.monotonic() + guard.LOOK_AGAIN_SECONDS
    monkeypatch.setattr(guard, "time", SimpleNamespace(monotonic=lambda: later))
    guarded.run(LETTER, lambda: None)
    assert letters(database) == []


def test_process_without_failures_reads_the_table_once(
    database: Database, guarded: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []
    monkeypatch.setattr(guard.dead_letters, "failing", lambda connection: looks.append(connection) or set())
    for _ in range(5):
        guarded.run(LETTER, lambda: None)
    assert len(looks) == 1


@pytest.mark.parametrize("error", [Unavailable(), OutcomeUnknown()])
def test_unwritable_database_does_not_count_as_a_failure(database: Database, guarded: Guard, error: Exception) -> None:
    before = counted()
    assert guarded.run(LETTER, fails(error)) is None
    assert letters(database) == []
    assert counted() == before


def test_unreadable_database_does_not_count_as_a_failure(database: Database, guarded: Guard) -> None:
    def read() -> None:
        with database.reader.connect():
            pass

    before, missing = counted(), cannot_open()
    with unit_of_work(database):
        pass
    away = database.path.rename(database.path.with_name("away.db"))
    assert guarded.run(LETTER, read) is None
    away.rename(database.path)
    assert letters(database) == []
    assert (counted(), cannot_open()) == (before, missing + 1)


def test_invalid_sql_statement_counts_as_a_failure(database: Database, guarded: Guard) -> None:
    def read() -> None:
        with database.reader.connect() as connection:
            connection.exec_driver_sql("SELECT name FROM nowhere WHERE name = ?", ("a secret",))

    guarded.run(LETTER, read)
    assert attempts(database) == [("make_statement_group", "[5]", 1, False)]
    assert letters(database)[0]["error"] == "OperationalError: no such table: nowhere", (
        "the error must not contain values"
    )


def test_failure_that_cannot_be_recorded_stops_nothing(database: Database, guarded: Guard) -> None:
    before = counted()
    away = database.path.rename(database.path.with_name("away.db"))
    assert guarded.run(LETTER, fails()) is None
    away.rename(database.path)
    assert counted() == before + 1
