"""Whether the queue's server is there, asked once for all who want to know at the same time."""

import asyncio
from collections.abc import Callable

import redis
from anyio import CapacityLimiter, to_thread


class QueuePing:
    """Asks the queue's server in one thread of its own.

    Who comes while it is being asked shares that answer: a server that is silent keeps no more than this one thread,
    and nothing else that needs a thread waits for it.
    """

    def __init__(self, ping: Callable[[], None]) -> None:
        self._ping = ping
        self._limiter = CapacityLimiter(1)
        self._asking: asyncio.Task[bool] | None = None

    async def is_answered(self) -> bool:
        """Say whether it answers. Who gives up meanwhile leaves the question to the others."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
        return await asyncio.shield(self._asking)

    async def stop(self) -> None:
        """Wait for the answer that is still to come."""
        if self._asking is not None:
            await asyncio.wait([self._asking])

    async def _ask(self) -> bool:
        try:
            await to_thread.run_sync(self._ping, limiter=self._limiter)
        except redis.RedisError:
            return False
        return True
