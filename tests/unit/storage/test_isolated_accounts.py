"""Writing accounts that are set apart: a row that breaks its own CHECKs does not keep the others from being written."""

import pytest

from core.storage import accounts
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests.builders import Bank, rows
from tests.tampering import tamper

ALL = "SELECT id, status, released_count AS released FROM accounts WHERE kind = 'customer' ORDER BY id"


@pytest.fixture
def customers(database: Database, bank: Bank) -> list[int]:
    """The row ids of two accounts: of the first one the row breaks its CHECKs."""
    assert bank.ada_account
    ids = [row["id"] for row in rows(database, ALL)]
    tamper(database, f"UPDATE accounts SET closed_at = 5 WHERE id = {ids[0]}")
    return ids


def test_broken_rows_are_not_frozen_and_the_others_are(database: Database, customers: list[int]) -> None:
    with unit_of_work(database) as connection:
        assert len(accounts.freeze_all(connection, customers)) == 2
    assert [row["status"] for row in rows(database, ALL)] == ["active", "frozen"]


def test_a_broken_row_does_not_keep_others_from_releasing(database: Database, customers: list[int]) -> None:
    with unit_of_work(database) as connection:
        met = {account.id: account for account in accounts.read_for_settlement(connection, customers)}
        for account in met.values():
            account.released, account.released_count = 7, 1
        accounts.release_isolated(connection, [met[row_id] for row_id in customers])
    # SQLite evaluates only the CHECKs of columns that change, so it may write the broken row as well.
    assert rows(database, ALL)[1]["released"] == 1


def test_no_account_needs_no_statement(database: Database) -> None:
    with unit_of_work(database) as connection:
        assert accounts.freeze_all(connection, []) == []
        assert accounts.statuses(connection, []) == {}
        assert list(accounts.read_for_settlement(connection, [])) == []
        accounts.release_isolated(connection, [])
