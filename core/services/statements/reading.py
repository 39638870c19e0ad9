"""Reading and requesting statements."""

import os
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncSession

from core import documents
from core.clock import now_us, to_datetime
from core.domain.accounts import AccountError, AccountView
from core.domain.errors import CommonError, Part, Refusal
from core.domain.statements import (
    BankDetails,
    PendingStatement,
    Period,
    StatementError,
    StatementStatus,
    StatementView,
    StoredStatement,
)
from core.domain.transactions import TransactionView
from core.services.statements.making import close_months
from core.settings import Settings
from core.storage import accounts, running_totals, statement_runs, statements, transactions, users
from core.storage.engines import open_engine

DRAWING_PRIORITY = 10
"""The niceness of a process that draws documents."""


@dataclass(frozen=True, slots=True)
class Month:
    """A statement, and where the account's chain of transactions enters and leaves it."""

    statement: StatementView
    account_id: int
    newest: int | None
    """The row id of the last transaction before the end of the month."""
    before: int
    """All transactions of the statement have greater row ids than this."""


def ask_for(
    connection: Connection, *, user_id: int, account_id: UUID, period: Period, zone: ZoneInfo, group: int
) -> UUID:
    """Request the statement of a finished month and return its id; an existing statement keeps its id.

    Raises Refusal: `account_not_found`; `validation_failed` for a month that is not over; `statement_not_found` for
    a month in which the account did not exist.
    """
    account = accounts.read_owned(connection, user_id, account_id)
    if account is None:
        raise Refusal(AccountError.NOT_FOUND, about=Part.ACCOUNT)
    close_months(connection, zone, group=group)  # the scheduler may not have closed it yet
    if period >= _current(connection, zone):
        raise Refusal(CommonError.VALIDATION_FAILED, about=Part.MONTH, detail="The month is not over yet.")
    run = statement_runs.find(connection, period)
    if run is None or not _existed(account.created_at, account.closed_at, run.starts_at, run.ends_at):
        raise Refusal(StatementError.NOT_FOUND)
    return statements.request(connection, account_id=account.id, run_id=run.id)


async def get(session: AsyncSession, *, user_id: int, statement_id: UUID) -> Month | PendingStatement:
    """Read a statement of one of a user's accounts; raises Refusal (`statement_not_found`) for any other."""
    kept = await statements.get_owned(session, user_id, statement_id)
    if kept is None:
        raise Refusal(StatementError.NOT_FOUND)
    return _month(kept) if isinstance(kept.statement, StatementView) else kept.statement


async def list_for_account(
    session: AsyncSession, *, account: AccountView, below: int, offset: int, limit: int
) -> list[StoredStatement]:
    """List an account's statements, newest month first, starting below run `below`."""
    return await statements.of_account(session, account.id, below=below, offset=offset, limit=limit)


async def of_month(
    session: AsyncSession, *, account: AccountView, period: Period | None, zone: ZoneInfo, bank: BankDetails
) -> Month:
    """Read an account's statement of a month (None: the current one), or compute a provisional one.

    Raises Refusal: `validation_failed` for a month that has not begun, `statement_not_found` for a month in which the
    account did not exist.
    """
    connection = await session.connection()
    current = await connection.run_sync(_current, zone)
    period = period or current
    if period > current:
        raise Refusal(CommonError.VALIDATION_FAILED, about=Part.MONTH, detail="The month has not begun yet.")
    kept = await statements.of_month(session, account.id, period)
    if kept is not None and isinstance(kept.statement, StatementView):
        return _month(kept)
    return await _provisional(session, account, period, zone, bank)


async def list_transactions(
    session: AsyncSession, month: Month, *, start: int | None, limit: int
) -> list[TransactionView]:
    """List a month's transactions, newest first, going back from row id `start` (None: from the newest)."""
    start = month.newest if start is None else start
    found = await transactions.read(session, month.account_id, start, offset=0, limit=limit)
    return [transaction for transaction in found if transaction.id > month.before]


def draw(settings: Settings, month: Month, media_type: str) -> bytes:
    """Read a month's transactions and write them as a document of one of the types in `core.documents`.

    Meant for a separate process, which gives way to all others: a long month takes seconds of work. Next to an event
    loop, or on it, that work would delay every request.
    """
    os.setpriority(os.PRIO_PROCESS, 0, DRAWING_PRIORITY)
    database = open_engine(settings)
    with database.reading() as connection:
        found = _walk(connection, month, month.newest, month.statement.transaction_count)
    return documents.render(media_type, month.statement, found[::-1])


def _walk(connection: Connection, month: Month, start: int | None, limit: int) -> list[TransactionView]:
    found = transactions.walk(connection, month.account_id, start, offset=0, limit=limit) if limit else []
    return [transaction for transaction in found if transaction.id > month.before]


def _month(kept: StoredStatement) -> Month:
    assert isinstance(kept.statement, StatementView)
    return Month(kept.statement, kept.account_id, kept.closing_transaction_id, kept.opening_transaction_id or 0)


async def _provisional(
    session: AsyncSession, account: AccountView, period: Period, zone: ZoneInfo, bank: BankDetails
) -> Month:
    connection = await session.connection()
    starts_at, ends_at = await connection.run_sync(_bounds, period, zone)
    if not _existed(account.created_at, account.closed_at, starts_at, ends_at):
        raise Refusal(StatementError.NOT_FOUND)
    figures = await connection.run_sync(running_totals.figures, account.id, starts_at=starts_at, ends_at=ends_at)
    assert account.owner_id is not None, "a customer's account"
    owner = await users.get(session, account.owner_id)
    statement = StatementView(
        id=None,
        status=StatementStatus.PROVISIONAL,
        number=None,
        account_id=account.public_id,
        account_number=account.account_number,
        holder=owner.name or owner.email,
        bank=bank,
        period=period,
        time_zone=zone.key,
        starts_at=starts_at,
        ends_at=ends_at,
        currency=account.currency,
        opening_balance=figures.opening_balance,
        closing_balance=figures.closing_balance,
        total_credits=figures.total_credits,
        total_debits=figures.total_debits,
        transaction_count=figures.transaction_count,
        made_at=to_datetime(now_us()),
    )
    return Month(statement, account.id, figures.closing_transaction_id, figures.opening_transaction_id or 0)


def _current(connection: Connection, zone: ZoneInfo) -> Period:
    """Return the month of transactions posted now. It is never a closed month, whatever clock and time zone say."""
    newest = statement_runs.newest(connection)
    now = Period.of(to_datetime(now_us()), zone)
    return max(now, newest.period.following) if newest else now


def _bounds(connection: Connection, period: Period, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """Return the start and the end of a month: as it was closed, or as it will be closed."""
    run = statement_runs.find(connection, period)
    if run is not None:
        return run.starts_at, run.ends_at
    before = statement_runs.find(connection, period.preceding)
    return before.ends_at if before else period.starts_at(zone), period.ends_at(zone)


def _existed(opened_at: datetime, closed_at: datetime | None, starts_at: datetime, ends_at: datetime) -> bool:
    return opened_at < ends_at and not (closed_at is not None and closed_at < starts_at)
