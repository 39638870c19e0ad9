"""The checks of the service's parts, in one table. The state of the service is refreshed from them each second."""

import shutil
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import redis

from api.runtime import Runtime
from api.schemas.health import Health
from core.clock import now_us
from core.processes import heartbeats
from core.services import clocks, verification
from core.storage import fences, pending

MEGABYTE = 1_000_000

PROVEN_SECONDS = 1.0
"""While transfers are accepted, their commits prove that the database can be written, and the check writes nothing."""

PENDING_SECONDS = 10.0
"""Age of the oldest pending transfer above which the service is degraded, as for the alert PendingTooOld."""

Finding = tuple[Health, dict[str, Any]]
"""The result of a check, and the fields that it adds for operators."""


class Check(NamedTuple):
    """A check, and the state of the service if it fails: unavailable if accepting transfers needs the part.

    A plain function may block: it runs in its own thread, and is not started again before it has ended.
    """

    look: Callable[[Runtime], Finding] | Callable[[Runtime], Awaitable[Finding]]
    worst: Health


async def _database(runtime: Runtime) -> Finding:
    """Write, and wait for the disk: a turn without a write succeeds on a full or read-only disk."""
    if not runtime.intake.has_accepted_within(PROVEN_SECONDS):
        await runtime.intake.run(fences.write)
    return Health.OK, {}


def _migrations(runtime: Runtime) -> Finding:
    revision = runtime.database.schema_revision()
    current = runtime.database.is_current(revision)
    return Health.OK if current else Health.UNAVAILABLE, {"revision": revision}


def _disk(runtime: Runtime) -> Finding:
    free = shutil.disk_usage(runtime.database.folder).free
    enough = free >= runtime.settings.disk_free_mb * MEGABYTE
    return Health.OK if enough else Health.UNAVAILABLE, {"free_bytes": free}


def _queue(runtime: Runtime) -> Finding:
    try:
        runtime.waker.probe()
    except redis.RedisError:
        return Health.DEGRADED, {}
    return Health.OK, {}


def _sqlite(runtime: Runtime) -> Finding:
    library = runtime.database.library()
    return Health.DEGRADED if library.is_affected else Health.OK, {"version": library.version}


async def _ledger(runtime: Runtime) -> Finding:
    """Report the last verification. While a rule is broken, transfers are accepted but not settled."""
    async with runtime.reading.session("health") as session:
        last, isolated = await verification.last(session), await verification.isolated_accounts(session)
    if last is None:
        return Health.OK, {"verified_at": None}
    found = {"verified_at": last.finished_at, "breaches": last.breach_count, "isolated_accounts": isolated}
    return Health.OK if last.holds and not isolated else Health.DEGRADED, found


def _settling(runtime: Runtime) -> Finding:
    """Report how long the oldest pending transfer has waited, whatever its cause."""
    with runtime.database.reading() as connection:
        accepted_at = pending.oldest_accepted_at(connection)
    age = 0.0 if accepted_at is None else max(0.0, (now_us() - accepted_at) / 1e6)
    found = {"oldest_pending_age_seconds": round(age, 3)}
    return Health.DEGRADED if age > PENDING_SECONDS else Health.OK, found


def _clock(runtime: Runtime) -> Finding:
    """Report a clock that jumped. Transfers settle, but no month is closed and nothing expires."""
    with runtime.database.reading() as connection:
        found = clocks.state(connection)
    if found.doubt is None:
        return Health.OK, {"difference_seconds": round(found.difference / 1e6, 3)}
    return Health.DEGRADED, clocks.details_of(found)


def _process(name: str) -> Callable[[Runtime], Finding]:
    def look(runtime: Runtime) -> Finding:
        age = heartbeats.age(runtime.settings.run_dir, name)
        alive = age is not None and age < runtime.settings.silent_seconds
        return Health.OK if alive else Health.DEGRADED, {"heartbeat_age_seconds": age and round(age, 3)}

    return look


CHECKS: dict[str, Check] = {
    "database": Check(_database, Health.UNAVAILABLE),
    "migrations": Check(_migrations, Health.UNAVAILABLE),
    "disk": Check(_disk, Health.UNAVAILABLE),
    "queue": Check(_queue, Health.DEGRADED),
    "sqlite": Check(_sqlite, Health.DEGRADED),
    "ledger": Check(_ledger, Health.DEGRADED),
    "settling": Check(_settling, Health.DEGRADED),
    "clock": Check(_clock, Health.DEGRADED),
    "settlement": Check(_process("settlement"), Health.DEGRADED),
    "jobs": Check(_process("jobs"), Health.DEGRADED),
    "scheduler": Check(_process("scheduler"), Health.DEGRADED),
}
"""Every check, by its name in answers."""
