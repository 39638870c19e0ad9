"""A ping of the queue server, which concurrent callers share."""

import asyncio
from collections.abc import Callable

import redis
from anyio import CapacityLimiter, to_thread


class QueuePing:
    """Pings the queue server in its own thread.

    Callers that come during a ping share its answer. So a silent server blocks only this one thread, and no other
    work that needs a thread waits for it.
    """

    def __init__(self, ping: Callable[[], None]) -> None:
        self._ping = ping
        self._limiter = CapacityLimiter(1)
        self._asking: asyncio.Task[bool] | None = None

    async def is_answered(self) -> bool:
        """Return whether the server answers. If a caller gives up, the ping continues for the others."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
        return await asyncio.shield(self._asking)

    async def stop(self) -> None:
        """Wait until the current ping has ended."""
        if self._asking is not None:
            await asyncio.wait([self._asking])

    async def _ask(self) -> bool:
        try:
            await to_thread.run_sync(self._ping, limiter=self._limiter)
        except redis.RedisError:
            return False
        return True
