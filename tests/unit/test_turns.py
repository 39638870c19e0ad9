"""Long work on the event loop leaves turns for all other work."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import create_engine, text

from core import turns
from core.storage.rows import in_turns
from core.turns import TOGETHER


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
    await turns.pause()
    monkeypatch.setattr(turns, "SLICE_SECONDS", 3600)
    before = ticks.count
    for _ in range(100):
        await turns.pause()
    assert ticks.count == before


async def test_several_long_works_do_one_piece_between_two_turns(ticks: Ticks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "SLICE_SECONDS", 0)
    done: list[tuple[int, int]] = []

    async def work(name: int) -> None:
        for _ in range(10):
            await turns.pause()
            done.append((ticks.count, name))

    await asyncio.gather(*(work(name) for name in range(8)))
    assert len({turn for turn, _ in done}) == len(done) == 80
    assert {name for _, name in done[:8]} == set(range(8)), "each has its first turn before any has its second"


async def test_many_items_are_made_in_order_while_the_loop_turns(ticks: Ticks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "SLICE_SECONDS", 0)
    before = ticks.count
    assert await turns.make(str, range(1000)) == [str(number) for number in range(1000)]
    assert ticks.count - before >= 1000 / TOGETHER


async def test_rows_and_answers_share_the_turns(ticks: Ticks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Storage makes objects of rows while routes write other answers: still one piece between two turns."""
    monkeypatch.setattr(turns, "SLICE_SECONDS", 0)
    done: list[int] = []

    def note(_: object) -> None:
        done.append(ticks.count)

    with create_engine("sqlite://").connect() as connection:
        counting = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300) SELECT i FROM n"
        found = connection.execute(text(counting))
        await asyncio.gather(in_turns(found, note), turns.make(note, range(300)))
    # Before its first wait, each makes one piece.
    assert sum(count > TOGETHER for count in Counter(done).values()) <= 1


def test_each_event_loop_has_its_own_turns() -> None:
    for _ in range(2):
        asyncio.run(asyncio.wait_for(_contend(), timeout=5))


async def _contend() -> None:
    await asyncio.gather(*(turns.make(str, range(1000)) for _ in range(3)))
