"""Clients that wait for transfers to end: few reads for many clients, and no end is missed."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from uuid import UUID, uuid4

import pytest

from api.runtime.waiters import Waiters
from core.settings import Settings
from core.storage.sqlite.engine import Database
from core.storage.sqlite.glance import Glance
from tests import builders
from tests.api.conftest import until

pytestmark = pytest.mark.funded(ada_has=10_000)

LONG = 20.0
"""Seconds; no wait in these tests takes this long unless it fails."""


class Watched:
    """A real Glance that counts its reads, and can run a function in between."""

    def __init__(self, peek: Glance) -> None:
        self._peek = peek
        self.versions = 0
        self.looks = 0
        self.before_version: Callable[[], object] = lambda: None
        self.after_look: Callable[[], object] = lambda: None

    async def data_version(self) -> int:
        self.versions += 1
        self.before_version()
        return await self._peek.data_version()

    async def ended(self, transfer_ids: Collection[UUID]) -> list[UUID]:
        self.looks += 1
        found = await self._peek.ended(transfer_ids)
        self.after_look()
        return found


@pytest.fixture
async def peek(settings: Settings, database: Database) -> AsyncIterator[Watched]:
    own = Database(settings)
    peek = Glance(own)
    yield Watched(peek)
    await peek.close()
    own.close()


@pytest.fixture
async def waiters(peek: Watched) -> AsyncIterator[Waiters]:
    waiters = Waiters(peek, poll_seconds=0.002)  # type: ignore[arg-type]
    yield waiters
    await waiters.stop()


def submit(database: Database, bank: builders.Bank, count: int = 1) -> list[UUID]:
    orders = [builders.from_ada_to_bob(bank, 1) for _ in range(count)]
    return [accepted.id for accepted in builders.accept(database, *orders) if not isinstance(accepted, Exception)]


def once(action: Callable[[], object]) -> Callable[[], object]:
    """Run a function only the first time."""
    todo = [action]
    return lambda: todo.pop()() if todo else None


def start(waiters: Waiters, transfers: list[UUID], seconds: float = LONG) -> "list[asyncio.Task[None]]":
    return [asyncio.create_task(waiters.wait(transfer, seconds)) for transfer in transfers]


async def test_a_hundred_waiting_clients_cost_few_reads(
    waiters: Waiters, peek: Watched, database: Database, bank: builders.Bank
) -> None:
    transfers = submit(database, bank, 100)
    waiting = start(waiters, transfers)
    await until(lambda: peek.versions >= 5)
    assert peek.looks == 1, "one read at the beginning, and no other without a commit"
    await asyncio.to_thread(builders.settle_all, database)
    async with asyncio.timeout(LONG):
        await asyncio.gather(*waiting)
    assert peek.looks <= 3


async def test_each_client_is_released_when_its_own_transfer_ends(
    waiters: Waiters, database: Database, bank: builders.Bank
) -> None:
    (first,) = submit(database, bank)
    waiting = start(waiters, [first])
    builders.settle_all(database)
    (second,) = submit(database, bank)
    other = start(waiters, [second])
    async with asyncio.timeout(LONG):
        await waiting[0]
    assert not other[0].done()
    builders.settle_all(database)
    async with asyncio.timeout(LONG):
        await other[0]


async def test_an_end_before_the_wait_is_seen_at_once(
    waiters: Waiters, database: Database, bank: builders.Bank
) -> None:
    transfers = submit(database, bank)
    builders.settle_all(database)
    async with asyncio.timeout(LONG):
        await waiters.wait(transfers[0], LONG)


async def test_an_end_between_registration_and_the_first_read_is_seen(
    waiters: Waiters, peek: Watched, database: Database, bank: builders.Bank
) -> None:
    transfers = submit(database, bank)
    peek.before_version = once(lambda: builders.settle_all(database))
    async with asyncio.timeout(LONG):
        await waiters.wait(transfers[0], LONG)


async def test_an_end_right_after_a_read_is_seen(
    waiters: Waiters, peek: Watched, database: Database, bank: builders.Bank
) -> None:
    transfers = submit(database, bank)
    peek.after_look = once(lambda: builders.settle_all(database))
    async with asyncio.timeout(LONG):
        await waiters.wait(transfers[0], LONG)


async def test_a_new_client_causes_a_read_even_without_a_commit(
    waiters: Waiters, peek: Watched, database: Database, bank: builders.Bank
) -> None:
    ended, pending = submit(database, bank), []
    builders.settle_all(database)
    pending = submit(database, bank)
    first = start(waiters, pending)
    await until(lambda: peek.looks == 1)
    async with asyncio.timeout(LONG):
        await waiters.wait(ended[0], LONG)
    assert not first[0].done()


async def test_several_clients_can_wait_for_one_transfer_and_leave_one_by_one(
    waiters: Waiters, database: Database, bank: builders.Bank
) -> None:
    (transfer,) = submit(database, bank)
    patient = start(waiters, [transfer] * 3)
    await waiters.wait(transfer, 0.01)
    (gone,) = start(waiters, [transfer])
    await asyncio.sleep(0)
    gone.cancel()
    builders.settle_all(database)
    async with asyncio.timeout(LONG):
        await asyncio.gather(*patient)
    assert gone.cancelled()


async def test_a_wait_for_a_transfer_that_never_ends_times_out(
    waiters: Waiters, database: Database, bank: builders.Bank
) -> None:
    async with asyncio.timeout(LONG):
        await waiters.wait(submit(database, bank)[0], 0.02)
        await waiters.wait(uuid4(), 0.02)
        await waiters.wait(uuid4(), 0)


async def test_a_release_ends_all_waits_and_allows_no_new_ones(
    waiters: Waiters, database: Database, bank: builders.Bank
) -> None:
    transfers = submit(database, bank, 10)
    waiting = start(waiters, transfers)
    await asyncio.sleep(0)
    waiters.release()
    async with asyncio.timeout(LONG):
        await asyncio.gather(*waiting)
        await waiters.wait(transfers[0], LONG)


async def test_nothing_runs_while_no_client_waits(
    waiters: Waiters, peek: Watched, database: Database, bank: builders.Bank
) -> None:
    before = asyncio.all_tasks()
    await waiters.wait(submit(database, bank)[0], 0.01)
    await until(lambda: asyncio.all_tasks() == before)
    asked = peek.versions
    builders.settle_all(database)
    await asyncio.sleep(0.02)
    assert peek.versions == asked


async def test_a_failed_read_ends_no_wait_and_later_reads_continue(
    waiters: Waiters, peek: Watched, database: Database, bank: builders.Bank
) -> None:
    def fail() -> None:
        raise OSError("disk I/O error")

    peek.before_version = fail
    (transfer,) = submit(database, bank)
    (waiting,) = start(waiters, [transfer])
    builders.settle_all(database)
    await until(lambda: peek.versions >= 3)
    assert not waiting.done()
    peek.before_version = lambda: None
    async with asyncio.timeout(LONG):
        await waiting


async def test_a_failed_read_is_repeated_even_without_a_commit(
    waiters: Waiters, peek: Watched, database: Database, bank: builders.Bank
) -> None:
    def fail() -> None:
        raise OSError("disk I/O error")

    (transfer,) = submit(database, bank)
    builders.settle_all(database)
    peek.after_look = once(fail)
    async with asyncio.timeout(LONG / 2):
        await waiters.wait(transfer, LONG)


async def test_stopping_ends_all_waits_and_the_task(waiters: Waiters, database: Database, bank: builders.Bank) -> None:
    before = asyncio.all_tasks()
    waiting = start(waiters, submit(database, bank, 3))
    await asyncio.sleep(0)
    await waiters.stop()
    async with asyncio.timeout(LONG):
        await asyncio.gather(*waiting)
    assert asyncio.all_tasks() == before
