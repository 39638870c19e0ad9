"""Time that passes only when it is told to: a wall clock, and an event loop whose timers go by it."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from unittest.mock import patch

import core.clock

FIRST_SECOND = 1_800_000_000


class Clock:
    """Seconds since the start, which only grow, and a wall clock that may be set."""

    def __init__(self) -> None:
        self.elapsed = 0.0
        self._wall_is_off_by = 0

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.elapsed += seconds

    def set_wall(self, seconds: int) -> None:
        """Have somebody set the wall clock, which no timer goes by, forward or (negative) back."""
        self._wall_is_off_by += seconds

    def wall_ns(self) -> int:
        """Nanoseconds since the epoch, as the wall clock has them."""
        return (FIRST_SECOND + self._wall_is_off_by) * 10**9 + int(self.elapsed * 10**9)

    @contextmanager
    def rules(self) -> Iterator[None]:
        """Have everything in this process go by this clock."""
        with patch.object(core.clock, "time", SimpleNamespace(time_ns=self.wall_ns)):
            yield


class Loop(asyncio.SelectorEventLoop):
    """An event loop that never waits: what is due is done when it is told to catch up."""

    PASSES = 6
    """From an answer to the task that waited for it, and to whoever waited for that, with some to spare."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self.set_exception_handler(lambda *_: None)  # an answer that a crash left without a reader is no news

    def time(self) -> float:
        return self._clock.elapsed

    def catch_up(self) -> None:
        """Do all that is due by now."""
        for _ in range(self.PASSES):
            self.call_soon(self.stop)
            self.run_forever()
