"""Random ledgers under random filters: the pages of a list add up to the filter over the whole ledger."""

import random
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import to_datetime
from core.domain.batches import BatchMode, BatchRequest
from core.domain.errors import Refusal
from core.domain.transfers import TransferStatus
from core.ids import NEWEST, new_id
from core.services.identity import operators
from core.services.transfers import batches, cancelling
from core.services.transfers.listing import TransferFilter, list_for_user
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests.builders import (
    BOUNDS,
    WHOLE_TRANSFERS,
    Person,
    accept,
    add_user,
    deposit_request,
    freeze,
    fund,
    open_account,
    rows,
    set_account,
    settle_all,
    transfer_request,
    withdrawal_request,
)
from tests.thorough import examples

pytestmark = pytest.mark.thorough

ROUNDS = 40
LISTS = 40
PAGES = 12
"""Maximum number of pages of one list, so that a test stays short."""
TICK = timedelta(microseconds=1)


class World:
    """Two people who have sent each other transfers, and every transfer as the table stores it."""

    def __init__(self, database: Database, seed: int) -> None:
        self.database = database
        self.random = random.Random(seed)
        with unit_of_work(database) as connection:
            self.people: list[Person] = [add_user(connection) for _ in range(2)]
            self.owners = {
                open_account(connection, person): person
                for person, count in zip(self.people, (self.random.randint(1, 6), 2), strict=True)
                for _ in range(count)
            }
        self.accounts = list(self.owners)
        self.batches: list[UUID] = [new_id()]
        for account in self.accounts:
            fund(database, account, 500)

    def grow(self) -> None:
        """Do one more random act."""
        act = self.random.choices(
            [self._submit, self._submit_together, self._cancel, self._freeze, self._settle], [8, 2, 3, 1, 2]
        )[0]
        act()

    def leave_pending(self) -> None:
        """Leave some transfers pending for settlement, with cancelled ones among them."""
        for _ in range(3):
            self._submit()
            self._cancel()

    def _order(self, owner: Person | None = None) -> Any:
        payer, payee = self.random.sample(self.accounts, 2)
        while owner and self.owners[payer] is not owner:
            payer, payee = self.random.sample(self.accounts, 2)
        amount = self.random.randint(1, 40)
        kind = self.random.random() if owner is None else 1.0
        if kind < 0.1:
            return deposit_request(payee, amount)
        if kind < 0.2:
            return withdrawal_request(payer, amount)
        key = f"key-{self.random.randint(1, 400)}" if owner is None else None
        return transfer_request(
            submitted_by=self.owners[payer].id, payer=payer, payee=payee, amount=amount, idempotency_key=key
        )

    def _submit(self) -> None:
        accept(self.database, *(self._order() for _ in range(self.random.randint(1, 15))))

    def _submit_together(self) -> None:
        owner = self.random.choice(self.people)
        request = BatchRequest(
            mode=self.random.choice(list(BatchMode)),
            submitted_by=owner.id,
            transfers=[self._order(owner) for _ in range(self.random.randint(1, 12))],
            idempotency_key=str(new_id()),
            fingerprint=b"a fingerprint",
        )
        try:
            with unit_of_work(self.database) as connection:
                batch = batches.accept(connection, request, BOUNDS)
        except Refusal:
            return
        if batch.id:
            self.batches.append(batch.id)

    def _cancel(self) -> None:
        waiting = rows(self.database, f"SELECT public_id, submitted_by FROM {WHOLE_TRANSFERS} WHERE status = 'pending'")
        for row in self.random.sample(waiting, min(len(waiting), self.random.randint(1, 9))):
            try:
                with unit_of_work(self.database) as connection:
                    cancelling.cancel(connection, user_id=row["submitted_by"], transfer_id=UUID(bytes=row["public_id"]))
            except Refusal:
                pass

    def _freeze(self) -> None:
        account = self.random.choice(self.accounts)
        freeze(self.database, account)
        settle_all(self.database)
        set_account(self.database, account, status="active", freeze_scope=None)

    def _settle(self) -> None:
        settle_all(self.database)

    def table(self) -> list[dict[str, Any]]:
        """Read every transfer, newest first, with its owners and its batch."""
        return rows(
            self.database,
            "SELECT t.*, payer.owner_id AS sender, payee.owner_id AS receiver, payer.public_id AS payer, "
            f"payee.public_id AS payee, b.public_id AS batch FROM {WHOLE_TRANSFERS} t "
            "JOIN accounts payer ON payer.id = t.from_account_id JOIN accounts payee ON payee.id = t.to_account_id "
            "LEFT JOIN batches b ON t.id BETWEEN b.id AND b.id + b.transfer_count - 1 ORDER BY t.id DESC",
        )

    def filter(self, person: Person) -> TransferFilter:
        """Draw a filter; its times are within a microsecond of the times of transfers."""
        own = [account for account, owner in self.owners.items() if owner is person]
        times = [to_datetime(row["created_at"]) for row in self.table()]

        def sometimes(chance: float, value: Any) -> Any:
            return value if self.random.random() < chance else None

        def moment() -> Any:
            return self.random.choice(times) + self.random.choice([-TICK, 0 * TICK, TICK])

        return TransferFilter(
            status=sometimes(0.6, self.random.choice(list(TransferStatus))),
            account_id=sometimes(0.4, self.random.choice(own)),
            idempotency_key=sometimes(0.05, f"key-{self.random.randint(1, 400)}"),
            batch_id=sometimes(0.15, self.random.choice(self.batches)),
            created_from=sometimes(0.4, moment()),
            created_to=sometimes(0.4, moment()),
        )


