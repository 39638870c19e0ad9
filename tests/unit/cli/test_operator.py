"""`giro operator …` and `giro queue …` for background work: statement runs, dead letters, verification."""

from uuid import uuid4

from core.clock import now_us, to_datetime
from core.domain.dead_letters import Letter
from core.services import dead_letters, verification
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests.builders import bank_of_two, rows
from tests.months import close_months, make_statements
from tests.time_travel import Clock
from tests.unit.cli.test_cli import everything_said, giro


def lines(*words: str) -> list[list[str]]:
    """The lines of a list below its heading, each as a list of words."""
    result = giro(*words)
    assert result.exit_code == 0, result.stderr
    return [line.split() for line in result.stdout.splitlines()[1:]]


def park(database: Database) -> str:
    """Make a group of accounts fail until it is parked, and return the letter's id."""
    with unit_of_work(database) as connection:
        for _ in range(3):
            dead_letters.fail(connection, Letter("statements", "make_statement_group", (7,)), ZeroDivisionError("zero"))
    ((letter, *_),) = lines("queue", "list")
    return letter


def test_runs_are_listed_newest_first_with_their_progress(database: Database, clock: Clock) -> None:
    bank_of_two(database, ada_has=1000)
    clock.set(2026, 2, 3)
    make_statements(database)
    clock.set(2026, 3, 3)
    close_months(database)
    february, january = lines("operator", "statement-runs")
    assert (february[0], january[0]) == ("2026-02", "2026-01")
    assert (february[-5:], january[4:8]) == (["0", "of", "1", "0", "-"], ["1", "of", "1", "2"])


def test_a_parked_message_is_listed_and_retried(database: Database) -> None:
    assert lines("queue", "list") == []
    letter = park(database)
    assert "make_statement_group [7]" in everything_said(giro("queue", "list"))
    assert lines("operator", "queue")[0][-1] == "1"
    assert giro("queue", "retry", letter).exit_code == 0
    assert lines("queue", "list") == []
    assert [row["attempts"] for row in rows(database, "SELECT attempts FROM dead_letters")] == [0]
    assert [row["action"] for row in rows(database, "SELECT action FROM audit_entries")] == ["dead_letter_retried"]


def test_a_parked_message_is_dropped(database: Database) -> None:
    assert giro("queue", "drop", park(database)).exit_code == 0
    assert rows(database, "SELECT id FROM dead_letters") == []
    assert [row["action"] for row in rows(database, "SELECT action FROM audit_entries")] == ["dead_letter_dropped"]


def test_a_message_that_is_not_parked_is_reported_in_one_line(database: Database) -> None:
    for verb in ("retry", "drop"):
        result = giro("queue", verb, str(uuid4()))
        assert (result.exit_code, "dead_letter_not_found" in result.stderr) == (1, True)


def test_the_last_verification_is_shown_with_its_breaches(database: Database) -> None:
    assert "no verification has been kept yet" in everything_said(giro("operator", "verification"))
    bank_of_two(database, ada_has=500)
    with unit_of_work(database) as connection:
        connection.exec_driver_sql("UPDATE accounts SET balance = balance + 1 WHERE kind = 'customer'")
    report = verification.verify(database)
    with unit_of_work(database) as connection:
        verification.keep(connection, report, started_at=to_datetime(now_us()))
    said = everything_said(giro("operator", "verification"))
    assert "balance_is_sum_of_legs" in said
    assert f"full 3 1 2 1 - {report.counts.total()}" in said
