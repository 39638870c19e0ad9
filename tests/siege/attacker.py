"""The attacker, in a process of their own: prepared requests over many connections, as fast as the answers come.

It does not wait when the service asks for it. Its rate is capped above what the service can serve, because the
attacker shares the machine with the service.
"""

import asyncio
import itertools
import json
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from tests.siege import hostile
from tests.siege.wire import MARK, Connection

LOST_SECONDS = 0.2
"""Pause after a lost connection."""


@dataclass(frozen=True, slots=True)
class Flood:
    """Requests that some connections from one address repeat; each is chosen by the seed."""

    address: str
    connections: int
    requests: Sequence[bytes]
    reconnects: bool = False
    """Use a new connection for each request."""

    def as_dict(self) -> dict[str, object]:
        return asdict(self) | {"requests": [part.decode("latin-1") for part in self.requests]}


@dataclass(frozen=True, slots=True)
class Plan:
    """What the attacker's process is told."""

    port: int
    seconds: float
    seed: int
    rate: float
    """Most requests a second."""
    floods: Sequence[Flood]
    hostile: bool = False
    """Play the hostile connections too."""

    def as_json(self) -> str:
        return json.dumps(asdict(self) | {"floods": [flood.as_dict() for flood in self.floods]})

    @classmethod
    def of(cls, text: str) -> "Plan":
        """Read what `as_json` wrote."""
        told = json.loads(text)
        floods = [
            Flood(**flood | {"requests": [part.encode("latin-1") for part in flood["requests"]]})
            for flood in told["floods"]
        ]
        return cls(**told | {"floods": floods})


class Pace:
    """Lets at most `rate` requests a second begin."""

    def __init__(self, rate: float) -> None:
        self._gap = 1 / rate
        self._next = time.monotonic()

    async def turn(self) -> None:
        """Wait for a place; unused ones are lost."""
        now = time.monotonic()
        self._next = max(self._next + self._gap, now)
        if self._next > now + 0.001:
            await asyncio.sleep(self._next - now)


class Attack:
    """Plays a plan."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._pace = Pace(plan.rate)
        self._numbers = itertools.count(plan.seed << 24)
        self._until = time.monotonic() + plan.seconds
        self.answers: Counter[str] = Counter()

    async def play(self) -> None:
        """Send until the time is over; requests that still wait then are abandoned."""
        parts = [
            self._one(flood, random.Random(f"{self._plan.seed} {place} {number}"))
            for place, flood in enumerate(self._plan.floods)
            for number in range(flood.connections)
        ]
        if self._plan.hostile:
            parts += hostile.parts(self._plan.port, self._plan.seed, self.answers)
        running = [asyncio.create_task(part) for part in parts]
        await asyncio.wait(running, timeout=self._plan.seconds)
        for task in running:
            task.cancel()
        for ended in await asyncio.gather(*running, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended

    async def _one(self, flood: Flood, chance: random.Random) -> None:
        while time.monotonic() < self._until:
            try:
                connection = await Connection.open(self._plan.port, flood.address, keeps_bodies=False)
            except OSError:
                self.answers["not connected"] += 1
                await asyncio.sleep(LOST_SECONDS)
                continue
            try:
                await self._repeat(flood, chance, connection)
            except ConnectionError:
                self.answers["closed"] += 1
                await asyncio.sleep(LOST_SECONDS)
            finally:
                connection.close()

    async def _repeat(self, flood: Flood, chance: random.Random, connection: Connection) -> None:
        while connection.is_open and time.monotonic() < self._until:
            await self._pace.turn()
            number = f"{next(self._numbers):0{len(MARK)}x}".encode()
            answer = await connection.ask(chance.choice(flood.requests).replace(MARK, number))
            self.answers[str(answer.status)] += 1
            if flood.reconnects:
                return


def main() -> None:
    """Play the plan that the standard input describes, and print the answers."""
    attack = Attack(Plan.of(sys.stdin.read()))
    begun = time.monotonic()
    asyncio.run(attack.play())
    used = resource.getrusage(resource.RUSAGE_SELF)
    figures = {"seconds": time.monotonic() - begun, "cpu_seconds": used.ru_utime + used.ru_stime}
    json.dump(figures | {"answers": dict(attack.answers)}, sys.stdout)


if __name__ == "__main__":
    main()
