"""Maintenance jobs. They run on their own queue, separate from settlement."""

import time
from collections.abc import Callable
from functools import partial

from core.clock import now_us, to_datetime, to_us
from core.security.anchor_key import AnchorKey
from core.security.secrets import Secrets
from core.security.time_stamps import NotStamped
from core.services import verification
from core.services.identity import log_ins
from core.services.verification import Anchors, Report
from core.services.verification.anchoring import anchor_head
from core.services.verification.stamping import stamp_last
from core.settings import Settings
from core.storage import verifications
from core.storage.engines import Engine
from core.storage.unit_of_work import unit_of_work
from core.telemetry.logging import get_logger
from workers.jobs.job import Job

log = get_logger(__name__)

LOGGED_BREACHES = 20


def verify(database: Engine, settings: Settings) -> Report:
    """Verify the whole ledger, keep the result, and log every breach as an error."""
    return _verified(database, partial(verification.verify, anchors=Anchors.of(settings)))


def verify_recent(database: Engine, settings: Settings) -> Report:
    """Verify what is new since the last verification. Keep and log the result as `verify` does."""
    return _verified(database, partial(verification.verify_recent, anchors=Anchors.of(settings)))


def _verified(database: Engine, check: Callable[[Engine], Report]) -> Report:
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


def anchor(database: Engine, settings: Settings) -> None:
    """Sign the newest block, if it is not signed yet."""
    try:
        made = anchor_head(database, AnchorKey(Secrets(settings).anchor_key.read_or_make()), settings.anchor_path)
    except OSError as error:
        log.error("anchor_not_written", path=str(settings.anchor_path), error=str(error))
        return
    if made is not None:
        log.info("ledger_anchored", height=made.height, hash=made.hash.hex())


def stamp(_database: Engine, settings: Settings) -> None:
    """Let the authority stamp the newest anchor. A failure is logged, and the next run tries again."""
    try:
        made = stamp_last(settings.anchor_path, settings.anchor_stamp_url)
    except (NotStamped, OSError) as error:
        log.error("anchor_not_stamped", url=settings.anchor_stamp_url, error=str(error))
        return
    if made is not None:
        log.info("anchor_stamped", file=made.name)


def checkpoint(database: Engine, _settings: Settings) -> None:
    """Truncate the write-ahead log."""
    done = database.checkpoint()
    log.info("checkpoint", blocked=done.blocked, pages=done.pages, wal_bytes=database.sizes().log)


def forget_expired_tokens(database: Engine, _settings: Settings) -> None:
    """Delete expired refresh tokens."""
    with unit_of_work(database) as connection:
        forgotten = log_ins.forget_expired(connection)
    log.info("tokens_forgotten", count=forgotten)


def seconds_to_full_verification(database: Engine, settings: Settings) -> float:
    """Return how long a verification of the whole ledger can wait. A restart alone is no reason to read all of it."""
    with database.reading() as connection:
        last = verifications.newest_full(connection)
    age = -1.0 if last is None else (now_us() - to_us(last.finished_at)) / 1e6
    # A verification from the future ran under a wrong clock, so it does not count.
    return settings.verify_hours * 3600 - age if age >= 0 else 0.0


JOBS = (
    Job(name="verify_recent", work=verify_recent, every_seconds=lambda settings: settings.verify_recent_minutes * 60),
    Job(
        name="verify",
        work=verify,
        every_seconds=lambda settings: settings.verify_hours * 3600,
        wait_seconds=seconds_to_full_verification,
    ),
    Job(name="anchor", work=anchor, every_seconds=lambda settings: settings.anchor_minutes * 60),
    Job(
        name="stamp",
        work=stamp,
        every_seconds=lambda settings: settings.anchor_minutes * 60 if settings.anchor_stamp_url else 0,
    ),
    Job(name="checkpoint", work=checkpoint, every_seconds=lambda settings: settings.checkpoint_minutes * 60),
    Job(name="forget_expired_tokens", work=forget_expired_tokens, every_seconds=lambda _settings: 3600),
)
