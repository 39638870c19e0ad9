"""Jobs that keep the bank in order. They run on their own queue, away from settlement."""

import time
from collections.abc import Callable
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from core.clock import now_us, to_datetime
from core.domain.dead_letters import Letter
from core.logging import get_logger
from core.queue import JOBS_QUEUE
from core.services import tokens
from core.services.verification import Report
from core.services.verification import keep as keep_verification
from core.services.verification import verify as verify_ledger
from core.storage import maintenance
from core.storage.engine import Database
from core.storage.unit_of_work import unit_of_work
from workers.guard import Guard

log = get_logger(__name__)

LOGGED_BREACHES = 20


def verify(database: Database) -> Report:
    """Verify the whole ledger, keep what was found, and say loudly if it does not hold."""
    started, started_at = time.perf_counter(), to_datetime(now_us())
    report = verify_ledger(database)
    with unit_of_work(database) as connection:
        keep_verification(connection, report, started_at=started_at)
    for breach in report.breaches[:LOGGED_BREACHES]:
        log.error("ledger_breach", rule=breach.rule, detail=breach.detail)
    log.info(
        "ledger_verified",
        holds=report.holds,
        transactions=report.transactions,
        duration_ms=round((time.perf_counter() - started) * 1000, 3),
    )
    return report


def checkpoint(database: Database) -> None:
    """Cut the write-ahead log back."""
    done = maintenance.checkpoint(database)
    log.info("checkpoint", blocked=done.blocked, pages=done.pages, wal_bytes=maintenance.wal_bytes(database))


def forget_expired_tokens(database: Database) -> None:
    """Delete refresh tokens past their life."""
    with unit_of_work(database) as connection:
        forgotten = tokens.forget_expired(connection)
    log.info("tokens_forgotten", count=forgotten)


JOBS: dict[str, Callable[[Database], Any]] = {
    "verify": verify,
    "checkpoint": checkpoint,
    "forget_expired_tokens": forget_expired_tokens,
}


def declare(broker: RedisBroker, database: Database) -> None:
    """Declare one actor for each job. What fails comes again with the schedule."""
    guard = Guard(database)
    for name, job in JOBS.items():
        declare = dramatiq.actor(broker=broker, actor_name=name, queue_name=JOBS_QUEUE)
        declare(_guarded(guard, name, job, database))


def _guarded(guard: Guard, name: str, job: Callable[[Database], Any], database: Database) -> Callable[..., None]:
    def actor(*_ignored: Any, **_forged: Any) -> None:
        guard.run(Letter(JOBS_QUEUE, name), lambda: job(database))

    return actor
