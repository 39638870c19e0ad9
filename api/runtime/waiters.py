"""Clients that wait for transfers to end. One query serves all of them, and only after the database has changed."""

import asyncio
from contextlib import suppress
from uuid import UUID

from core.storage.engines import Glance
from core.telemetry.logging import get_logger

log = get_logger(__name__)


class Waiters:
    """Lets any number of requests wait at about the cost of one.

    While requests wait, a task checks every `poll_seconds` whether any process has committed something. If so, it
    reads which of the awaited transfers have ended. When no request waits, no task runs.
    """

    def __init__(self, glance: Glance, *, poll_seconds: float) -> None:
        self._glance = glance
        self._poll_seconds = poll_seconds
        self._events: dict[UUID, tuple[asyncio.Event, int]] = {}  # with the number of requests that wait
        self._has_new_waiter = False
        self._released = False
        self._task: asyncio.Task[None] | None = None

    async def wait(self, transfer_id: UUID, seconds: float) -> None:
        """Return when a transfer is no longer pending, or after `seconds`."""
        if self._released:
            return
        # Registered before the first read, so that the next look sees a transfer that ends in between.
        event, count = self._events.get(transfer_id, (asyncio.Event(), 0))
        self._events[transfer_id] = event, count + 1
        self._has_new_waiter = True
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._watch())
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(event.wait(), seconds)
        finally:
            self._leave(transfer_id)

    def release(self) -> None:
        """Wake all waiting requests, whatever the state of their transfers, and let no request wait from now on."""
        self._released = True
        for event, _ in self._events.values():
            event.set()

    async def stop(self) -> None:
        """Wake all waiting requests and end the task."""
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
                version = await self._glance.data_version()
                if version != seen or self._has_new_waiter:
                    self._has_new_waiter = False  # set before the look, during which others may come
                    await self._look()
                    seen = version
            except Exception:
                seen = None  # a failed look is repeated
                # Waiting requests still get an answer at their timeout, because each of them then reads its transfer.
                log.exception("watch_failed")
            await asyncio.sleep(self._poll_seconds)

    async def _look(self) -> None:
        for transfer_id in await self._glance.ended(list(self._events)):
            if transfer_id in self._events:
                self._events[transfer_id][0].set()
