"""Maintenance jobs. They run on their own queue, separate from settlement."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from core.clock import now_us, to_datetime
from core.domain.dead_letters import Letter
from core.queue.messages import JOBS_QUEUE
from core.security.anchor_key import AnchorKey
from core.services import verification
from core.services.identity import log_ins
from core.services.verification import Anchors, Report
from core.services.verification.anchoring import anchor_head
from core.settings import Settings
from core.storage.sqlite import upkeep
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from core.telemetry.logging import get_logger
from workers.guard import Guard

log = get_logger(__name__)

LOGGED_BREACHES = 20


def verify(database: Database, settings: Settings) -> Report:
    """Verify the whole ledger, keep the result, and log every breach as an error."""
    return _verified(database, partial(verification.verify, anchors=Anchors.of(settings)))


def verify_recent(database: Database, settings: Settings) -> Report:
    """Verify what is new since the last verification. Keep and log the result as `verify` does."""
    return _verified(database, partial(verification.verify_recent, anchors=Anchors.of(settings)))


def _verified(database: Database, check: Callable[[Database], Report]) -> Report:
    started, started_at = time.perf_counter(), to_datetime(now_us())
    report = check(database)
    with unit_of_work(database) as connection:
        kept = verification.keep(connection, report, started_at=started_at)
    for breach in report.breaches[:LOGGED_BREACHES]:
        log.error("ledger_breach", rule=breach.rule, detail=breach.detail)
    for warning in report.warnings:
        log.warning("ledger_warning", detail=warning)
    log.info(
        "ledger_verified",
        scope=report.scope,
        holds=report.holds,
        kept=kept,
        transactions=report.transactions,
        height=report.height,
        duration_ms=round((time.perf_counter() - started) * 1000, 3),
    )
    return report


def anchor(database: Database, settings: Settings) -> None:
    """Sign the newest block, if it is not signed yet."""
    try:
        made = anchor_head(database, AnchorKey(settings.anchor_secret), settings.anchor_path)
    except OSError as error:
        log.error("anchor_not_written", path=str(settings.anchor_path), error=str(error))
        return
    if made is not None:
        log.info("ledger_anchored", height=made.height, hash=made.hash.hex())


def checkpoint(database: Database) -> None:
    """Truncate the write-ahead log."""
    done = upkeep.checkpoint(database)
    log.info("checkpoint", blocked=done.blocked, pages=done.pages, wal_bytes=upkeep.wal_bytes(database))


def forget_expired_tokens(database: Database) -> None:
    """Delete expired refresh tokens."""
    with unit_of_work(database) as connection:
        forgotten = log_ins.forget_expired(connection)
    log.info("tokens_forgotten", count=forgotten)


JOBS: dict[str, Callable[[Database, Settings], Any]] = {
    "verify": verify,
    "verify_recent": verify_recent,
    "anchor": anchor,
    "checkpoint": lambda database, _settings: checkpoint(database),
    "forget_expired_tokens": lambda database, _settings: forget_expired_tokens(database),
}


def declare(broker: RedisBroker, database: Database, settings: Settings) -> None:
    """Declare one actor for each job. A failed job runs again by the schedule."""
    guard = Guard(database)
    for name, job in JOBS.items():
        declare = dramatiq.actor(broker=broker, actor_name=name, queue_name=JOBS_QUEUE)
        declare(_guarded(guard, name, partial(job, database, settings)))


def _guarded(guard: Guard, name: str, job: Callable[[], Any]) -> Callable[..., None]:
    def actor(*_ignored: Any, **_forged: Any) -> None:
        guard.run(Letter(JOBS_QUEUE, name), job)

    return actor
