"""Refusals of access, collected and recorded together: otherwise refused clients could fill the disk."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass

from api.runtime.intake import Intake
from core.domain.audit import Act, Action, Author
from core.services.audit import write_all_down
from core.telemetry.logging import get_logger

log = get_logger(__name__)

SECONDS = 1.0
"""How long refusals are collected before they are written."""

AGAIN_SECONDS = 60.0
"""How long a kind of refusal is collected after it was written, before it is written again."""

DISTINCT = 100
"""Kinds of refusals that are counted separately in that time. All others share one count."""

LAST_SECONDS = 1.0
"""Seconds that the last write may take when the service stops."""

_Kind = tuple[int, str, int | None, str | None]
"""Refusals of the same kind have the same status, route, row id of the user, and address."""


@dataclass(slots=True)
class _Seen:
    """Refusals of one kind that are not written yet. `times` is 0 if all of them were written recently."""

    first: Author
    times: int
    again_at: float = 0
    """When the next ones may be written, on the clock of the event loop."""


class AccessLog:
    """Collects refusals and writes each kind with its count and the id of its first request.

    The first refusals of a kind are written within a second, later ones once a minute. So a flood adds at most
    `DISTINCT` entries a minute, and one for all other kinds. Refusals that cannot be written are kept for the next
    time, within the same bound.
    """

    def __init__(
        self,
        intake: Intake,
        *,
        seconds: float = SECONDS,
        again_seconds: float = AGAIN_SECONDS,
        distinct: int = DISTINCT,
    ) -> None:
        self._intake = intake
        self._seconds = seconds
        self._again_seconds = again_seconds
        self._distinct = distinct
        self._loop = asyncio.get_running_loop()
        self._seen: dict[_Kind | None, _Seen] = {}
        """By kind. The key None is for all refusals that are not counted separately."""
        self._gathered = asyncio.Event()
        self._stopping = asyncio.Event()
        self._task = asyncio.create_task(self._write_until_stopped())

    def add(self, author: Author, *, status: int, route: str) -> None:
        """Count a refusal. `route` is a template and never a path, which would contain input of the client."""
        kind = status, route, author.user_id, author.address
        seen = self._seen.get(kind)
        if seen is None and self._has_room():
            seen = self._seen[kind] = _Seen(author, 0)
        if seen is None:
            seen = self._seen.setdefault(None, _Seen(author, 0))
        if not seen.times:
            seen.first = author
        seen.times += 1
        self._gathered.set()

    async def flush(self) -> None:
        """Write all collected refusals, or keep all of them if that fails."""
        await self._write([kind for kind, seen in self._seen.items() if seen.times])

    async def stop(self) -> None:
        """Write the collected refusals, and end the task."""
        self._stopping.set()
        self._gathered.set()
        _, unfinished = await asyncio.wait({self._task}, timeout=LAST_SECONDS)
        if unfinished:
            self._task.cancel()
            await asyncio.wait({self._task})
        if lost := sum(seen.times > 0 for seen in self._seen.values()):
            log.error("refusals_lost", count=lost)

    def _has_room(self) -> bool:
        """Return whether one more kind can be counted separately. Kinds that were written long ago make room."""
        if len(self._seen) - (None in self._seen) < self._distinct:
            return True
        now = self._loop.time()
        stale = [kind for kind, seen in self._seen.items() if not seen.times and seen.again_at <= now]
        for kind in stale:
            del self._seen[kind]
        return len(self._seen) - (None in self._seen) < self._distinct

    async def _write_until_stopped(self) -> None:
        stopping = False
        while not stopping:
            await self._gathered.wait()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), self._seconds)
            stopping = self._stopping.is_set()  # read before the last write, which must come after it
            self._gathered.clear()
            await (self.flush() if stopping else self._write(self._due()))
            if any(seen.times for seen in self._seen.values()):
                self._gathered.set()

    def _due(self) -> list[_Kind | None]:
        now = self._loop.time()
        return [kind for kind, seen in self._seen.items() if seen.times and seen.again_at <= now]

    async def _write(self, kinds: list[_Kind | None]) -> None:
        if not kinds:
            return
        taken = [(kind, self._seen[kind].first, self._seen[kind].times) for kind in sorted(kinds, key=_others_last)]
        again_at = self._loop.time() + self._again_seconds
        for kind in kinds:
            self._seen[kind].times, self._seen[kind].again_at = 0, again_at
        acts = [_act(*each) for each in taken]
        try:
            await self._intake.run(lambda connection: write_all_down(connection, acts))
        except BaseException as error:  # also when a stop runs out of time: nothing is lost silently
            self._keep(taken)
            if not isinstance(error, Exception):
                raise
            log.warning("refusals_kept", count=len(acts), error=str(error))

    def _keep(self, taken: list[tuple[_Kind | None, Author, int]]) -> None:
        """Put refusals that could not be written back, before those that came since."""
        for kind, first, times in taken:
            newer = self._seen.get(kind)
            self._seen[kind] = _Seen(first, times + (newer.times if newer else 0))
        self._gathered.set()


def _others_last(kind: _Kind | None) -> bool:
    return kind is None


def _act(kind: _Kind | None, first: Author, times: int) -> Act:
    if kind is None:
        no_user = Author(user_id=None, request_id=first.request_id, address=None)
        return Act(author=no_user, action=Action.ACCESS_REFUSED, details={"others": times})
    details: dict[str, str | int] = {"status": kind[0], "route": kind[1], "times": times}
    return Act(author=first, action=Action.ACCESS_REFUSED, details=details)
