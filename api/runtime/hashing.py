"""Password hashing in separate threads: few hashes run at once, and few wait."""

from collections.abc import Callable

from anyio import CapacityLimiter, to_thread

from api.runtime.fair_line import FairLine


class Hashing:
    """Runs password hashing, which takes a quarter of a second of a core each time.

    `threads` run at once, so that log-ins leave processor time to the transfers. `waiting` more may wait, and a quarter
    of these for the same client: a user, or a network if nobody is signed in. Clients take turns.
    """

    def __init__(self, *, threads: int, waiting: int) -> None:
        self._line = FairLine("passwords", at_once=threads, waiting=waiting, waiting_each=max(1, waiting // 4))
        self._threads = CapacityLimiter(threads)

    async def run[*Args, Result](self, who: int | str, work: Callable[[*Args], Result], *args: *Args) -> Result:
        """Run `work` in a thread for a client, given as a user's row id or a network.

        Raises Unavailable immediately if too many wait already, in total or for this client.
        """
        async with self._line.turn(who):
            return await to_thread.run_sync(work, *args, limiter=self._threads)
