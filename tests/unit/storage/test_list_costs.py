"""The costs of pages of transfers in a large ledger, in steps of SQLite's virtual machine, which are exact."""

import shutil
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import to_us
from core.domain.batches import MAX_BATCH
from core.domain.transfers import TransferStatus
from core.ids import NEWEST
from core.services import accounts
from core.services.identity import operators
from core.services.transfers.listing import TransferFilter, list_for_user
from core.settings import Settings
from core.storage.sqlite.engine import Database
from tests.builders import Person, rows
from tests.unit.storage.large_ledger import (
    ACCOUNTS,
    BATCH_ID,
    CANCELLED_AHEAD,
    IDLE,
    SETTLED,
    TRANSFERS,
    WAITING_BATCH_ID,
    LargeLedger,
    Whole,
    moment,
)

FOR_AN_ACCOUNT = 250
"""Steps for each account whose chains are read from their newer ends."""
TO_A_PLACE_IN_A_CHAIN = 64 * 40
"""Steps to find a place in the middle: the links between two waypoints, and some more."""
FOR_A_TRANSFER = 350
"""Steps for a row of the page, and for the links that are read in vain while chains are merged."""
FOR_A_PAGE = 20_000
"""Includes the search for the beginning of a time span. Also, a waypoint can be ten times as far away as usual."""
FOR_A_CANCELLED = 70
"""Steps for a transfer that was cancelled since the oldest pending one, when pending ones are searched."""
MOST_STATEMENTS = 5
"""For a page: each takes a tenth of a millisecond. Two are usual, one more for an account and two more for times."""
FOR_A_LINE = 20
"""Steps for a transfer of a batch."""

NOTHING = {"created_from": 150, "created_to": 155}
DEEP = {"created_from": 50_000, "created_to": 52_000}


@pytest.fixture(scope="module")
def laid_down(template_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LargeLedger]:
    folder = tmp_path_factory.mktemp("large")
    shutil.copyfile(template_database, folder / "banking.db")
    database = Database(Settings(_env_file=None, data_dir=folder))
    yield LargeLedger(database)
    database.close()


@pytest.fixture
async def ledger(laid_down: LargeLedger) -> AsyncIterator[LargeLedger]:
    yield laid_down
    await laid_down.database.async_reader.dispose()


@contextmanager
def counted(database: Database) -> Iterator[list[int]]:
    """Count the statements that sessions run in the meantime, and their steps, by running each one again.

    The list has the steps and the statements.
    """
    run: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        run.append((statement, parameters))

    engine = database.async_reader.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    total = [0, 0]
    yield total
    event.remove(engine, "before_cursor_execute", note)
    total[1] = len(run)

    def step() -> None:
        total[0] += 1

    with closing(sqlite3.connect(database.path)) as raw:
        raw.set_progress_handler(step, 1)
        for statement, parameters in run:
            raw.execute(statement, parameters).fetchall()


def most(*, accounts: int, limit: int, from_the_middle: bool) -> int:
    """The maximum of steps for a page. It does not depend on the number of transfers."""
    for_each = FOR_AN_ACCOUNT + (TO_A_PLACE_IN_A_CHAIN if from_the_middle else 0)
    return FOR_A_PAGE + for_each * accounts + FOR_A_TRANSFER * limit


async def page(
    ledger: LargeLedger, person: Person, wanted: TransferFilter, *, limit: int, below: int = NEWEST, offset: int = 0
) -> tuple[list[int], int | None, int]:
    """Read a page: its sequences, the beginning of the next page, and the steps that it took."""
    with counted(ledger.database) as steps:
        async with AsyncSession(ledger.database.async_reader) as session:
            found = await list_for_user(
                session, user_id=person.id, wanted=wanted, below=below, offset=offset, limit=limit
            )
    assert steps[1] <= MOST_STATEMENTS
    return [item.sequence for item in found.items], found.next, steps[0]


def passes(transfer: Whole, wanted: TransferFilter) -> bool:
    """Return whether a transfer passes the filters for its status and its time."""
    return (
        wanted.status in (None, transfer.status)
        and (wanted.created_from is None or transfer.created_at >= to_us(wanted.created_from))
        and (wanted.created_to is None or transfer.created_at < to_us(wanted.created_to))
    )


