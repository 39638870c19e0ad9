"""The state of the service, for people, load balancers and supervisors."""

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter, Response

from api.dependencies import RuntimeDep
from api.http.checks import CheckedRoute
from api.runtime import Runtime
from api.schemas.health import CheckOut, Health, HealthOut
from api.schemas.problems import problems
from core.domain.errors import CommonError
from core.processes import heartbeats
from core.services import verification
from core.telemetry.logging import get_logger

log = get_logger(__name__)

router = APIRouter(tags=["service"], route_class=CheckedRoute)

CHECK_SECONDS = 2
"""A check that takes longer fails."""

MEGABYTE = 1_000_000

_ANSWERS: dict[int | str, dict[str, Any]] = {
    503: {"model": HealthOut, "description": "Transfers cannot be accepted. `checks` names the reason."},
    **problems(CommonError.RATE_LIMITED),
}

Finding = tuple[Health, dict[str, Any]]
Check = Callable[[Runtime], Awaitable[Finding]]


@router.get(
    "/health/live",
    summary="Check that the process answers",
    response_description="The process answers.",
    responses=problems(CommonError.RATE_LIMITED),
)
async def get_liveness() -> HealthOut:
    """Answer without any check, for a supervisor that restarts a process that hangs."""
    return HealthOut(status=Health.OK, checks={})


@router.get(
    "/health/ready",
    summary="Check that transfers can be accepted",
    response_description="Transfers can be accepted.",
    responses=_ANSWERS,
)
async def get_readiness(runtime: RuntimeDep, response: Response) -> HealthOut:
    """Check that the database is writable and migrated and has room to grow, for load balancers."""
    return _answer(response, await _run(runtime, _NEEDED))


@router.get(
    "/health",
    summary="Check every part of the service",
    response_description="Transfers can be accepted. If `status` is `degraded`, something else fails.",
    responses=_ANSWERS,
)
async def get_health(runtime: RuntimeDep, response: Response) -> HealthOut:
    """Check every part. Without queue or workers the service is degraded: transfers are still accepted."""
    needed, wanted = await asyncio.gather(_run(runtime, _NEEDED), _run(runtime, _WANTED, worst=Health.DEGRADED))
    return _answer(response, needed | wanted)


async def _database(runtime: Runtime) -> Finding:
    """Take a turn as a writer, without writing."""
    await runtime.intake.run(lambda _connection: None)
    return Health.OK, {}


async def _migrations(runtime: Runtime) -> Finding:
    revision = await asyncio.to_thread(runtime.database.schema_revision)
    current = runtime.database.is_current(revision)
    return Health.OK if current else Health.UNAVAILABLE, {"revision": revision}


async def _disk(runtime: Runtime) -> Finding:
    free = shutil.disk_usage(runtime.database.path.parent).free
    enough = free >= runtime.settings.disk_free_mb * MEGABYTE
    return Health.OK if enough else Health.UNAVAILABLE, {"free_bytes": free}


async def _queue(runtime: Runtime) -> Finding:
    return Health.OK if await runtime.queue_ping.is_answered() else Health.DEGRADED, {}


async def _sqlite(runtime: Runtime) -> Finding:
    version, affected = await asyncio.to_thread(runtime.database.sqlite)
    return Health.DEGRADED if affected else Health.OK, {"version": version}


async def _ledger(runtime: Runtime) -> Finding:
    """Report the last verification. While a rule is broken, transfers are accepted but not settled."""
    async with runtime.reading() as session:
        last = await verification.last(session)
    if last is None:
        return Health.OK, {"verified_at": None}
    found = {"verified_at": last.finished_at, "breaches": last.breach_count}
    return Health.OK if last.holds else Health.DEGRADED, found


def _process(name: str) -> Check:
    async def check(runtime: Runtime) -> Finding:
        age = heartbeats.age(runtime.settings.run_dir, name)
        alive = age is not None and age < runtime.settings.silent_seconds
        return Health.OK if alive else Health.DEGRADED, {"heartbeat_age_seconds": age and round(age, 3)}

    return check


_NEEDED: dict[str, Check] = {"database": _database, "migrations": _migrations, "disk": _disk}
_WANTED: dict[str, Check] = {
    "queue": _queue,
    "sqlite": _sqlite,
    "ledger": _ledger,
    "settlement": _process("settlement"),
    "jobs": _process("jobs"),
    "scheduler": _process("scheduler"),
}


async def _run(
    runtime: Runtime, checks: dict[str, Check], *, worst: Health = Health.UNAVAILABLE
) -> dict[str, CheckOut]:
    """Run checks concurrently. A check that fails counts as `worst`."""
    found = await asyncio.gather(*(_timed(runtime, name, check, worst) for name, check in checks.items()))
    return dict(zip(checks, found, strict=True))


async def _timed(runtime: Runtime, name: str, check: Check, worst: Health) -> CheckOut:
    started = time.perf_counter()
    try:
        status, details = await asyncio.wait_for(check(runtime), CHECK_SECONDS)
    except Exception as error:
        # Any error in a check (for example a missing file) is a finding of that check.
        log.warning("check_failed", check=name, error=repr(error))
        status, details = worst, {}
    return CheckOut(status=status, latency_ms=round((time.perf_counter() - started) * 1000, 3), **details)


def _answer(response: Response, checks: dict[str, CheckOut]) -> HealthOut:
    status = max((check.status for check in checks.values()), key=list(Health).index)
    if status is Health.UNAVAILABLE:
        response.status_code = 503
    response.headers["Cache-Control"] = "no-store"
    return HealthOut(status=status, checks=checks)
