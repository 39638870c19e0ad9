"""Passwords are hashed in threads of their own: few at once, and few that wait."""

from collections.abc import Callable

from anyio import CapacityLimiter, to_thread

from api.line import Line


class Hashing:
    """Runs what hashes passwords, which takes a quarter of a second of a core each time.

    `threads` at once, so that log-ins leave something of the machine to the transfers. Of those that come meanwhile
    `waiting` may wait, and half of these of one: a user, or a network (api/throttles.py) where nobody is signed in.
    """

    def __init__(self, *, threads: int, waiting: int) -> None:
        self._line = Line(at_once=threads, waiting=waiting, waiting_each=max(1, waiting // 2))
        self._threads = CapacityLimiter(threads)

    async def run[*Args, Result](self, who: int | str, work: Callable[[*Args], Result], *args: *Args) -> Result:
        """Run it in a thread for somebody, a user's row id or a client's network.

        Raises Unavailable at once where too many wait already, or too many of theirs.
        """
        async with self._line.turn(who):
            return await to_thread.run_sync(work, *args, limiter=self._threads)
