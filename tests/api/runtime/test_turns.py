"""Long work on the event loop leaves turns for all other work."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from api.runtime import turns
from api.runtime.turns import TOGETHER, Turns


class Ticks:
    """Counts the turns of the event loop."""

    def __init__(self) -> None:
        self.count = 0

    async def run(self) -> None:
        while True:
            self.count += 1
            await asyncio.sleep(0)


@pytest.fixture
async def ticks() -> AsyncIterator[Ticks]:
    counted = Ticks()
    running = asyncio.create_task(counted.run())
    await asyncio.sleep(0)
    yield counted
    running.cancel()


async def test_pieces_run_one_after_the_other_until_their_time_is_over(
    ticks: Ticks, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = Turns()
    await shared.pause()
    monkeypatch.setattr(turns, "SLICE_SECONDS", 3600)
    before = ticks.count
    for _ in range(100):
        await shared.pause()
    assert ticks.count == before


async def test_several_long_works_do_one_piece_between_two_turns(ticks: Ticks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "SLICE_SECONDS", 0)
    shared = Turns()
    done: list[tuple[int, int]] = []

    async def work(name: int) -> None:
        for _ in range(10):
            await shared.pause()
            done.append((ticks.count, name))

    await asyncio.gather(*(work(name) for name in range(8)))
    assert len({turn for turn, _ in done}) == len(done) == 80
    assert {name for _, name in done[:8]} == set(range(8)), "each has its first turn before any has its second"


async def test_many_items_are_made_in_order_while_the_loop_turns(ticks: Ticks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "SLICE_SECONDS", 0)
    before = ticks.count
    assert await Turns().make(str, range(1000)) == [str(number) for number in range(1000)]
    assert ticks.count - before >= 1000 / TOGETHER
