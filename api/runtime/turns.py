"""Long work on the event loop: done in pieces, so that nobody else waits for the whole of it."""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import batched, chain

TOGETHER = 100
"""Items that are made in one go, at most: for a millisecond or so."""

SLICE_SECONDS = 0.003
"""How long pieces may follow each other before everything else has its turn."""


class Turns:
    """Shares the event loop between everything else and the long work of all requests together.

    One request at a time goes on after a turn of the loop: eight long bodies hold it no longer than one does.
    """

    def __init__(self) -> None:
        self._next = asyncio.Lock()
        self._since = 0.0

    async def pause(self) -> None:
        """Let the loop turn if the pieces since it last did have taken their time. To be called between two pieces."""
        if time.perf_counter() - self._since < SLICE_SECONDS:
            return
        async with self._next:
            await asyncio.sleep(0)
        self._since = time.perf_counter()

    async def every[Piece](self, pieces: Iterable[Piece]) -> list[Piece]:
        """Have all pieces made, and let the loop turn meanwhile."""
        made: list[Piece] = []
        for piece in pieces:
            made.append(piece)
            await self.pause()
        return made

    async def make[Given, Made](self, make: Callable[[Given], Made], given: Sequence[Given]) -> list[Made]:
        """Make something of each of many, and let the loop turn meanwhile."""
        some = (list(map(make, part)) for part in batched(given, TOGETHER))
        return list(chain.from_iterable(await self.every(some)))
