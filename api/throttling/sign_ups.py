"""Sign-ups of one network: beyond some, each is answered later than the one before instead of being refused.

Many people can share an address, so a refusal would lock them out together. They get in, only more slowly.
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Request

from api.throttling.rates import MINUTE_US
from api.throttling.standing import rate_limited
from api.throttling.tally import MOST_REMEMBERED
from core.clock import now_us
from core.domain.throttles import SECOND_US, Patience, Record
from core.settings.groups.server import ServerSettings
from core.settings.groups.throttling import ThrottlingSettings

FIRST_US = SECOND_US // 4
"""The first delay. Each following one is twice as long."""

HELD_OF_ALL = 200
"""Sign-ups of all networks that one process holds: each keeps a connection."""

NAME = "sign-ups-held"
"""The name of this throttle in metrics."""


class SignUps:
    """Holds sign-ups of a network that has had many, `most_held` of them at a time. More are refused.

    A sign-up counts when it begins, so a hundred at once are a hundred, and no longer if it does not succeed. Counts
    are in this process's memory; a sign-up is forgotten after a minute.
    """

    def __init__(self, *, free: int, longest_us: int, most_held: int) -> None:
        self._patience = Patience(free, MINUTE_US, FIRST_US, longest_us) if free else None
        self._most_held = most_held
        self._records: OrderedDict[str, Record] = OrderedDict()
        self._held: Counter[str] = Counter()

    @asynccontextmanager
    async def slowly(self, request: Request, network: str) -> AsyncIterator[None]:
        """Run a sign-up of a network after the delay that it has to wait. Raises RateLimited if too many wait."""
        patience = self._patience
        if patience is None:
            yield
            return
        now = now_us()
        record = self._records.get(network, Record())
        delay_us = patience.delay_us(patience.failures(record, now))
        if delay_us and (self._held[network] >= self._most_held or self._held.total() >= HELD_OF_ALL):
            raise rate_limited(request, NAME, patience.longest_us)
        self._keep(network, patience.count(record, now))
        try:
            await self._hold(network, delay_us)
            yield
        except BaseException:
            self._keep(network, patience.forgive(self._records.get(network, Record()), now))
            raise

    async def _hold(self, network: str, delay_us: int) -> None:
        if not delay_us:
            return
        self._held[network] += 1
        try:
            await asyncio.sleep(delay_us / SECOND_US)
        finally:
            self._held -= Counter([network])

    def _keep(self, network: str, record: Record) -> None:
        self._records[network] = record
        self._records.move_to_end(network)
        if len(self._records) > MOST_REMEMBERED:
            self._records.popitem(last=False)


def sign_ups_of(throttles: ThrottlingSettings, server: ServerSettings) -> SignUps:
    """Make the throttle of sign-ups; each API process has its share, at least one."""
    free, held = throttles.throttle_sign_ups, throttles.throttle_sign_ups_held
    return SignUps(
        free=-(-free // server.api_processes),
        longest_us=round(throttles.throttle_sign_ups_longest_seconds * SECOND_US),
        most_held=-(-held // server.api_processes),
    )
