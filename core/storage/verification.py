"""The whole ledger, row by row in its own order, for whoever checks it."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import to_datetime
from core.domain.statements import Figures
from core.models import Verification

_BLOCK = 1000
_HALF = 10**9


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


@dataclass(frozen=True, slots=True)
class StatementRow:
    """A final statement, its month's bounds, and its account's newest leg."""

    id: int
    account_id: int
    run_id: int
    number: int
    figures: Figures
    starts_at: datetime
    ends_at: datetime
    last_transaction_id: int | None


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


def statements(connection: Connection) -> Iterator[StatementRow]:
    """Read every final statement, by account, each one's newest month first."""
    rows = connection.execution_options(yield_per=_BLOCK).exec_driver_sql(
        "SELECT s.id, s.account_id, s.run_id, s.number, r.starts_at, r.ends_at, a.last_transaction_id, "
        "s.opening_balance, s.closing_balance, s.total_credits, s.total_debits, s.transaction_count, "
        "s.opening_transaction_id, s.closing_transaction_id "
        "FROM statements s CROSS JOIN statement_runs r ON r.id = s.run_id CROSS JOIN accounts a ON a.id = s.account_id "
        "WHERE s.status = 'final' ORDER BY s.account_id DESC, s.run_id DESC"  # as the index is, read backwards
    )
    for row in rows:
        figures = Figures(
            opening_balance=row[7],
            closing_balance=row[8],
            total_credits=int(row[9]),
            total_debits=int(row[10]),
            transaction_count=row[11],
            opening_transaction_id=row[12],
            closing_transaction_id=row[13],
        )
        yield StatementRow(
            id=row[0],
            account_id=row[1],
            run_id=row[2],
            number=row[3],
            figures=figures,
            starts_at=to_datetime(row[4]),
            ends_at=to_datetime(row[5]),
            last_transaction_id=row[6],
        )


def runs(connection: Connection) -> list[tuple[int, str, int]]:
    """Read every closed month: (row id, month, statements that were made of it)."""
    query = "SELECT id, period, statements FROM statement_runs ORDER BY id"
    return [(row[0], row[1], row[2]) for row in connection.exec_driver_sql(query)]


def add(connection: Connection, **values: Any) -> None:
    """Keep what a verification found."""
    connection.execute(insert(Verification).values(**values))


def newest(connection: Connection) -> tuple[datetime, datetime, int] | None:
    """Read when the last verification began and ended, and how many breaches it found; None before the first."""
    query = "SELECT started_at, finished_at, breaches FROM verifications ORDER BY id DESC LIMIT 1"
    row = connection.exec_driver_sql(query).first()
    return (to_datetime(row[0]), to_datetime(row[1]), row[2]) if row else None


def imbalances(connection: Connection) -> dict[str, int]:
    """Sum all balances of each currency, in minor units; reads every account."""
    # In two halves: before it comes back to 0, a sum may pass what SQLite's 64 bits hold.
    query = f"SELECT currency, sum(balance / {_HALF}), sum(balance % {_HALF}) FROM accounts GROUP BY currency"
    return {row[0]: row[1] * _HALF + row[2] for row in connection.exec_driver_sql(query)}


async def last(session: AsyncSession) -> Verification | None:
    """Read what the last verification found."""
    query = select(Verification).order_by(Verification.id.desc()).limit(1)
    return (await session.execute(query)).scalar_one_or_none()
