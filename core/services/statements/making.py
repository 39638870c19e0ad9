"""Making statements: closing months, and processing their accounts in groups.

All functions can be called repeatedly and concurrently: a month is closed once, a statement is unique per account
and month, and missing statements are found in the database.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import now_us, to_datetime
from core.domain.statements import BankDetails, Period, Run
from core.failpoints import hit
from core.services import clocks
from core.storage import statement_runs, statements
from core.storage.engines import Engine
from core.storage.statements import Holding, NewStatement
from core.storage.unit_of_work import unit_of_work


class BrokenChain(Exception):
    """A statement would not begin where the previous one ended, or would not add up: the account's chain is broken."""


# --- closing months ----------------------------------------------------------------------------------------------


def month_due(connection: Connection, zone: ZoneInfo) -> Period | None:
    """Find the oldest finished month that is not closed yet, starting with that of the first customer's account.

    While the clock is in doubt, no month counts as finished: a closed month cannot be opened again.
    """
    newest = statement_runs.newest(connection)
    if newest is not None:
        period = newest.period.following
    else:
        opened_at = statement_runs.first_account_opened_at(connection)
        if opened_at is None:
            return None
        period = Period.of(opened_at, zone)
    is_over = period.ends_at(zone) <= to_datetime(now_us())
    return period if is_over and clocks.state(connection).doubt is None else None


def overdue_since(connection: Connection, zone: ZoneInfo) -> datetime | None:
    """Find the end of the oldest finished month, closed or not, that lacks statements; None if all are made."""
    missing = month_due(connection, zone)
    # Months are closed in order, so a closed month that lacks statements is older than any that is not closed.
    return statement_runs.unfinished_since(connection) or (missing.ends_at(zone) if missing else None)


def close_months(connection: Connection, zone: ZoneInfo, *, group: int) -> int:
    """Close every finished month, oldest first, and return how many. After the commit no leg can fall into them.

    Each month becomes a run, whose accounts are divided into groups of up to `group` row ids.
    """
    closed = 0
    while period := month_due(connection, zone):
        newest = statement_runs.newest(connection)
        last = statement_runs.last_account_id(connection)
        statement_runs.add(
            connection,
            period=period,
            time_zone=zone.key,
            # Not the month's own first instant: a new time zone must leave no gap between months.
            starts_at=newest.ends_at if newest else period.starts_at(zone),
            ends_at=period.ends_at(zone),
            opened_at=to_datetime(now_us()),
            groups=[(first, min(first + group - 1, last)) for first in range(1, last + 1, group)],
        )
        closed += 1
    return closed


# --- making statements -------------------------------------------------------------------------------------------


def make_group(database: Engine, bank: BankDetails, group_id: int) -> int:
    """Make the missing statements of one group's accounts, and return how many; 0 for a group that is done.

    Raises BrokenChain if an account's statements cannot be made. Those of the other accounts are still made.
    """
    with database.reading() as connection:
        group = statement_runs.undone_group(connection, group_id)
        if group is None:
            return 0
        first, last, through = group.first_account_id, group.last_account_id, group.run_id
        found = _Found(connection, bank, first=first, last=last, through=through)
    with unit_of_work(database) as connection:
        made = _write(connection, found.missing)
        if not found.broken:
            statement_runs.finish_group(connection, group, to_datetime(now_us()))
    found.raise_first_error()
    return made


def make_one(database: Engine, bank: BankDetails, statement_id: int) -> int:
    """Make a requested statement and the missing ones before it, and return how many.

    Raises BrokenChain if it cannot be made.
    """
    with database.reading() as connection:
        asked_for = statements.find_requested(connection, statement_id)
        if asked_for is None:
            return 0
        account_id = asked_for.account_id
        found = _Found(connection, bank, first=account_id, last=account_id, through=asked_for.run_id)
    with unit_of_work(database) as connection:
        made = _write(connection, found.missing)
    found.raise_first_error()
    return made


class _Found:
    """The missing statements of some accounts.

    They are computed outside the lock, since nothing can be posted into a closed month any more. Other writers wait
    only while the statements are written.
    """

    def __init__(self, connection: Connection, bank: BankDetails, *, first: int, last: int, through: int) -> None:
        self.missing: list[NewStatement] = []
        self.broken: list[BrokenChain] = []
        runs = statement_runs.all_runs(connection)
        for holding in statements.holdings(connection, first=first, last=last):
            try:
                self.missing += _missing(connection, bank, holding, runs, through=through)
            except BrokenChain as error:
                self.broken.append(error)

    def raise_first_error(self) -> None:
        """Raise the error of the first account whose statements cannot be made."""
        if self.broken:
            raise self.broken[0]


def _missing(
    connection: Connection, bank: BankDetails, holding: Holding, runs: Sequence[Run], *, through: int
) -> list[NewStatement]:
    """Compute an account's missing statements up to a run, oldest first; `runs` are given newest first."""
    missing = [run for run in runs if run.id <= through and _lacks(holding, run)]
    found: list[NewStatement] = []
    start, number = holding.last_transaction_id, holding.last_number + len(missing)
    made_at = to_datetime(now_us())
    for run in missing:
        # The walk of each month starts where that of the later month ended, so the chain is walked once.
        figures = statements.figures(
            connection, holding.account_id, start=start, starts_at=run.starts_at, ends_at=run.ends_at
        )
        if not figures.add_up:
            raise BrokenChain(f"account {holding.account_id}: the legs of {run.period} do not add up to its balances")
        found.append(
            NewStatement(
                account_id=holding.account_id,
                run_id=run.id,
                number=number,
                holder=holding.holder,
                bank=bank,
                figures=figures,
                made_at=made_at,
            )
        )
        start, number = figures.opening_transaction_id, number - 1
    if missing and start != holding.last_closing_transaction_id:
        raise BrokenChain(
            f"account {holding.account_id}: its month begins after leg {start}, "
            f"the previous one ended with {holding.last_closing_transaction_id}"
        )
    return found[::-1]


def _lacks(holding: Holding, run: Run) -> bool:
    """Return whether an account existed in a month and has no statement of it."""
    made = holding.last_run_id is not None and run.id <= holding.last_run_id
    return (
        not made and run.ends_at > holding.opened_at and not (holding.closed_at and holding.closed_at < run.starts_at)
    )


def _write(connection: Connection, missing: Sequence[NewStatement]) -> int:
    hit("statements.before_write")
    made = Counter(statement.run_id for statement in missing if statements.write(connection, statement))
    statement_runs.count_statements(connection, made.items())
    hit("statements.between_writes")
    return made.total()


# --- reading -----------------------------------------------------------------------------------------------------


async def list_runs(session: AsyncSession, *, below: int, offset: int, limit: int) -> list[Run]:
    """List runs, newest month first, starting below row id `below`."""
    return await statement_runs.read(session, below=below, offset=offset, limit=limit)
