"""Refusals of access, gathered and written down together: who is refused could fill the disk otherwise."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass

from api.intake import Intake
from core.domain.audit import Act, Action, Author
from core.logging import get_logger
from core.services.audit import write_all_down

log = get_logger(__name__)

SECONDS = 1.0
"""How long refusals are gathered before they are written."""

DISTINCT = 100
"""Refusals that one writing tells apart; those beyond are one number."""

LAST_SECONDS = 1.0
"""Time that a stop gives to the last writing."""

_Kind = tuple[int, str, int | None, str | None]
"""What makes refusals alike: status, route, row id of the user, address."""


@dataclass(slots=True)
class _Seen:
    first: Author
    times: int


class Refusals:
    """Gathers refusals and writes each kind once a second, with how often it came and the id of its first request.

    What cannot be written is kept for the next time, within the same bound.
    """

    def __init__(self, intake: Intake, *, seconds: float = SECONDS, distinct: int = DISTINCT) -> None:
        self._intake = intake
        self._seconds = seconds
        self._distinct = distinct
        self._seen: dict[_Kind, _Seen] = {}
        self._others: _Seen | None = None
        self._gathered = asyncio.Event()
        self._stopping = asyncio.Event()
        self._task = asyncio.create_task(self._write_until_stopped())

    def add(self, author: Author, *, status: int, route: str) -> None:
        """Note that somebody was refused. `route` is a template, never a path, which would hold what was sent."""
        self._merge((status, route, author.user_id, author.address), _Seen(author, 1))

    async def flush(self) -> None:
        """Write what there is, or keep all of it."""
        self._gathered.clear()
        acts = self._acts()
        if not acts:
            return
        seen, others = self._seen, self._others
        self._seen, self._others = {}, None
        try:
            await self._intake.run(lambda connection: write_all_down(connection, acts))
        except BaseException as error:  # a stop that runs out of time, too: nothing is forgotten silently
            self._keep(seen, others)
            if not isinstance(error, Exception):
                raise
            log.warning("refusals_kept", count=len(acts), error=str(error))

    async def stop(self) -> None:
        """Write what there is, and end the task."""
        self._stopping.set()
        self._gathered.set()
        _, unfinished = await asyncio.wait({self._task}, timeout=LAST_SECONDS)
        if unfinished:
            self._task.cancel()
            await asyncio.wait({self._task})
        if lost := len(self._acts()):
            log.error("refusals_lost", count=lost)

    def _merge(self, kind: _Kind | None, seen: _Seen) -> None:
        known = self._others if kind is None else self._seen.get(kind)
        if known is not None:
            known.times += seen.times
        elif kind is None:
            self._others = seen
        elif len(self._seen) < self._distinct:
            self._seen[kind] = seen
        else:
            self._merge(None, seen)
        self._gathered.set()

    async def _write_until_stopped(self) -> None:
        stopping = False
        while not stopping:
            await self._gathered.wait()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), self._seconds)
            stopping = self._stopping.is_set()  # asked before the last writing, which must follow it
            await self.flush()

    def _keep(self, seen: dict[_Kind, _Seen], others: _Seen | None) -> None:
        """Put back what could not be written, before what has come since."""
        newer, newer_others = self._seen, self._others
        self._seen, self._others = seen, others
        for kind, more in newer.items():
            self._merge(kind, more)
        if newer_others is not None:
            self._merge(None, newer_others)
        self._gathered.set()

    def _acts(self) -> list[Act]:
        acts = [
            Act(
                author=seen.first,
                action=Action.ACCESS_REFUSED,
                details={"status": status, "route": route, "times": seen.times},
            )
            for (status, route, _, _), seen in self._seen.items()
        ]
        if self._others is not None:
            nobody = Author(user_id=None, request_id=self._others.first.request_id, address=None)
            acts.append(Act(author=nobody, action=Action.ACCESS_REFUSED, details={"others": self._others.times}))
        return acts
