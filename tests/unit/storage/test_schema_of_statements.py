"""Changes to closed months, statements and dead letters that the database itself rejects."""

import pytest

from core.storage.sqlite.engine import Database
from tests.builders import bank_of_two, rows
from tests.unit.storage.good_rows import NOTHING, STATEMENT, flat, insert, refused, written

STATEMENT_COLUMNS = (
    "id",
    "public_id",
    "account_id",
    "run_id",
    "status",
    "number",
    "holder",
    "bank_name",
    "bank_address",
    "bank_bic",
    "opening_balance",
    "closing_balance",
    "total_credits",
    "total_debits",
    "transaction_count",
    "opening_transaction_id",
    "closing_transaction_id",
    "made_at",
)


@pytest.fixture
def kept(database: Database) -> None:
    """A closed month with a statement, and a requested statement."""
    bank_of_two(database)
    written(database, *flat(insert("statement_runs")))
    written(database, *flat(insert("statements")))
    written(database, *flat(insert("statements", **NOTHING, account_id=3, public_id=b"asked for")))


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("column", STATEMENT_COLUMNS)
def test_a_statement_never_changes(database: Database, column: str) -> None:
    known = {row["name"] for row in rows(database, "SELECT name FROM pragma_table_info('statements')")}
    assert known == set(STATEMENT_COLUMNS) == {"id", *STATEMENT}
    because = "a statement (never changes|keeps its account and its month)"
    refused(database, f"UPDATE statements SET {column} = {column} WHERE status = 'final'", because=because)


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("column", ["id", "public_id", "account_id", "run_id"])
def test_a_requested_statement_keeps_its_account_and_its_month(database: Database, column: str) -> None:
    refused(
        database,
        f"UPDATE statements SET {column} = {column} WHERE status = 'pending'",
        because="keeps its account and its month",
    )


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("status", ["final", "pending"])
def test_a_statement_is_never_deleted(database: Database, status: str) -> None:
    refused(database, "DELETE FROM statements WHERE status = ?", status, because="a statement is never deleted")
    statement, values = insert("statements", public_id=b"in its place", account_id=2 if status == "final" else 3)
    refused(database, statement.replace("INSERT", "INSERT OR REPLACE"), *values, because="a statement is never deleted")


@pytest.mark.usefixtures("kept")
def test_an_account_has_one_statement_for_each_month(database: Database) -> None:
    statement, values = insert("statements", public_id=b"another")
    refused(database, statement, *values, because="UNIQUE constraint failed: statements.account_id, statements.run_id")


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("column", ["id", "period", "time_zone", "starts_at", "ends_at", "opened_at", "group_count"])
def test_a_run_keeps_its_month(database: Database, column: str) -> None:
    refused(database, f"UPDATE statement_runs SET {column} = {column}", because="a run keeps its month")


@pytest.mark.usefixtures("kept")
def test_a_run_is_never_deleted(database: Database) -> None:
    refused(database, "DELETE FROM statement_runs", because="a run is never deleted")


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("starts_at", [0, 2])
def test_a_run_begins_where_the_one_before_it_ends(database: Database, starts_at: int) -> None:
    after = {"period": "2026-02", "ends_at": 5}
    statement, values = insert("statement_runs", **after, starts_at=starts_at)
    refused(database, statement, *values, because="a run begins where the one before it ends")
    assert written(database, *flat(insert("statement_runs", **after, starts_at=1))) == 1


@pytest.mark.usefixtures("kept")
def test_a_month_is_closed_once(database: Database) -> None:
    statement, values = insert("statement_runs", starts_at=1, ends_at=2)
    refused(database, statement, *values, because="UNIQUE constraint failed: statement_runs.period")


def test_a_message_is_at_most_one_dead_letter(database: Database) -> None:
    written(database, *flat(insert("dead_letters")))
    statement, values = insert("dead_letters", public_id=b"another")
    refused(database, statement, *values, because="dead_letters.actor, dead_letters.arguments")


@pytest.mark.usefixtures("kept")
def test_the_public_ids_of_statements_are_unique(database: Database) -> None:
    statement, values = insert("statements", account_id=1)
    refused(database, statement, *values, because="statements.public_id")


def test_the_public_ids_of_dead_letters_are_unique(database: Database) -> None:
    written(database, *flat(insert("dead_letters")))
    statement, values = insert("dead_letters", actor="another")
    refused(database, statement, *values, because="dead_letters.public_id")
