"""Clients that wait for transfers to end: all of them in one look at the database, and only when it has changed."""

import asyncio
from contextlib import suppress
from uuid import UUID

from core.logging import get_logger
from core.storage.peek import Peek

log = get_logger(__name__)


class Waiters:
    """Lets any number of requests wait at about the cost of one.

    While somebody waits, a task asks every `poll_seconds` whether anything has been committed, by any process,
    and if so which of the awaited transfers have ended. When nobody waits, it does nothing.
    """

    def __init__(self, peek: Peek, *, poll_seconds: float) -> None:
        self._peek = peek
        self._poll_seconds = poll_seconds
        self._events: dict[UUID, tuple[asyncio.Event, int]] = {}  # and how many wait for it
        self._somebody_new = False
        self._released = False
        self._task: asyncio.Task[None] | None = None

    async def wait(self, transfer_id: UUID, seconds: float) -> None:
        """Return when a transfer is pending no more, or after `seconds`."""
        if self._released:
            return
        # Registered first and read afterwards: an end that comes in between is seen by the next look.
        event, count = self._events.get(transfer_id, (asyncio.Event(), 0))
        self._events[transfer_id] = event, count + 1
        self._somebody_new = True
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._watch())
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(event.wait(), seconds)
        finally:
            self._leave(transfer_id)

    def release(self) -> None:
        """Let everybody go, with whatever they know by now, and nobody wait any more."""
        self._released = True
        for event, _ in self._events.values():
            event.set()

    async def stop(self) -> None:
        """Let everybody go and end the task."""
        self.release()
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def _leave(self, transfer_id: UUID) -> None:
        event, count = self._events.pop(transfer_id)
        if count > 1:
            self._events[transfer_id] = event, count - 1

    async def _watch(self) -> None:
        seen = None
        while self._events:
            try:
                version = self._peek.data_version()
                if version != seen or self._somebody_new:
                    self._look()
                    seen, self._somebody_new = version, False  # after the look: one that fails is repeated
            except Exception:
                # Whoever waits still gets an answer when the time is up, from a read of its own.
                log.exception("watch_failed")
            await asyncio.sleep(self._poll_seconds)

    def _look(self) -> None:
        for transfer_id in self._peek.ended(self._events.keys()):
            if transfer_id in self._events:
                self._events[transfer_id][0].set()
