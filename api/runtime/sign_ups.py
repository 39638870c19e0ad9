"""Sign-ups of one network: they come in the order of arrival, and beyond some at a steady pace.

Many people can share an address, so a refusal would lock them out together. They get in, one after the other.
"""

import time
from asyncio import get_running_loop
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from api.runtime.fair_line import FairLine, Gone
from api.throttling.rates import Buckets
from core.domain.throttles import Rate
from core.settings import Settings

FREE_AGAIN_SECONDS = 60
"""Time after which a network may have one more sign-up without the pace."""

TOGETHER = 2
"""Sign-ups of one network that work at a time. More would not be faster, because hashing has as many threads."""

OF_ALL = 16
"""Sign-ups of all networks that work at a time."""

WAITING_OF_ALL = 512
"""Sign-ups of all networks that may wait: each keeps a connection."""

WAIT_SECONDS = 120.0
"""More than the time of a full line, unless the machine cannot keep the pace."""


class SignUps:
    """Lets two sign-ups of a network work at a time, in the order of arrival.

    `free` of them follow each other at once. Each further one keeps its place for long enough that one begins every
    `seconds`, or more slowly if the machine does not hash passwords as fast. `waiting` of one network may wait. So the
    last of a line with `waiting` robots gets in after that many times `seconds`. A robot that comes back is the last.
    """

    def __init__(self, *, free: int, seconds: float, waiting: int) -> None:
        self._free = Buckets("sign-ups", Rate(free, free * FREE_AGAIN_SECONDS)) if free else None
        self._seconds = TOGETHER * seconds
        self.line = FairLine(
            "sign-ups",
            at_once=OF_ALL,
            each=TOGETHER,
            waiting=WAITING_OF_ALL,
            waiting_each=waiting,
            seconds=WAIT_SECONDS,
        )

    @asynccontextmanager
    async def turn(self, network: str, gone: Gone) -> AsyncIterator[None]:
        """Wait for the turn of a sign-up. Raises Unavailable like FairLine."""
        await self.line.enter(network, gone)
        begun = time.monotonic()
        is_free = self._free is None or not self._free.take("", network).wait_us
        try:
            yield
        finally:
            rest = 0 if is_free else begun + self._seconds - time.monotonic()
            if rest > 0:
                get_running_loop().call_later(rest, self.line.leave, network)
            else:
                self.line.leave(network)


def sign_ups_of(settings: Settings) -> SignUps:
    """Make the line of sign-ups. Each API process has its share of the free ones, of the pace and of the places."""
    processes = settings.api_processes
    return SignUps(
        free=-(-settings.throttle_sign_ups // processes),
        seconds=settings.throttle_sign_ups_seconds * processes,
        waiting=-(-settings.throttle_sign_ups_waiting // processes),
    )
