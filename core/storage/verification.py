"""The whole ledger, row by row in its own order, for whoever checks it."""

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection

_BLOCK = 1000


@dataclass(frozen=True, slots=True)
class AccountRow:
    """An account as it is stored. Amounts are minor units."""

    id: int
    kind: str
    currency: str
    balance: int
    reserved: int
    overdraft_limit: int
    last_transaction_id: int | None


@dataclass(frozen=True, slots=True)
class LegRow:
    """A leg beside what its transfer says; the transfer's part is None where there is no such transfer."""

    id: int
    transfer_id: int
    account_id: int
    amount: int
    balance_after: int
    posted_at: int
    previous_id: int | None
    status: str | None
    from_account_id: int | None
    to_account_id: int | None
    transfer_amount: int | None


def count(connection: Connection, table: str) -> int:
    """Count the rows of `accounts`, `transfers` or `transactions`."""
    assert table in ("accounts", "transfers", "transactions")
    rows: int = connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one()
    return rows


def accounts(connection: Connection) -> Iterator[AccountRow]:
    """Read every account."""
    rows = connection.execution_options(yield_per=_BLOCK).exec_driver_sql(
        "SELECT id, kind, currency, balance, reserved, overdraft_limit, last_transaction_id FROM accounts ORDER BY id"
    )
    return (AccountRow(*row) for row in rows)


def legs(connection: Connection) -> Iterator[LegRow]:
    """Read every leg in the order of posting."""
    rows = connection.execution_options(yield_per=_BLOCK).exec_driver_sql(
        "SELECT l.id, l.transfer_id, l.account_id, l.amount, l.balance_after, l.posted_at, l.previous_id, "
        "t.status, t.from_account_id, t.to_account_id, t.amount "
        "FROM transactions l LEFT JOIN transfers t ON t.id = l.transfer_id ORDER BY l.id"
    )
    return (LegRow(*row) for row in rows)


def completed_transfers(connection: Connection) -> int:
    """Count the transfers that should have legs."""
    rows: int = connection.exec_driver_sql("SELECT count(*) FROM transfers WHERE status = 'completed'").scalar_one()
    return rows


def reserved_by_account(connection: Connection) -> dict[int, int]:
    """Add up the debits of each account's pending transfers, in minor units (in Python: SQLite's SUM can overflow)."""
    totals: dict[int, int] = {}
    rows = connection.exec_driver_sql("SELECT from_account_id, amount FROM transfers WHERE status = 'pending'")
    for account_id, amount in rows:
        totals[account_id] = totals.get(account_id, 0) + amount
    return totals
