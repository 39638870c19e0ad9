"""A bounded waiting line, for work that only a few may do at a time."""

from collections import Counter
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager

from anyio import CapacityLimiter, WouldBlock

from core.domain.errors import Unavailable


class DocumentLine:
    """Lets `at_once` callers work at a time. `waiting` more may wait, `waiting_each` of them for the same client.

    Further callers are told to try again: in a longer line their clients would give up before their turn.
    """

    def __init__(self, *, at_once: int, waiting: int, waiting_each: int | None = None) -> None:
        self._limiter = CapacityLimiter(at_once)
        self._most = waiting
        self._most_each = waiting if waiting_each is None else waiting_each
        self._waiting: Counter[Hashable] = Counter()

    @asynccontextmanager
    async def turn(self, whose: Hashable = None) -> AsyncIterator[None]:
        """Wait for a turn and hold it; raises Unavailable immediately if too many wait already."""
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
            self._waiting += Counter()  # drops clients that no longer wait
