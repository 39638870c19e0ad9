"""Passwords are hashed in threads of their own: few at once, and few that wait."""

from collections.abc import Callable

from anyio import CapacityLimiter, to_thread

from core.domain.errors import Unavailable


class Hashing:
    """Runs what hashes passwords, which takes a quarter of a second of a core each time.

    `threads` at once, so that log-ins leave something of the machine to the transfers. Of those that come meanwhile
    `waiting` may wait; one more is told to come again, rather than kept in a line that outlasts its client.
    """

    def __init__(self, *, threads: int, waiting: int) -> None:
        self._limiter = CapacityLimiter(threads)
        self._most = threads + waiting
        self._inside = 0

    async def run[*Args, Result](self, work: Callable[[*Args], Result], *args: *Args) -> Result:
        """Run it in a thread; raises Unavailable at once where too many wait already, whoever asks and for whom."""
        if self._inside >= self._most:
            raise Unavailable
        self._inside += 1
        try:
            return await to_thread.run_sync(work, *args, limiter=self._limiter)
        finally:
            self._inside -= 1