def expected(ledger: LargeLedger, person: Person, wanted: TransferFilter, limit: int) -> list[int]:
    """Compute a page by a scan of the whole table."""
    whole = ledger.list_of(person.id, wanted.account_id)
    return list(islice((transfer.id for transfer in whole if passes(transfer, wanted)), limit))


# --- a user's lists ----------------------------------------------------------------------------------------------


def reader_named(ledger: LargeLedger, name: str) -> tuple[Person, UUID | None, int]:
    """Return whose list it is, the one account that it is filtered by, and the number of its accounts."""
    found: dict[str, tuple[Person, UUID | None, int]] = {
        "as many accounts as a user can have": (ledger.ada, None, ACCOUNTS),
        "one of many accounts": (ledger.ada, ledger.accounts[7], 1),
        "one account": (ledger.bob, None, 1),
        "a busy account and idle ones": (ledger.cid, None, IDLE),
        "an idle account": (ledger.cid, ledger.idle, 1),
        "an account with cancelled transfers only": (ledger.cid, ledger.useless, 1),
    }
    return found[name]


READERS = [
    "one of many accounts",
    "one account",
    "a busy account and idle ones",
    "an idle account",
    "an account with cancelled transfers only",
]
MOST_ACCOUNTS = "as many accounts as a user can have"
SPANS: dict[str, dict[str, int]] = {
    "all": {},
    "before a waiting one": {"created_to": SETTLED + 10_000},
    "in the middle": {"created_to": 60_000},
    "at the beginning": {"created_to": 200},
    "deep in the past": DEEP,
    "of a moment": NOTHING,
    "of the future": {"created_from": TRANSFERS + 10},
}


@pytest.mark.parametrize("span", SPANS)
@pytest.mark.parametrize("status", [None, *TransferStatus])
@pytest.mark.parametrize("reader", READERS)
async def test_a_page_is_full_and_takes_few_steps_at_any_beginning(
    ledger: LargeLedger, reader: str, status: TransferStatus | None, span: str
) -> None:
    for limit in (1, 50):
        await page_takes_few_steps(ledger, reader, status, span, limit=limit)


@pytest.mark.parametrize("span", ["all", "before a waiting one", "deep in the past"])
@pytest.mark.parametrize("status", [None, *TransferStatus])
async def test_a_page_takes_few_steps_for_each_of_many_accounts(
    ledger: LargeLedger, status: TransferStatus | None, span: str
) -> None:
    await page_takes_few_steps(ledger, MOST_ACCOUNTS, status, span, limit=50)


async def page_takes_few_steps(
    ledger: LargeLedger, reader: str, status: TransferStatus | None, span: str, *, limit: int
) -> None:
    person, account, among = reader_named(ledger, reader)
    times = {name: moment(sequence) for name, sequence in SPANS[span].items()}
    wanted = TransferFilter(status=status, account_id=account, **times)
    chained = status not in (TransferStatus.FAILED, TransferStatus.CANCELLED)
    # Where nothing is pending, nothing is searched.
    is_searched = status is TransferStatus.PENDING and person is ledger.cid and account is None
    searched = FOR_A_CANCELLED * CANCELLED_AHEAD if is_searched else 0
    items, following, steps = await page(ledger, person, wanted, limit=limit)
    whole = expected(ledger, person, wanted, 2 * limit)
    assert items == whole[:limit]
    from_the_middle = chained and "created_to" in times
    assert steps <= most(accounts=among, limit=limit, from_the_middle=from_the_middle) + searched
    if not following:
        assert len(whole) <= limit
        return
    items, _, steps = await page(ledger, person, wanted, limit=limit, below=following)
    assert items == whole[limit:]
    # A cursor holds one number. Each page finds the places of its accounts by their waypoints.
    assert steps <= most(accounts=among, limit=limit, from_the_middle=chained) + searched


@pytest.mark.parametrize("offset", [1000, 10_000])
async def test_an_offset_costs_as_much_as_the_transfers_that_it_skips(ledger: LargeLedger, offset: int) -> None:
    for person, among in ((ledger.bob, 1), (ledger.cid, IDLE), (ledger.ada, ACCOUNTS)):
        wanted = TransferFilter(status=TransferStatus.COMPLETED)
        items, _, steps = await page(ledger, person, wanted, limit=10, offset=offset)
        assert items == expected(ledger, person, wanted, offset + 10)[offset:]
        assert steps <= most(accounts=among, limit=offset + 10, from_the_middle=False)


