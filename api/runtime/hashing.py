"""Password hashing in separate threads: few hashes run at once, and few wait."""

from collections.abc import Callable

from anyio import CapacityLimiter, to_thread

from api.runtime.fair_line import FairLine


class Hashing:
    """Runs password hashing, which takes a quarter of a second of a core each time.

    `threads` run at once for strangers, so that log-ins leave processor time to the transfers, and one for known users.
    `waiting` more may wait, and a quarter of these for the same user or network. Both take turns.
    """

    def __init__(self, *, threads: int, waiting: int) -> None:
        bounds = {"waiting": waiting, "waiting_each": max(1, waiting // 4)}
        self.strangers = FairLine("passwords", at_once=threads, **bounds)
        self.users = FairLine("passwords-of-users", at_once=1, **bounds)
        self._threads = CapacityLimiter(threads + 1)

    async def run[*Args, Result](self, who: int | str, work: Callable[[*Args], Result], *args: *Args) -> Result:
        """Run `work` in a thread for a known user, given as a row id, or for a stranger's network.

        Raises Unavailable immediately if too many wait already, in total or for this client.
        """
        line = self.users if isinstance(who, int) else self.strangers
        async with line.turn(who):
            return await to_thread.run_sync(work, *args, limiter=self._threads)