def belongs(row: dict[str, Any], person: Person, wanted: TransferFilter) -> bool:
    """The reference: whether a transfer is in a person's list under a filter."""
    account = wanted.account_id and wanted.account_id.bytes
    if wanted.idempotency_key or wanted.batch_id:
        visible = row["submitted_by"] == person.id and account in (None, row["payer"], row["payee"])
    else:
        sent = row["sender"] == person.id and account in (None, row["payer"])
        received = row["receiver"] == person.id and account in (None, row["payee"])
        visible = sent or (received and row["status"] == "completed")
    return (
        visible
        and wanted.status in (None, row["status"])
        and wanted.idempotency_key in (None, row["idempotency_key"])
        and (wanted.batch_id is None or row["batch"] == wanted.batch_id.bytes)
        and (wanted.created_from is None or to_datetime(row["created_at"]) >= wanted.created_from)
        and (wanted.created_to is None or to_datetime(row["created_at"]) < wanted.created_to)
    )


def expected(world: World, person: Person, wanted: TransferFilter) -> list[int]:
    return [row["id"] for row in world.table() if belongs(row, person, wanted)]


@pytest.fixture(params=range(examples(quick=2, thorough=5)))
def world(database: Database, request: pytest.FixtureRequest) -> World:
    world = World(database, request.param)
    for _ in range(ROUNDS):
        world.grow()
    world.leave_pending()
    return world


class Reader:
    """Reads each page in its own session, and so in its own snapshot."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self, person: Person, wanted: TransferFilter, below: int, limit: int, offset: int = 0
    ) -> tuple[list[int], int | None]:
        async with AsyncSession(self._database.async_reader) as session:
            page = await list_for_user(
                session, user_id=person.id, wanted=wanted, below=below, offset=offset, limit=limit
            )
        return [item.sequence for item in page.items], page.next

    async def operators_page(
        self, status: TransferStatus | None, below: int, limit: int, offset: int = 0
    ) -> tuple[list[int], int | None]:
        async with AsyncSession(self._database.async_reader) as session:
            items, following = await operators.list_transfers(
                session, status=status, below=below, offset=offset, limit=limit
            )
        return [item.sequence for item in items], following


@pytest.fixture
async def reader(world: World) -> AsyncIterator[Reader]:
    yield Reader(world.database)
    await world.database.async_reader.dispose()


async def test_full_pages_add_up_to_the_filter_over_the_whole_ledger(world: World, reader: Reader) -> None:
    for _ in range(LISTS):
        person = world.random.choice(world.people)
        wanted = world.filter(person)
        whole = expected(world, person, wanted)
        limit = world.random.choice([1, 2, 3, 7, 1000]) + len(whole) // PAGES
        offset = world.random.choice([0, 0, 0, 1, len(whole) // 2, len(whole), len(whole) + 1])
        if wanted.idempotency_key:
            offset = min(offset, 1)
        items, following = await reader.page(person, wanted, NEWEST, limit, offset)
        seen = list(items)
        while following:
            assert len(items) == limit, "full unless the list ends"
            items, following = await reader.page(person, wanted, following, limit)
            seen += items
        assert seen == whole[offset:], (wanted, limit, offset)


async def test_a_page_begins_below_any_sequence(world: World, reader: Reader) -> None:
    for _ in range(LISTS):
        person = world.random.choice(world.people)
        wanted = replace(world.filter(person), idempotency_key=None)
        below = world.random.randint(1, len(world.table()) + 1)
        items, _ = await reader.page(person, wanted, below, 10)
        assert items == [sequence for sequence in expected(world, person, wanted) if sequence < below][:10], wanted


async def test_no_transfer_is_lost_or_repeated_while_the_ledger_grows_between_pages(
    world: World, reader: Reader
) -> None:
    for _ in range(LISTS // 4):
        person = world.random.choice(world.people)
        wanted = replace(world.filter(person), idempotency_key=None)
        before = expected(world, person, wanted)
        limit = world.random.choice([1, 3, 10]) + len(before) // PAGES
        seen, following = await reader.page(person, wanted, NEWEST, limit)
        while following:
            for _ in range(world.random.choice([0, 0, 1, 3])):
                world.grow()
            items, following = await reader.page(person, wanted, following, limit)
            seen += items
        after = set(expected(world, person, wanted))
        assert all(newer > older for newer, older in pairwise(seen))
        assert set(seen) >= set(before) & after, (wanted, limit)
        assert set(seen) <= set(before) | after, (wanted, limit)


async def test_an_operators_pages_add_up_to_the_whole_ledger(world: World, reader: Reader) -> None:
    for status in (None, *TransferStatus):
        await operators_list_is_whole(world, reader, status)


async def operators_list_is_whole(world: World, reader: Reader, status: TransferStatus | None) -> None:
    whole = [row["id"] for row in world.table() if status in (None, row["status"])]
    for limit in (1 + len(whole) // PAGES, 1000):
        seen, following = await reader.operators_page(status, NEWEST, limit)
        while following is not None:
            items, following = await reader.operators_page(status, following, limit)
            assert len(items) == limit or following is None
            seen += items
        assert seen == whole
    below = world.random.choice(whole or [1])
    older = [sequence for sequence in whole if sequence < below]
    assert (await reader.operators_page(status, below, 5, offset=2))[0] == older[2:7]
