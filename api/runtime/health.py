"""The state of the service. One task refreshes it, and every answer about health is read from it."""

import asyncio
import inspect
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import cast

from anyio import CapacityLimiter, to_thread

from api.runtime import Runtime
from api.runtime.health_checks import CHECKS, Check, Finding
from api.schemas.health import CheckOut, Health, HealthOut
from core.telemetry.logging import get_logger

log = get_logger(__name__)

REFRESH_SECONDS = 1.0
CHECK_SECONDS = 2.0
"""A check that takes longer fails."""

STALE_SECONDS = 5.0
"""An older state counts as unavailable: the refresh takes at most three seconds, so it hangs."""

STOP_SECONDS = 1.0
"""Time that a check may still take when the process stops."""

REFRESH = "refresh"
"""The name, among the checks, of the refresh itself. It appears only while the state is stale."""


@dataclass(frozen=True, slots=True)
class _State:
    """The results of all checks, and when they were complete, on the monotonic clock."""

    checks: Mapping[str, CheckOut]
    at: float


class HealthState:
    """Runs every check once a second, and keeps the results. Any thread may read them."""

    def __init__(self) -> None:
        self._state: _State | None = None
        self._task: asyncio.Task[None] | None = None
        self._blocking: dict[str, asyncio.Task[Finding]] = {}
        """The newest run of each check that blocks."""
        self._threads = CapacityLimiter(len(CHECKS))

    async def start(self, runtime: Runtime) -> None:
        """Run every check once, which takes at most CHECK_SECONDS, and from now on each second."""
        await self.refresh(runtime)
        self._task = asyncio.create_task(self._keep(runtime))

    async def stop(self) -> None:
        """End the task, and give checks that still run in threads a moment to end."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if running := [run for run in self._blocking.values() if not run.done()]:
            await asyncio.wait(running, timeout=STOP_SECONDS)

    def ready(self) -> Health:
        """Return whether transfers can be accepted: the worst result of the checks that accepting needs."""
        return self._worst({name for name, check in CHECKS.items() if check.worst is Health.UNAVAILABLE})

    def overall(self) -> Health:
        """Return the worst result of all checks."""
        return self._worst(CHECKS.keys())

    def details(self) -> HealthOut:
        """Return the result of every check, for operators."""
        state = self._state
        checks = dict(state.checks) if state else {}
        if self._is_stale(state):
            age = {"age_seconds": round(time.monotonic() - state.at, 3)} if state else {}
            checks[REFRESH] = CheckOut(status=Health.UNAVAILABLE, latency_ms=0, **age)
        return HealthOut(status=self.overall(), checks=checks)

    async def refresh(self, runtime: Runtime) -> None:
        """Run all checks now, concurrently. A check that fails counts as its worst state."""
        before = self._state.checks if self._state else {}
        found = await asyncio.gather(
            *(self._look(runtime, name, check, before.get(name)) for name, check in CHECKS.items())
        )
        self.take(dict(zip(CHECKS, found, strict=True)))

    def take(self, checks: Mapping[str, CheckOut]) -> None:
        """Keep the results of all checks as the state of now."""
        self._state = _State(checks, time.monotonic())

    async def _keep(self, runtime: Runtime) -> None:
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            await self.refresh(runtime)

    async def _look(self, runtime: Runtime, name: str, check: Check, before: CheckOut | None) -> CheckOut:
        started = time.perf_counter()
        error: Exception | None = None
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                status, details = await self._call(runtime, name, check)
        except Exception as raised:
            # Any error in a check (for example a missing file) is a finding of that check.
            error, status, details = raised, check.worst, {}
        was = before.status if before else Health.OK
        if status is not was and (error or status is Health.UNAVAILABLE):
            log.warning("check_failed", check=name, status=status.value, error=repr(error) if error else None)
        return CheckOut(status=status, latency_ms=round((time.perf_counter() - started) * 1000, 3), **details)

    async def _call(self, runtime: Runtime, name: str, check: Check) -> Finding:
        """Run a check. One that blocks and has not ended since the last time is waited for, and not started again."""
        if inspect.iscoroutinefunction(check.look):
            found: Finding = await check.look(runtime)
            return found
        running = self._blocking.get(name)
        if running is None or running.done():
            look = cast(Callable[[Runtime], Finding], check.look)
            running = asyncio.create_task(to_thread.run_sync(look, runtime, limiter=self._threads))
            running.add_done_callback(lambda run: run.cancelled() or run.exception())  # it may come too late
            self._blocking[name] = running
        return await asyncio.shield(running)

    def _worst(self, names: Iterable[str]) -> Health:
        state = self._state
        if state is None or self._is_stale(state):
            return Health.UNAVAILABLE
        return max((state.checks[name].status for name in names), key=list(Health).index)

    @staticmethod
    def _is_stale(state: _State | None) -> bool:
        return state is None or time.monotonic() - state.at > STALE_SECONDS
