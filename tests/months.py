"""Closing months and making statements in tests, like the scheduler and the jobs worker together."""

from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from core.domain.lanes import Lane
from core.domain.statements import BankDetails
from core.services.statements import making
from core.storage import statement_runs as stored
from core.storage.engines import Engine
from core.storage.unit_of_work import unit_of_work
from tests.builders import rows

UTC_ZONE = ZoneInfo("UTC")
BANK = BankDetails(name="Giro", address="1 Main Street", bic="GIRODEFF")
FIGURES = ("opening_balance", "closing_balance", "total_credits", "total_debits", "transaction_count")


def figures(statement: dict[str, Any]) -> tuple[Any, ...]:
    """The amounts and the count of a statement, in the order of `FIGURES`."""
    return tuple(statement[name] for name in FIGURES)


def close_months(database: Engine, zone: ZoneInfo = UTC_ZONE, group: int = 200) -> int:
    """Close the months that are over, and return their number."""
    with unit_of_work(database, *Lane) as connection:
        return making.close_months(connection, zone, group=group)


def undone_groups(database: Engine) -> list[int]:
    """The groups of accounts whose statements are not made yet."""
    with database.reading() as connection:
        return stored.undone_groups(connection, limit=1000)


def work_off(database: Engine, bank: BankDetails = BANK) -> int:
    """Make the statements of all open groups, and return their number."""
    return sum(making.make_group(database, bank, group) for group in undone_groups(database))


def make_statements(database: Engine, zone: ZoneInfo = UTC_ZONE, bank: BankDetails = BANK) -> int:
    """Close the months that are over, make their statements, and return the number of statements."""
    close_months(database, zone)
    return work_off(database, bank)


def make_requested(database: Engine) -> int:
    """Make the requested statements, and return their number."""
    requested = rows(database, "SELECT id FROM statements WHERE status = 'pending' ORDER BY id")
    return sum(making.make_one(database, BANK, row["id"]) for row in requested)


def statements_of(database: Engine, account: UUID) -> list[dict[str, Any]]:
    """Every column of an account's statements, raw, and their months, oldest first."""
    return rows(
        database,
        "SELECT r.period, r.starts_at, r.ends_at, s.* FROM statements s JOIN statement_runs r ON r.id = s.run_id "
        "JOIN accounts a ON a.id = s.account_id WHERE a.public_id = ? ORDER BY r.id",
        account.bytes,
    )


def months_of(database: Engine, account: UUID) -> list[str]:
    """The months for which an account has statements."""
    return [row["period"] for row in statements_of(database, account)]


def runs(database: Engine) -> list[dict[str, Any]]:
    """Every column of every run, oldest first."""
    return rows(database, "SELECT * FROM statement_runs ORDER BY id")


def partition_of_legs(database: Engine) -> dict[int, list[str]]:
    """For each customer's leg, by row id, the months of the statements that contain it."""
    found: dict[int, list[str]] = {
        row["id"]: []
        for row in rows(
            database,
            "SELECT t.id FROM transactions t JOIN accounts a ON a.id = t.account_id WHERE a.kind = 'customer'",
        )
    }
    for row in rows(
        database,
        "SELECT t.id, r.period FROM statements s JOIN statement_runs r ON r.id = s.run_id "
        "JOIN transactions t ON t.account_id = s.account_id AND t.id > coalesce(s.opening_transaction_id, 0) "
        "AND t.id <= s.closing_transaction_id AND t.posted_at >= r.starts_at AND t.posted_at < r.ends_at",
    ):
        found[row["id"]].append(row["period"])
    return found
