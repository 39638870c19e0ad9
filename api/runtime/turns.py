"""Long work on the event loop, done in pieces, so that other requests do not wait for all of it."""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import batched, chain

TOGETHER = 100
"""Maximum number of items that are made together, in about a millisecond."""

SLICE_SECONDS = 0.001
"""Time for which pieces may follow each other before other work has its turn."""


class Turns:
    """Shares the event loop between the long work of all requests and all other work.

    After each turn of the loop only one request continues, so eight long bodies block it no longer than one.
    """

    def __init__(self) -> None:
        self._next = asyncio.Lock()
        self._since = 0.0

    async def pause(self) -> None:
        """Let the loop turn if the pieces since its last turn have taken their time. Call this between two pieces."""
        if time.perf_counter() - self._since < SLICE_SECONDS:
            return
        async with self._next:
            await asyncio.sleep(0)
        self._since = time.perf_counter()

    async def every[Piece](self, pieces: Iterable[Piece]) -> list[Piece]:
        """Make all pieces, and let the loop turn in between."""
        made: list[Piece] = []
        for piece in pieces:
            made.append(piece)
            await self.pause()
        return made

    async def make[Given, Made](self, make: Callable[[Given], Made], given: Sequence[Given]) -> list[Made]:
        """Make an object of each item, and let the loop turn in between."""
        some = (list(map(make, part)) for part in batched(given, TOGETHER))
        return list(chain.from_iterable(await self.every(some)))
