"""Long work on the event loop, done in pieces, so that other requests do not wait for all of it.

All long work of a loop shares its turns: reading rows, making answers of them, parsing batches. After each turn of the
loop only one request continues, so eight long pages block it no longer than one.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import batched, chain
from weakref import WeakKeyDictionary

TOGETHER = 10
"""Maximum number of items that are made together, in a few tenths of a millisecond."""

SLICE_SECONDS = 0.0005
"""Time for which pieces may follow each other before other work has its turn. A read of another user takes some ten
turns of the loop, and waits for a slice in each."""


class _Turns:
    """The turns of one event loop."""

    def __init__(self) -> None:
        self.next = asyncio.Lock()
        self.since = 0.0


_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, _Turns] = WeakKeyDictionary()


async def pause() -> None:
    """Let the loop turn if the pieces since its last turn have taken their time. Call this between two pieces."""
    loop = asyncio.get_running_loop()
    turns = _turns.get(loop) or _turns.setdefault(loop, _Turns())
    if time.perf_counter() - turns.since < SLICE_SECONDS:
        return
    async with turns.next:
        await asyncio.sleep(0)
    turns.since = time.perf_counter()


async def every[Piece](pieces: Iterable[Piece]) -> list[Piece]:
    """Make all pieces, and let the loop turn in between."""
    made: list[Piece] = []
    for piece in pieces:
        made.append(piece)
        await pause()
    return made


async def make[Given, Made](make_one: Callable[[Given], Made], given: Sequence[Given]) -> list[Made]:
    """Make an object of each item, and let the loop turn in between."""
    return await flattened(list(map(make_one, part)) for part in batched(given, TOGETHER))


async def flattened[Item](parts: Iterable[Sequence[Item]]) -> list[Item]:
    """Make all parts of a list, and let the loop turn in between."""
    return list(chain.from_iterable(await every(parts)))
