"""The jobs that make statements, on their own queue, so that a long verification does not delay them."""

import time
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from core.domain.lanes import Lane
from core.failpoints import hit
from core.services.statements import making
from core.settings import Settings
from core.storage import statement_runs, statements
from core.storage.engines import Engine
from core.storage.unit_of_work import unit_of_work
from core.telemetry.logging import get_logger
from core.telemetry.metrics import statements as metrics
from workers.jobs.job import Job

log = get_logger(__name__)

STATEMENTS_QUEUE = "statements"
CLOSE_MONTHS = "close_months"
MAKE_GROUP = "make_statement_group"
"""Its argument is the row id of a group."""
MAKE_STATEMENT = "make_statement"
"""Its argument is the row id of a requested statement."""


def close_months(database: Engine, settings: Settings) -> None:
    """Close the months that are over. This opens a statement run for each."""
    with unit_of_work(database, Lane.ACCEPT, Lane.SETTLE) as connection:
        closed = making.close_months(connection, settings.zone, group=settings.statement_group)
        hit("months.before_commit")
    log.info("months_closed", count=closed)


def make_group(database: Engine, settings: Settings, group_id: int) -> None:
    """Make the statements of one group of accounts."""
    started = time.perf_counter()
    made = making.make_group(database, settings.bank, group_id)
    _report(made, time.perf_counter() - started)


def make_one(database: Engine, settings: Settings, statement_id: int) -> None:
    """Make a requested statement."""
    started = time.perf_counter()
    made = making.make_one(database, settings.bank, statement_id)
    _report(made, time.perf_counter() - started)


def _report(made: int, seconds: float) -> None:
    metrics.statements_made.inc(made)
    metrics.statement_group_duration.observe(seconds)
    log.info("statements_made", count=made, duration_ms=round(seconds * 1000, 3))
    hit("statements.before_ack")


def _month_due(connection: Connection, zone: ZoneInfo, _most: int) -> list[tuple[int, ...]]:
    return [()] if making.month_due(connection, zone) else []


def _requested(connection: Connection, _zone: ZoneInfo, most: int) -> list[tuple[int, ...]]:
    return [(row,) for row in statements.requested(connection, limit=most)]


def _undone_groups(connection: Connection, _zone: ZoneInfo, most: int) -> list[tuple[int, ...]]:
    return [(row,) for row in statement_runs.undone_groups(connection, limit=most)]


JOBS = (
    Job(name=CLOSE_MONTHS, work=close_months, queue=STATEMENTS_QUEUE, due=_month_due),
    Job(name=MAKE_STATEMENT, work=make_one, queue=STATEMENTS_QUEUE, of_row=True, due=_requested),
    Job(name=MAKE_GROUP, work=make_group, queue=STATEMENTS_QUEUE, of_row=True, due=_undone_groups),
)
