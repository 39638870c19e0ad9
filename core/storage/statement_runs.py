"""Runs of statements in the database, and their groups of accounts."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, bindparam, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import to_datetime, to_us
from core.domain.statements import Period, Run
from core.storage.models import StatementGroup, StatementRun
from core.storage.rows import columns
from core.storage.sql import Statement

_RUNS = select(*columns(StatementRun, Run)).order_by(StatementRun.id.desc())
_NEWEST = _RUNS.limit(1)
_OF_MONTH = _RUNS.where(StatementRun.period == bindparam("period"))
_LISTED = _RUNS.where(StatementRun.id < bindparam("below")).offset(bindparam("offset")).limit(bindparam("limit"))
_CLOSED_UNTIL = Statement("SELECT ends_at FROM statement_runs ORDER BY id DESC LIMIT 1")
_FIRST_OPENED = Statement("SELECT created_at FROM accounts WHERE kind = 'customer' ORDER BY id LIMIT 1")
_LAST_ACCOUNT = Statement("SELECT coalesce(max(id), 0) FROM accounts")
_UNDONE_GROUPS = Statement("SELECT id FROM statement_groups WHERE done_at IS NULL ORDER BY id LIMIT :limit")
_COUNT_GROUPS = Statement(
    "SELECT coalesce(sum(group_count), 0), coalesce(sum(group_count - groups_done), 0) FROM statement_runs "
    "WHERE finished_at IS NULL"
)
_UNFINISHED = Statement("SELECT ends_at FROM statement_runs WHERE finished_at IS NULL ORDER BY id LIMIT 1")
_UNDONE_GROUP = Statement(
    "SELECT id, run_id, first_account_id, last_account_id FROM statement_groups WHERE id = :id AND done_at IS NULL"
)
_COUNT_STATEMENTS = Statement("UPDATE statement_runs SET statements = statements + :count WHERE id = :id")
_GROUP_DONE = Statement("UPDATE statement_groups SET done_at = :at WHERE id = :id AND done_at IS NULL")
_COUNT_GROUP = Statement(
    "UPDATE statement_runs SET groups_done = groups_done + 1, "
    "finished_at = CASE groups_done + 1 WHEN group_count THEN CAST(:at AS BIGINT) END WHERE id = :id"
)


@dataclass(frozen=True, slots=True)
class StatementGroupView:
    """Some accounts of a run, by row id, both ends included."""

    id: int
    run_id: int
    first_account_id: int
    last_account_id: int


def closed_until(connection: Connection) -> int:
    """Return the end of the newest closed month (µs since the epoch), before which no leg is posted; 0 without one."""
    row = _CLOSED_UNTIL.run(connection).first()
    return row[0] if row else 0


def newest(connection: Connection) -> Run | None:
    """Read the newest run."""
    row = connection.execute(_NEWEST).first()
    return Run(*row) if row else None


def all_runs(connection: Connection) -> list[Run]:
    """Read all runs, one for each month, newest first."""
    return [Run(*row) for row in connection.execute(_RUNS)]


def find(connection: Connection, period: Period) -> Run | None:
    """Read the run of a month."""
    row = connection.execute(_OF_MONTH, {"period": period}).first()
    return Run(*row) if row else None


def first_account_opened_at(connection: Connection) -> datetime | None:
    """Return when the first customer's account was opened; None before that."""
    row = _FIRST_OPENED.run(connection).first()
    return to_datetime(row[0]) if row else None


def last_account_id(connection: Connection) -> int:
    """Return the row id of the newest account, whatever its owner; 0 without accounts."""
    row_id: int = _LAST_ACCOUNT.run(connection).scalar_one()
    return row_id


def add(
    connection: Connection,
    *,
    period: Period,
    time_zone: str,
    starts_at: datetime,
    ends_at: datetime,
    opened_at: datetime,
    groups: Sequence[tuple[int, int]],
) -> None:
    """Write a run with its groups of accounts: (first row id, last row id) each."""
    result = connection.execute(
        insert(StatementRun).values(
            period=period,
            time_zone=time_zone,
            starts_at=starts_at,
            ends_at=ends_at,
            opened_at=opened_at,
            group_count=len(groups),
            groups_done=0,
            statements=0,
        )
    )
    run_id = result.inserted_primary_key
    assert run_id is not None
    connection.execute(
        insert(StatementGroup),
        [{"run_id": run_id[0], "first_account_id": first, "last_account_id": last} for first, last in groups],
    )


def undone_groups(connection: Connection, *, limit: int) -> list[int]:
    """Read the row ids of groups whose statements are not made yet, oldest first."""
    return _UNDONE_GROUPS.run(connection, limit=limit).scalars()


def count_groups(connection: Connection) -> tuple[int, int]:
    """Count the groups of all runs that are not finished, and those of them that are not done."""
    all_groups, undone = _COUNT_GROUPS.run(connection).one()
    return int(all_groups), int(undone)


def unfinished_since(connection: Connection) -> datetime | None:
    """Return the end of the oldest closed month that lacks statements; None if all are made."""
    row = _UNFINISHED.run(connection).first()
    return to_datetime(row[0]) if row else None


def undone_group(connection: Connection, group_id: int) -> StatementGroupView | None:
    """Read a group whose statements are not made yet."""
    row = _UNDONE_GROUP.run(connection, id=group_id).first()
    return StatementGroupView(*row) if row else None


def count_statements(connection: Connection, made: Iterable[tuple[int, int]]) -> None:
    """Add statements just made to their runs: (run, how many) each."""
    changes = [(count, run_id) for run_id, count in made]
    if changes:
        _COUNT_STATEMENTS.run_each(connection, changes)


def finish_group(connection: Connection, group: StatementGroupView, at: datetime) -> None:
    """Mark a group done, and its run finished with the last group. Two jobs of one group count as one."""
    if _GROUP_DONE.run(connection, at=to_us(at), id=group.id).rowcount:
        _COUNT_GROUP.run(connection, at=to_us(at), id=group.run_id)


async def read(session: AsyncSession, *, below: int, offset: int, limit: int) -> list[Run]:
    """Read runs, newest first, starting below row id `below`."""
    page = {"below": below, "offset": offset, "limit": limit}
    return [Run(*row) for row in await session.execute(_LISTED, page)]
