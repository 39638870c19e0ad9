"""Statements in the database, and the data that they are made from."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import to_datetime, to_us
from core.domain.statements import (
    BankDetails,
    Figures,
    PendingStatement,
    Period,
    StatementStatus,
    StatementView,
    StoredStatement,
)
from core.ids import new_id
from core.storage.rows import HALF, joined
from core.storage.sql import Statement

_IN_SPAN = "posted_at >= :starts_at AND posted_at < :ends_at"


def _sum(amount: str, which: str) -> str:
    """Add up a part of the amounts of legs in a span. The sum of a part fits in 64 bits."""
    # nosemgrep: sql-from-constants - only constants of this module, no values
    return f"CAST(coalesce(sum({amount}) FILTER (WHERE {which} AND {_IN_SPAN}), 0) AS bigint)"


_FIGURES = text(
    # nosemgrep: sql-from-constants - only constants of this module, no values
    f"""
    WITH RECURSIVE chain (id, amount, posted_at, previous_id) AS (
        SELECT id, amount, posted_at, previous_id FROM transactions WHERE id = :start AND account_id = :account
        UNION ALL
        SELECT t.id, t.amount, t.posted_at, t.previous_id FROM chain CROSS JOIN transactions t
        WHERE t.id = chain.previous_id AND t.account_id = :account AND chain.posted_at >= :starts_at AND t.id < chain.id
    )
    SELECT
        max(id) FILTER (WHERE posted_at < :starts_at) AS opening_id,
        max(id) FILTER (WHERE posted_at < :ends_at) AS closing_id,
        count(*) FILTER (WHERE {_IN_SPAN}) AS leg_count,
        {_sum(f"amount / {HALF}", "amount > 0")} AS credits_high,
        {_sum(f"amount % {HALF}", "amount > 0")} AS credits_low,
        {_sum(f"-amount / {HALF}", "amount < 0")} AS debits_high,
        {_sum(f"-amount % {HALF}", "amount < 0")} AS debits_low
    FROM chain
    """
)
_BALANCES_AFTER = Statement("SELECT id, balance_after FROM transactions WHERE id IN (:opening, :closing)")


def figures(
    connection: Connection, account_id: int, *, start: int | None, starts_at: datetime, ends_at: datetime
) -> Figures:
    """Add up an account's legs in a span of time, walking its chain back from leg `start`.

    `start` is the account's newest leg, or any leg after the span; legs in between are skipped. This takes as many
    steps as there are legs from `start` on: core/storage/running_totals.py has the same figures in a bounded number.
    """
    values = {"start": start, "account": account_id, "starts_at": to_us(starts_at), "ends_at": to_us(ends_at)}
    sums = connection.execute(_FIGURES, values).one()
    found = _BALANCES_AFTER.run(connection, opening=sums.opening_id, closing=sums.closing_id)
    balances = {row[0]: row[1] for row in found}
    return Figures(
        opening_balance=balances.get(sums.opening_id, 0),
        closing_balance=balances.get(sums.closing_id, 0),
        total_credits=joined(sums.credits_high, sums.credits_low),
        total_debits=joined(sums.debits_high, sums.debits_low),
        transaction_count=sums.leg_count,
        opening_transaction_id=sums.opening_id,
        closing_transaction_id=sums.closing_id,
    )


@dataclass(frozen=True, slots=True)
class Holding:
    """An account that needs statements, and the facts of its last one (0 and None before the first)."""

    account_id: int
    holder: str
    opened_at: datetime
    closed_at: datetime | None
    last_transaction_id: int | None
    last_run_id: int | None
    last_number: int
    last_closing_transaction_id: int | None


_HOLDINGS = Statement(
    """
    SELECT a.id AS account_id, coalesce(u.name, u.email) AS holder, a.created_at, a.closed_at,
        a.last_transaction_id, s.run_id, coalesce(s.number, 0) AS number, s.closing_transaction_id
    FROM accounts a
    JOIN users u ON u.id = a.owner_id
    LEFT JOIN statements s ON s.id = (
        SELECT id FROM statements WHERE account_id = a.id AND status = 'final' ORDER BY run_id DESC LIMIT 1
    )
    WHERE a.id BETWEEN :first AND :last
    """
)


def holdings(connection: Connection, *, first: int, last: int) -> Iterator[Holding]:
    """Read customers' accounts by row id, from `first` to `last`."""
    for row in _HOLDINGS.named(connection, first=first, last=last):
        yield Holding(
            account_id=row.account_id,
            holder=row.holder,
            opened_at=to_datetime(row.created_at),
            closed_at=None if row.closed_at is None else to_datetime(row.closed_at),
            last_transaction_id=row.last_transaction_id,
            last_run_id=row.run_id,
            last_number=row.number,
            last_closing_transaction_id=row.closing_transaction_id,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NewStatement:
    """A statement to store."""

    account_id: int
    run_id: int
    number: int
    holder: str
    bank: BankDetails
    figures: Figures
    made_at: datetime


_WRITE = Statement(
    """
    INSERT INTO statements (public_id, account_id, run_id, status, number, holder, bank_name, bank_address, bank_bic,
        opening_balance, closing_balance, total_credits, total_debits, transaction_count, opening_transaction_id,
        closing_transaction_id, made_at)
    VALUES (:public_id, :account, :run, 'final', :number, :holder, :bank_name, :bank_address, :bank_bic,
        :opening_balance, :closing_balance, :total_credits, :total_debits, :transaction_count, :opening_id,
        :closing_id, :made_at)
    ON CONFLICT (account_id, run_id) DO UPDATE SET status = 'final', number = excluded.number,
        holder = excluded.holder, bank_name = excluded.bank_name, bank_address = excluded.bank_address,
        bank_bic = excluded.bank_bic, opening_balance = excluded.opening_balance,
        closing_balance = excluded.closing_balance, total_credits = excluded.total_credits,
        total_debits = excluded.total_debits, transaction_count = excluded.transaction_count,
        opening_transaction_id = excluded.opening_transaction_id,
        closing_transaction_id = excluded.closing_transaction_id, made_at = excluded.made_at
    WHERE statements.status = 'pending'
    """
)


def write(connection: Connection, statement: NewStatement) -> bool:
    """Store a statement, in place of the pending one if it was requested; False if it was already made."""
    bank, sums = statement.bank, statement.figures
    written = _WRITE.run(
        connection,
        public_id=new_id().bytes,
        account=statement.account_id,
        run=statement.run_id,
        number=statement.number,
        holder=statement.holder,
        bank_name=bank.name,
        bank_address=bank.address,
        bank_bic=bank.bic,
        opening_balance=sums.opening_balance,
        closing_balance=sums.closing_balance,
        total_credits=str(sums.total_credits),
        total_debits=str(sums.total_debits),
        transaction_count=sums.transaction_count,
        opening_id=sums.opening_transaction_id,
        closing_id=sums.closing_transaction_id,
        made_at=to_us(statement.made_at),
    )
    return written.rowcount == 1


_REQUEST = Statement(
    "INSERT INTO statements (public_id, account_id, run_id, status) VALUES (:public_id, :account, :run, 'pending') "
    "ON CONFLICT (account_id, run_id) DO NOTHING"
)
_PUBLIC_ID = Statement("SELECT public_id FROM statements WHERE account_id = :account AND run_id = :run")
_REQUESTED = Statement("SELECT id FROM statements WHERE status = 'pending' ORDER BY id LIMIT :limit")
_COUNT_REQUESTED = Statement("SELECT count(*) FROM statements WHERE status = 'pending'")
_FIND_REQUESTED = Statement("SELECT account_id, run_id FROM statements WHERE id = :id AND status = 'pending'")


def request(connection: Connection, *, account_id: int, run_id: int) -> UUID:
    """Request a statement and return its public id; an existing statement keeps its id."""
    _REQUEST.run(connection, public_id=new_id().bytes, account=account_id, run=run_id)
    return UUID(bytes=_PUBLIC_ID.run(connection, account=account_id, run=run_id).scalar_one())


def requested(connection: Connection, *, limit: int) -> list[int]:
    """Read the row ids of requested statements that are not made yet, oldest first."""
    return _REQUESTED.run(connection, limit=limit).scalars()


def count_requested(connection: Connection) -> int:
    """Count the requested statements that are not made yet."""
    count: int = _COUNT_REQUESTED.run(connection).scalar_one()
    return count


class Requested(NamedTuple):
    """The account and the run of a requested statement, by row id."""

    account_id: int
    run_id: int


def find_requested(connection: Connection, statement_id: int) -> Requested | None:
    """Read the account and the run of a requested statement that is not made yet."""
    row = _FIND_REQUESTED.run(connection, id=statement_id).first()
    return Requested(*row) if row else None


# --- reading -----------------------------------------------------------------------------------------------------


_SELECT = """
    SELECT s.public_id, s.status, s.number, a.public_id AS account_public_id, a.account_number, s.holder, s.bank_name,
        s.bank_address, s.bank_bic, r.period, r.time_zone, r.starts_at, r.ends_at, a.currency, s.opening_balance,
        s.closing_balance, s.total_credits, s.total_debits, s.transaction_count, s.made_at,
        s.run_id, s.account_id, s.opening_transaction_id, s.closing_transaction_id
    FROM statements s JOIN statement_runs r ON r.id = s.run_id JOIN accounts a ON a.id = s.account_id
"""
_ONE_OWNED = text(f"{_SELECT} WHERE s.public_id = :id AND a.owner_id = :owner")
_OF_MONTH = text(f"{_SELECT} WHERE s.account_id = :account AND r.period = :period")
_OF_ACCOUNT = text(
    f"{_SELECT} WHERE s.account_id = :account AND s.run_id < :below ORDER BY s.run_id DESC LIMIT :limit OFFSET :offset"
)


async def get_owned(session: AsyncSession, owner_id: int, public_id: UUID) -> StoredStatement | None:
    """Read one statement, if its account is this user's."""
    row = (await session.execute(_ONE_OWNED, {"id": public_id.bytes, "owner": owner_id})).first()
    return _stored(row) if row else None


async def of_month(session: AsyncSession, account_id: int, period: Period) -> StoredStatement | None:
    """Read an account's statement of a month, if it was made or requested."""
    row = (await session.execute(_OF_MONTH, {"account": account_id, "period": str(period)})).first()
    return _stored(row) if row else None


async def of_account(
    session: AsyncSession, account_id: int, *, below: int, offset: int, limit: int
) -> list[StoredStatement]:
    """Read an account's statements, newest month first, starting below run `below`."""
    page = {"account": account_id, "below": below, "limit": limit, "offset": offset}
    return [_stored(row) for row in await session.execute(_OF_ACCOUNT, page)]


def _stored(row: Any) -> StoredStatement:
    statement: StatementView | PendingStatement
    if row.status == StatementStatus.PENDING:
        statement = PendingStatement(
            id=UUID(bytes=row.public_id),
            account_id=UUID(bytes=row.account_public_id),
            period=Period.parse(row.period),
            currency=row.currency,
        )
    else:
        statement = _final(row)
    return StoredStatement(
        statement=statement,
        run_id=row.run_id,
        account_id=row.account_id,
        opening_transaction_id=row.opening_transaction_id,
        closing_transaction_id=row.closing_transaction_id,
    )


def _final(row: Any) -> StatementView:
    return StatementView(
        id=UUID(bytes=row.public_id),
        status=StatementStatus.FINAL,
        number=row.number,
        account_id=UUID(bytes=row.account_public_id),
        account_number=row.account_number,
        holder=row.holder,
        bank=BankDetails(name=row.bank_name, address=row.bank_address, bic=row.bank_bic),
        period=Period.parse(row.period),
        time_zone=row.time_zone,
        starts_at=to_datetime(row.starts_at),
        ends_at=to_datetime(row.ends_at),
        currency=row.currency,
        opening_balance=row.opening_balance,
        closing_balance=row.closing_balance,
        total_credits=int(row.total_credits),
        total_debits=int(row.total_debits),
        transaction_count=row.transaction_count,
        made_at=to_datetime(row.made_at),
    )
