"""Where failures are counted: at the queue server, for all processes alike, and in this one's memory when that is away.

A count is two times in one key (core/domain/throttles.py). Keys hold digests, never what somebody typed, and run out.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from importlib.resources import files
from typing import NamedTuple

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from core.clock import now_us
from core.domain.throttles import Patience, Record
from core.telemetry.logging import get_logger

log = get_logger(__name__)

PREFIX = "giro:throttle:"

ANSWER_SECONDS = 0.25
"""Time that the queue server is given for an answer; without one it counts as away."""

AGAIN_SECONDS = 5.0
"""Time for which a server that is away is not asked again: nobody waits for it but one request in so long."""

CONNECTIONS = 8

MOST_REMEMBERED = 10_000
"""Counts that this process's memory keeps, some hundred bytes each; beyond, the ones not touched for longest go."""


class Watched(NamedTuple):
    """Something that failures are counted of: an account, an address."""

    key: str
    patience: Patience


class Try(NamedTuple):
    """What came of asking whether something may be tried."""

    at: int
    """When, in microseconds since the epoch; it tells this try from others."""
    refused: bool
    """Whether it has to wait for one of those that were asked about. Then it is counted in none."""
    records: list[Record]
    """What is remembered of each, this try included if it may be made."""


def _script(name: str) -> str:
    return files(__package__).joinpath(name).read_text()


_ATTEMPT, _FORGIVE = _script("attempt.lua"), _script("forgive.lua")


def connect(url: str) -> Redis:
    """Make a client that gives up at once, and keeps a flood of log-ins waiting in place of opening connections."""
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=CONNECTIONS,
        timeout=ANSWER_SECONDS,
        socket_timeout=ANSWER_SECONDS,
        socket_connect_timeout=ANSWER_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
    return Redis.from_pool(pool)


class Memory:
    """Counts that this process keeps for itself, within a bound."""

    def __init__(self, most: int = MOST_REMEMBERED) -> None:
        self._most = most
        self._records: OrderedDict[str, Record] = OrderedDict()

    def attempt(self, watched: Sequence[Watched], now: int) -> tuple[bool, list[Record]]:
        """Count a try, unless one has to wait. Says whether it has to, and returns each record."""
        records = [self._records.get(one.key, Record()) for one in watched]
        pairs = zip(watched, records, strict=True)
        if any(one.patience.look(record, now).wait_us for one, record in pairs):
            return True, records
        return False, self.count(watched, now)

    def count(self, watched: Sequence[Watched], now: int) -> list[Record]:
        """Count a try that was let through, and return each record."""
        counted = []
        for one in watched:
            counted.append(one.patience.count(self._records.pop(one.key, Record()), now))
            self._records[one.key] = counted[-1]
        while len(self._records) > self._most:
            self._records.popitem(last=False)
        return counted

    def forgive(self, watched: Watched, tried_at: int) -> None:
        """Take back a try that did not fail."""
        if watched.key in self._records:
            self._records[watched.key] = watched.patience.forgive(self._records[watched.key], tried_at)

    def forget(self, watched: Watched) -> None:
        """Forget every failure of one."""
        self._records.pop(watched.key, None)

    def __len__(self) -> int:
        return len(self._records)


class Tally:
    """Counts failures for all processes together, at the queue server.

    Without it each process goes by what it has seen itself: it counts along all the time, and so knows at once. No
    call raises, and none takes longer than `answer_seconds`.
    """

    def __init__(
        self,
        client: Redis,
        *,
        answer_seconds: float = ANSWER_SECONDS,
        again_seconds: float = AGAIN_SECONDS,
        most: int = MOST_REMEMBERED,
    ) -> None:
        self._client = client
        self._answer_seconds = answer_seconds
        self._again_seconds = again_seconds
        self._own = Memory(most)
        self._is_away = False
        self._ask_again_at = 0.0
        self._try = client.register_script(_ATTEMPT)
        self._forgive = client.register_script(_FORGIVE)

    async def attempt(self, watched: Sequence[Watched]) -> Try:
        """Ask whether something may be tried, and count it as failed if so: what is in hand at once counts as well."""
        now = now_us()
        found = await self._ask(lambda: self._attempt(watched, now))
        if found is None:
            found = self._own.attempt(watched, now)
        elif not found[0]:
            self._own.count(watched, now)
        return Try(now, *found)

    async def forgive(self, watched: Watched, tried_at: int) -> None:
        """Take back a try that did not fail."""
        self._own.forgive(watched, tried_at)
        arguments = [tried_at, watched.patience.forget_us]
        await self._ask(lambda: self._forgive(keys=[PREFIX + watched.key], args=arguments))

    async def forget(self, watched: Watched) -> None:
        """Forget every failure of one."""
        self._own.forget(watched)
        await self._ask(lambda: self._client.delete(PREFIX + watched.key))

    async def close(self) -> None:
        """Let go of the connections."""
        await self._client.aclose()

    async def _attempt(self, watched: Sequence[Watched], now: int) -> tuple[bool, list[Record]]:
        first = watched[0].patience
        arguments = [now, first.first_us, first.longest_us]
        for one in watched:
            arguments += [one.patience.free, one.patience.forget_us, one.patience.most]
        waits, *kept = await self._try(keys=[PREFIX + one.key for one in watched], args=arguments)
        return bool(waits), [Record(*map(int, record.split())) for record in kept]

    async def _ask[Answer](self, question: Callable[[], Awaitable[Answer]]) -> Answer | None:
        """Ask the server, unless it was away a moment ago; None if there is no answer."""
        time = asyncio.get_running_loop().time()
        if time < self._ask_again_at:
            return None
        if self._is_away:
            self._ask_again_at = time + self._again_seconds  # one request asks, and those that come meanwhile do not
        try:
            async with asyncio.timeout(self._answer_seconds):
                answer = await question()
        except (RedisError, OSError) as error:  # a timeout is an OSError
            self._lost(error)
            return None
        if self._is_away:
            self._is_away, self._ask_again_at = False, 0.0
            log.info("throttles_shared_again")
        return answer

    def _lost(self, error: Exception) -> None:
        self._ask_again_at = asyncio.get_running_loop().time() + self._again_seconds
        if not self._is_away:
            self._is_away = True
            log.warning("throttles_on_their_own", error=f"{type(error).__name__}: {error}")
