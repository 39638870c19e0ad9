"""Work that is done few at a time, and for which few wait."""

from collections import Counter
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager

from anyio import CapacityLimiter, WouldBlock

from core.domain.errors import Unavailable


class Line:
    """Lets `at_once` through at a time. Of those that come meanwhile `waiting` may wait, `waiting_each` of one of them.

    One more is told to come again, rather than kept in a line that outlasts its client.
    """

    def __init__(self, *, at_once: int, waiting: int, waiting_each: int | None = None) -> None:
        self._limiter = CapacityLimiter(at_once)
        self._most = waiting
        self._most_each = waiting if waiting_each is None else waiting_each
        self._waiting: Counter[Hashable] = Counter()

    @asynccontextmanager
    async def turn(self, whose: Hashable = None) -> AsyncIterator[None]:
        """Wait for a turn and have it; raises Unavailable at once where too many wait already."""
        try:
            self._limiter.acquire_nowait()
        except WouldBlock:
            await self._wait(whose)
        try:
            yield
        finally:
            self._limiter.release()

    async def _wait(self, whose: Hashable) -> None:
        if self._waiting.total() >= self._most or self._waiting[whose] >= self._most_each:
            raise Unavailable
        self._waiting[whose] += 1
        try:
            await self._limiter.acquire()
        finally:
            self._waiting[whose] -= 1
            self._waiting += Counter()  # forgets who waits no more
