"""The checks of the service's parts, in one table. The state of the service is refreshed from them each second."""

import shutil
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import redis

from api.runtime import Runtime
from api.schemas.health import Health
from core.processes import heartbeats
from core.services import verification

MEGABYTE = 1_000_000

Finding = tuple[Health, dict[str, Any]]
"""The result of a check, and the fields that it adds for operators."""


class Check(NamedTuple):
    """A check, and the state of the service if it fails: unavailable if accepting transfers needs the part.

    A plain function may block: it runs in its own thread, and is not started again before it has ended.
    """

    look: Callable[[Runtime], Finding] | Callable[[Runtime], Awaitable[Finding]]
    worst: Health


async def _database(runtime: Runtime) -> Finding:
    """Take a turn as a writer, without writing."""
    await runtime.intake.run(lambda _connection: None)
    return Health.OK, {}


def _migrations(runtime: Runtime) -> Finding:
    revision = runtime.database.schema_revision()
    current = runtime.database.is_current(revision)
    return Health.OK if current else Health.UNAVAILABLE, {"revision": revision}


def _disk(runtime: Runtime) -> Finding:
    free = shutil.disk_usage(runtime.database.path.parent).free
    enough = free >= runtime.settings.disk_free_mb * MEGABYTE
    return Health.OK if enough else Health.UNAVAILABLE, {"free_bytes": free}


def _queue(runtime: Runtime) -> Finding:
    try:
        runtime.waker.probe()
    except redis.RedisError:
        return Health.DEGRADED, {}
    return Health.OK, {}


def _sqlite(runtime: Runtime) -> Finding:
    version, affected = runtime.database.sqlite()
    return Health.DEGRADED if affected else Health.OK, {"version": version}


async def _ledger(runtime: Runtime) -> Finding:
    """Report the last verification. While a rule is broken, transfers are accepted but not settled."""
    async with runtime.reading.session("health") as session:
        last, isolated = await verification.last(session), await verification.isolated_accounts(session)
    if last is None:
        return Health.OK, {"verified_at": None}
    found = {"verified_at": last.finished_at, "breaches": last.breach_count, "isolated_accounts": isolated}
    return Health.OK if last.holds and not isolated else Health.DEGRADED, found


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
    "settlement": Check(_process("settlement"), Health.DEGRADED),
    "jobs": Check(_process("jobs"), Health.DEGRADED),
    "scheduler": Check(_process("scheduler"), Health.DEGRADED),
}
"""Every check, by its name in answers."""
