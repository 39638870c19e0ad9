"""Passwords are hashed in threads of their own: few at once, and few that wait."""

from collections import Counter
from collections.abc import Callable

from anyio import CapacityLimiter, to_thread

from core.domain.errors import Unavailable


class Hashing:
    """Runs what hashes passwords, which takes a quarter of a second of a core each time.

    `threads` at once, so that log-ins leave something of the machine to the transfers. Of those that come meanwhile
    `waiting` may wait; one more is told to come again, rather than kept in a line that outlasts its client. So is who
    has a quarter of all these places already: a user, or a network (api/throttles.py) where nobody is signed in.
    """

    def __init__(self, *, threads: int, waiting: int) -> None:
        self._limiter = CapacityLimiter(threads)
        self._most = threads + waiting
        self._most_of_one = max(1, self._most // 4)
        self._inside: Counter[int | str] = Counter()

    async def run[*Args, Result](self, who: int | str, work: Callable[[*Args], Result], *args: *Args) -> Result:
        """Run it in a thread for somebody, a user's row id or a client's network.

        Raises Unavailable at once where too many wait already, or too many of theirs.
        """
        if self._inside[who] >= self._most_of_one or self._inside.total() >= self._most:
            raise Unavailable
        self._inside[who] += 1
        try:
            return await to_thread.run_sync(work, *args, limiter=self._limiter)
        finally:
            self._inside -= Counter([who])