@pytest.mark.parametrize("account", [False, True])
@pytest.mark.parametrize("span", ["all", "in the middle"])
@pytest.mark.parametrize("status", [None, *TransferStatus])
@pytest.mark.parametrize(("batch", "first"), [(BATCH_ID, 40_000), (WAITING_BATCH_ID, SETTLED + 1), (UUID(int=1), 0)])
async def test_a_batch_is_searched_at_most_once(
    ledger: LargeLedger, batch: UUID, first: int, status: TransferStatus | None, span: str, account: bool
) -> None:
    chosen = ledger.accounts[7] if account else None
    times = {"created_to": moment(first + 3000)} if span == "in the middle" else {}
    wanted = TransferFilter(status=status, batch_id=batch, account_id=chosen, **times)
    items, _, steps = await page(ledger, ledger.ada, wanted, limit=50)
    whole = [
        transfer.id
        for transfer in ledger.transfers
        if first
        and first <= transfer.id < first + 5000
        and passes(transfer, wanted)
        and (chosen is None or chosen in (ledger.owners[side][1] for side in transfer[2:4]))
    ]
    assert items == whole[:50]
    assert steps <= most(accounts=1, limit=50, from_the_middle=False) + FOR_A_LINE * MAX_BATCH


@pytest.mark.parametrize("status", [None, *TransferStatus])
@pytest.mark.parametrize("key", ["key-1000", "key-0"])
async def test_a_key_is_found_by_an_index_under_all_other_filters(
    ledger: LargeLedger, key: str, status: TransferStatus | None
) -> None:
    for more in ({}, DEEP, {"account_id": ledger.accounts[7]}, {"batch_id": BATCH_ID}):
        filters = {name: moment(value) if isinstance(value, int) else value for name, value in more.items()}
        wanted = TransferFilter(idempotency_key=key, status=status, **filters)
        items, _, steps = await page(ledger, ledger.ada, wanted, limit=50)
        assert items == ([1000] if key == "key-1000" and status in (None, "completed") and not more else [])
        assert steps <= FOR_A_PAGE


# --- lists of operators, and transactions of an account ---


@pytest.mark.parametrize("below", [NEWEST, SETTLED + 10_000, 60_000, 150])
@pytest.mark.parametrize("status", [None, *TransferStatus])
async def test_an_operators_page_is_full_and_takes_few_steps(
    ledger: LargeLedger, status: TransferStatus | None, below: int
) -> None:
    for offset in (0, 1000):
        with counted(ledger.database) as steps:
            async with AsyncSession(ledger.database.async_reader) as session:
                found, _ = await operators.list_transfers(session, status=status, below=below, offset=offset, limit=50)
        whole = (item.id for item in ledger.transfers if item.id < below and status in (None, item.status))
        assert [item.sequence for item in found] == list(islice(whole, offset, offset + 50))
        assert steps[0] <= FOR_A_PAGE + FOR_A_TRANSFER * 50 + FOR_A_LINE * offset


@pytest.mark.parametrize("offset", [0, 1000])
@pytest.mark.parametrize("start", [None, 60_002])
async def test_a_page_of_an_accounts_transactions_takes_few_steps_at_any_cursor(
    ledger: LargeLedger, start: int | None, offset: int
) -> None:
    async with AsyncSession(ledger.database.async_reader) as session:
        account = await accounts.get(session, user_id=ledger.bob.id, account_id=ledger.bobs)
        query = "SELECT id FROM transactions WHERE account_id = ?1 AND id <= ?2 ORDER BY id DESC LIMIT 1050"
        legs = [row["id"] for row in rows(ledger.database, query, account.id, start or NEWEST)]
        with counted(ledger.database) as steps:
            found = await accounts.list_transactions(
                session, account=account, start=start and legs[0], offset=offset, limit=50
            )
    assert [leg.id for leg in found] == legs[offset : offset + 50]
    assert steps[0] <= FOR_A_PAGE + FOR_A_TRANSFER * 50 + FOR_A_LINE * offset
