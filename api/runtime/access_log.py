"""Refusals of access, collected and recorded together: otherwise refused clients could fill the disk."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from secrets import randbelow

from api.runtime.intake import Intake
from core.domain.audit import Act, Action, Author
from core.services.audit import write_all_down
from core.telemetry.logging import get_logger

log = get_logger(__name__)

SECONDS = 1.0
"""How long refusals are collected before they are written."""

AGAIN_SECONDS = 60.0
"""How long a kind of refusal is collected after it was written, before it is written again."""

SAMPLES = 5
"""Clients of a kind of refusals that have their own entry each time. All others of the kind share one count."""

LAST_SECONDS = 1.0
"""Seconds that the last write may take when the service stops."""

_Kind = tuple[int, str]
"""Refusals of the same kind have the same status and route. So there are few kinds, however many clients there are."""

_Client = tuple[int | None, str | None]
"""The row id of a user, and an address."""


@dataclass(slots=True)
class _Count:
    """Refusals that become one entry."""

    first: Author
    times: int = 0


class _Refusals:
    """The refusals of one kind that are not written yet: their exact number, and a random sample of their clients.

    Each refusal is equally likely to be in the sample (reservoir sampling), so a client that is refused often is hardly
    ever missing, and nobody can push another out on purpose.
    """

    def __init__(self, samples: int) -> None:
        self._samples = samples
        self._times = 0
        self._clients: dict[_Client, _Count] = {}
        self._others: _Count | None = None

    def add(self, author: Author, times: int = 1) -> None:
        """Count refusals of one client; `author` made the first of them."""
        self._times += times
        client = author.user_id, author.address
        if client not in self._clients:
            if len(self._clients) >= self._samples:
                place = randbelow(self._times)
                if place >= self._samples:
                    self._add_others(author, times)
                    return
                replaced = self._clients.pop(list(self._clients)[place])
                self._add_others(replaced.first, replaced.times)
            self._clients[client] = _Count(author)
        self._clients[client].times += times

    def add_newer(self, newer: "_Refusals") -> None:
        """Add refusals that came later."""
        for count in newer._clients.values():
            self.add(count.first, count.times)
        if newer._others:
            self._times += newer._others.times
            self._add_others(newer._others.first, newer._others.times)

    def acts(self, kind: _Kind) -> list[Act]:
        """Make the entries: one for each client of the sample, and one for all others."""
        status, route = kind
        about: dict[str, str | int] = {"status": status, "route": route}
        acts = [
            Act(author=count.first, action=Action.ACCESS_REFUSED, details=about | {"times": count.times})
            for count in self._clients.values()
        ]
        if self._others:
            nobody = Author(user_id=None, request_id=self._others.first.request_id, address=None)
            details = about | {"others": self._others.times}
            acts.append(Act(author=nobody, action=Action.ACCESS_REFUSED, details=details))
        return acts

    def _add_others(self, first: Author, times: int) -> None:
        self._others = self._others or _Count(first)
        self._others.times += times


class AccessLog:
    """Collects refusals, and writes those of each kind with a sample of their clients and their exact number.

    The first refusals of a kind are written within a second, later ones once a minute. So a flood adds at most
    `SAMPLES` + 1 entries a minute for each kind, and hides no refusal of another kind. Refusals that cannot be written
    are kept for the next time, within the same bound.
    """

    def __init__(
        self,
        intake: Intake,
        *,
        seconds: float = SECONDS,
        again_seconds: float = AGAIN_SECONDS,
        samples: int = SAMPLES,
    ) -> None:
        self._intake = intake
        self._seconds = seconds
        self._again_seconds = again_seconds
        self._samples = samples
        self._loop = asyncio.get_running_loop()
        self._seen: dict[_Kind, _Refusals] = {}
        self._again_at: dict[_Kind, float] = {}
        """When refusals of a kind may be written again, on the clock of the event loop."""
        self._gathered = asyncio.Event()
        self._stopping = asyncio.Event()
        self._task = asyncio.create_task(self._write_until_stopped())

    def add(self, author: Author, *, status: int, route: str) -> None:
        """Count a refusal. `route` is a template and never a path, which would contain input of the client."""
        kind = status, route
        if kind not in self._seen:
            self._seen[kind] = _Refusals(self._samples)
        self._seen[kind].add(author)
        self._gathered.set()

    async def flush(self) -> None:
        """Write all collected refusals, or keep all of them if that fails."""
        await self._write(list(self._seen))

    async def stop(self) -> None:
        """Write the collected refusals, and end the task."""
        self._stopping.set()
        self._gathered.set()
        _, unfinished = await asyncio.wait({self._task}, timeout=LAST_SECONDS)
        if unfinished:
            self._task.cancel()
            await asyncio.wait({self._task})
        if lost := sum(len(refusals.acts(kind)) for kind, refusals in self._seen.items()):
            log.error("refusals_lost", count=lost)

    async def _write_until_stopped(self) -> None:
        stopping = False
        while not stopping:
            await self._gathered.wait()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), self._seconds)
            stopping = self._stopping.is_set()  # read before the last write, which must come after it
            self._gathered.clear()
            await (self.flush() if stopping else self._write(self._due()))
            if self._seen:
                self._gathered.set()

    def _due(self) -> list[_Kind]:
        now = self._loop.time()
        return [kind for kind in self._seen if self._again_at.get(kind, 0) <= now]

    async def _write(self, kinds: list[_Kind]) -> None:
        if not kinds:
            return
        again_at = self._loop.time() + self._again_seconds
        self._again_at |= dict.fromkeys(kinds, again_at)
        taken = {kind: self._seen.pop(kind) for kind in kinds}
        acts = [act for kind, refusals in taken.items() for act in refusals.acts(kind)]
        try:
            await self._intake.run(lambda connection: write_all_down(connection, acts))
        except BaseException as error:  # also when a stop runs out of time: nothing is lost silently
            self._keep(taken)
            if not isinstance(error, Exception):
                raise
            log.warning("refusals_kept", count=len(acts), error=str(error))

    def _keep(self, taken: dict[_Kind, _Refusals]) -> None:
        """Put refusals that could not be written back, before those that came since. They may be written at once."""
        for kind, refusals in taken.items():
            if newer := self._seen.get(kind):
                refusals.add_newer(newer)
            self._seen[kind] = refusals
            del self._again_at[kind]
        self._gathered.set()
