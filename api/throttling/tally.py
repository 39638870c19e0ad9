"""The count of failures: at the queue server, for all processes, or in this process's memory if the server is away.

A count is two times under one key (core/domain/throttles.py). Keys are digests, never a user's input, and they expire.
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
"""Time that the queue server has for an answer. After it, the server counts as away."""

AGAIN_SECONDS = 5.0
"""A server that is away is asked again after this time, so that at most one request in this time waits for it."""

CONNECTIONS = 8

MOST_REMEMBERED = 10_000
"""Maximum counts in this process's memory, some hundred bytes each. Above it, the least recently used are dropped."""


class Watched(NamedTuple):
    """Something that failures are counted for: an account, an address."""

    key: str
    patience: Patience


class Try(NamedTuple):
    """The decision about a try."""

    at: int
    """The time of the try, in microseconds since the epoch, which distinguishes it from others."""
    refused: bool
    """Whether the try has to wait for at least one of the counts. Then it is not counted anywhere."""
    records: list[Record]
    """The record of each count. It includes this try if the try is allowed."""


def _script(name: str) -> str:
    return files(__package__).joinpath(name).read_text()


_ATTEMPT, _COUNT, _FORGIVE = _script("attempt.lua"), _script("count.lua"), _script("forgive.lua")


def connect(url: str) -> Redis:
    """Make a client with a short timeout. In a flood of log-ins, requests wait for one of few connections."""
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
    """A bounded number of counts in this process's memory."""

    def __init__(self, most: int = MOST_REMEMBERED) -> None:
        self._most = most
        self._records: OrderedDict[str, Record] = OrderedDict()

    def attempt(self, watched: Sequence[Watched], now: int) -> tuple[bool, list[Record]]:
        """Count a try, unless it has to wait. Returns whether it has to wait, and each record."""
        records = [self._records.get(one.key, Record()) for one in watched]
        pairs = zip(watched, records, strict=True)
        if any(one.patience.look(record, now).wait_us for one, record in pairs):
            return True, records
        return False, self.count(watched, now)

    def count(self, watched: Sequence[Watched], now: int, tries: int = 1) -> list[Record]:
        """Count tries that were allowed, and return each record."""
        counted = []
        for one in watched:
            counted.append(one.patience.count(self._records.pop(one.key, Record()), now, tries))
            self._records[one.key] = counted[-1]
        while len(self._records) > self._most:
            self._records.popitem(last=False)
        return counted

    def forgive(self, watched: Watched, tried_at: int) -> None:
        """Take back a try that did not fail."""
        if watched.key in self._records:
            self._records[watched.key] = watched.patience.forgive(self._records[watched.key], tried_at)

    def forget(self, watched: Watched) -> None:
        """Forget all failures of one count."""
        self._records.pop(watched.key, None)

    def __len__(self) -> int:
        return len(self._records)


class Tally:
    """Counts failures for all processes together, at the queue server.

    Without the server, each process uses its own count, which it always keeps in parallel. No call raises an exception,
    and none takes longer than `answer_seconds`.
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
        self._count = client.register_script(_COUNT)
        self._forgive = client.register_script(_FORGIVE)

    async def attempt(self, watched: Sequence[Watched]) -> Try:
        """Decide whether a try is allowed. If so, count it as failed now, so that concurrent tries count too."""
        now = now_us()
        found = await self._ask(lambda: self._attempt(watched, now))
        if found is None:
            found = self._own.attempt(watched, now)
        elif not found[0]:
            self._own.count(watched, now)
        return Try(now, *found)

    async def count(self, watched: Watched, tries: int) -> Record:
        """Count tries that have failed, in one call, and return the record."""
        now, patience = now_us(), watched.patience
        (own,) = self._own.count([watched], now, tries)
        arguments = [now, tries, patience.forget_us, patience.most, patience.longest_us]
        found = await self._ask(lambda: self._count(keys=[PREFIX + watched.key], args=arguments))
        return own if found is None else Record(*map(int, found.split()))

    async def forgive(self, watched: Watched, tried_at: int) -> None:
        """Take back a try that did not fail."""
        self._own.forgive(watched, tried_at)
        arguments = [tried_at, watched.patience.forget_us]
        await self._ask(lambda: self._forgive(keys=[PREFIX + watched.key], args=arguments))

    async def forget(self, watched: Watched) -> None:
        """Forget all failures of one count."""
        self._own.forget(watched)
        await self._ask(lambda: self._client.delete(PREFIX + watched.key))

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _attempt(self, watched: Sequence[Watched], now: int) -> tuple[bool, list[Record]]:
        first = watched[0].patience
        arguments = [now, first.first_us, first.longest_us]
        for one in watched:
            arguments += [one.patience.free, one.patience.forget_us, one.patience.most]
        waits, *kept = await self._try(keys=[PREFIX + one.key for one in watched], args=arguments)
        return bool(waits), [Record(*map(int, record.split())) for record in kept]

    async def _ask[Answer](self, question: Callable[[], Awaitable[Answer]]) -> Answer | None:
        """Ask the server, unless it was away a moment ago. Returns None without an answer."""
        time = asyncio.get_running_loop().time()
        if time < self._ask_again_at:
            return None
        if self._is_away:
            self._ask_again_at = time + self._again_seconds  # one request asks, and concurrent ones do not
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
