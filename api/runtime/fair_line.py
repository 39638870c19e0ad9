"""A bounded waiting line that is fair to every client, for work that only a few may do at a time."""

import asyncio
import random  # nosemgrep: unguessable-values-use-secrets - spreads waits
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from typing import Any

from core.domain.errors import Crowded, Unavailable
from core.telemetry.metrics import lines as metrics

Gone = Callable[[], Awaitable[object]]
"""Returns when the client has disconnected."""


Place = asyncio.Future[bool]
"""A caller that waits. It is true when the caller has its place, and false if it had to make room for another."""


class FairLine:
    """Lets `at_once` callers work at a time, at most `each` of them for the same client.

    A place that becomes free goes to the next client in turn: clients take turns, and the callers of one client come in
    the order of their arrival. So a client waits for one caller of each other client, however many callers they have.

    `waiting` callers may wait, `waiting_each` of them for the same client. Further callers are told to try again: in a
    longer line their clients would give up before their turn. If the line is full, a client with few callers still gets
    in: the newest caller of the client with the most makes room. A caller waits for at most `seconds`, or up to half as
    long: callers that came together must not give up together. Metrics show the line's `name`.
    """

    def __init__(
        self,
        name: str,
        *,
        at_once: int,
        each: int | None = None,
        waiting: int,
        waiting_each: int | None = None,
        seconds: float | None = None,
    ) -> None:
        self._at_once = at_once
        self._each = at_once if each is None else each
        self._most = waiting
        self._most_each = waiting if waiting_each is None else waiting_each
        self._seconds = seconds
        self._held: Counter[Hashable] = Counter()
        self._waiting: dict[Hashable, deque[Place]] = {}  # the client whose turn is next comes first
        self._shown = metrics.waiting.labels(name)
        self._refused = metrics.refused.labels(name)

    @property
    def waiting(self) -> int:
        """The number of callers that wait."""
        return sum(map(len, self._waiting.values()))

    @asynccontextmanager
    async def turn(self, whose: Hashable, gone: Gone | None = None) -> AsyncIterator[None]:
        """Wait for a place and hold it. Raises Unavailable like `enter`."""
        await self.enter(whose, gone)
        try:
            yield
        finally:
            self.leave(whose)

    async def enter(self, whose: Hashable, gone: Gone | None = None) -> None:
        """Take a place, which must be left again.

        Raises Crowded if too many callers wait, in total or for this client. Raises Unavailable after the line's time,
        and when the waiting client is `gone`.
        """
        if self._has_place_for(whose):  # then nobody of this client waits
            self._held[whose] += 1
            return
        if len(self._waiting.get(whose, ())) >= self._most_each or not self._has_room_for(whose):
            self._refused.inc()
            raise Crowded
        await self._wait(whose, gone)

    def leave(self, whose: Hashable) -> None:
        """Give a place up, to the next client in turn."""
        self._held[whose] -= 1
        if not self._held[whose]:
            del self._held[whose]
        self._give_places()

    def _has_place_for(self, whose: Hashable) -> bool:
        return self._held.total() < self._at_once and self._held[whose] < self._each

    def _has_room_for(self, whose: Hashable) -> bool:
        """Return whether one more caller of a client may wait, after another has made room if that is fair."""
        if self.waiting < self._most:
            return True
        longest = max(self._waiting, key=lambda one: len(self._waiting[one]), default=None)
        if longest is None or len(self._waiting[longest]) <= len(self._waiting.get(whose, ())) + 1:
            return False
        place = self._waiting[longest][-1]
        self._forget(longest, place)
        place.set_result(False)
        return True

    async def _wait(self, whose: Hashable, gone: Gone | None) -> None:
        place: Place = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(whose, deque()).append(place)
        self._show()
        watch = asyncio.ensure_future(gone()) if gone else None
        awaited: set[asyncio.Future[Any]] = {place} if watch is None else {place, watch}
        try:
            await asyncio.wait(awaited, timeout=self._patience(), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            if not place.done():
                self._forget(whose, place)
            elif place.result():
                self.leave(whose)  # it has just become free for this caller
            raise
        finally:
            if watch is not None:
                watch.cancel()
        if not place.done():
            self._forget(whose, place)
            self._refused.inc()
            raise Unavailable
        if not place.result():
            self._refused.inc()
            raise Crowded

    def _forget(self, whose: Hashable, place: Place) -> None:
        queue = self._waiting[whose]
        queue.remove(place)
        if not queue:
            del self._waiting[whose]
        self._show()

    def _give_places(self) -> None:
        """Give each free place to the first caller of the first client that may have it. That client's turn is over."""
        while (whose := next((one for one in self._waiting if self._has_place_for(one)), None)) is not None:
            queue = self._waiting.pop(whose)
            queue.popleft().set_result(True)
            self._held[whose] += 1
            if queue:
                self._waiting[whose] = queue  # behind all others
            self._show()

    def _patience(self) -> float | None:
        return None if self._seconds is None else self._seconds * random.uniform(0.5, 1)  # nosec B311 # spreads waits

    def _show(self) -> None:
        self._shown.set(self.waiting)
