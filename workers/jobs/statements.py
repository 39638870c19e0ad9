"""The actors that make statements, on their own queue."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from core.domain.dead_letters import Letter
from core.failpoints import hit
from core.queue.messages import CLOSE_MONTHS, MAKE_GROUP, MAKE_STATEMENT, STATEMENTS_QUEUE
from core.services.statements import making
from core.settings import Settings
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from core.telemetry.logging import get_logger
from core.telemetry.metrics import statements as metrics
from workers.guard import Guard

log = get_logger(__name__)


def close_months(database: Database, settings: Settings) -> None:
    """Close the months that are over. This opens a statement run for each."""
    with unit_of_work(database) as connection:
        closed = making.close_months(connection, settings.zone, group=settings.statement_group)
        hit("months.before_commit")
    log.info("months_closed", count=closed)


def make_group(database: Database, settings: Settings, group_id: int) -> None:
    """Make the statements of one group of accounts."""
    started = time.perf_counter()
    made = making.make_group(database, settings.bank, group_id)
    _report(made, time.perf_counter() - started)


def make_one(database: Database, settings: Settings, statement_id: int) -> None:
    """Make a requested statement."""
    started = time.perf_counter()
    made = making.make_one(database, settings.bank, statement_id)
    _report(made, time.perf_counter() - started)


def _report(made: int, seconds: float) -> None:
    metrics.statements_made.inc(made)
    metrics.statement_group_duration.observe(seconds)
    log.info("statements_made", count=made, duration_ms=round(seconds * 1000, 3))
    hit("statements.before_ack")


def declare(broker: RedisBroker, database: Database, settings: Settings) -> None:
    """Declare the actors. The argument of a message is only used to look up a row, and not trusted further."""
    guard = Guard(database)

    @dramatiq.actor(broker=broker, actor_name=CLOSE_MONTHS, queue_name=STATEMENTS_QUEUE)
    def close(*_ignored: Any, **_forged: Any) -> None:
        guard.run(Letter(STATEMENTS_QUEUE, CLOSE_MONTHS), partial(close_months, database, settings))

    for name, job in ((MAKE_GROUP, make_group), (MAKE_STATEMENT, make_one)):
        declare = dramatiq.actor(broker=broker, actor_name=name, queue_name=STATEMENTS_QUEUE)
        declare(_of_one_row(guard, name, partial(job, database, settings)))


def _of_one_row(guard: Guard, name: str, job: Callable[[int], None]) -> Callable[..., None]:
    def actor(row_id: Any = None, *_ignored: Any, **_forged: Any) -> None:
        if type(row_id) is not int or not 0 < row_id < 2**63:
            log.warning("message_ignored", job=name)
            return
        guard.run(Letter(STATEMENTS_QUEUE, name, (row_id,)), lambda: job(row_id))

    return actor
