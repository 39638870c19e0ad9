"""Simulated time: a wall clock, and an event loop whose timers use it."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from unittest.mock import patch

import core.clock

FIRST_SECOND = 1_800_000_000


class Clock:
    """Seconds since the start, which only increase, and a wall clock that can be set."""

    def __init__(self) -> None:
        self.elapsed = 0.0
        self._wall_is_off_by = 0

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.elapsed += seconds

    def set_wall(self, seconds: int) -> None:
        """Set the wall clock forward or (negative) back. No timer uses it."""
        self._wall_is_off_by += seconds

    def wall_ns(self) -> int:
        """Return nanoseconds since the epoch by the wall clock."""
        return (FIRST_SECOND + self._wall_is_off_by) * 10**9 + int(self.elapsed * 10**9)

    @contextmanager
    def rules(self) -> Iterator[None]:
        """Make everything in this process use this clock."""
        with patch.object(core.clock, "time", SimpleNamespace(time_ns=self.wall_ns)):
            yield


class Loop(asyncio.SelectorEventLoop):
    """An event loop that never waits: it runs due work when told to catch up."""

    PASSES = 6
    """Enough passes from an answer to the task that awaits it, and to the task that awaits that one, with a margin."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self.set_exception_handler(lambda *_: None)  # a crash may leave an answer that no task reads; do not report it

    def time(self) -> float:
        return self._clock.elapsed

    def catch_up(self) -> None:
        """Run everything that is due."""
        for _ in range(self.PASSES):
            self.call_soon(self.stop)
            self.run_forever()
