"""The costs of pages of transfers in a large ledger, in steps of SQLite's virtual machine, which are exact."""

import shutil
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import to_datetime, to_us
from core.domain.batches import MAX_BATCH
from core.domain.transfers import TransferStatus
from core.ids import NEWEST
from core.services import accounts
from core.services.identity import operators
from core.services.transfers.listing import TransferFilter, list_for_user
from core.settings import Settings
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests.builders import Person, add_user, open_account, rows

TRANSFERS = 100_000
ACCOUNTS = 200
PENDING = 20_000
"""The newest transfers, which are not settled."""
START = 1_700_000_000_000_000
"""The time when the first one was accepted, in microseconds; the others follow some milliseconds apart."""

FOR_AN_ACCOUNT = 200
"""Steps for each account whose chain is read from its newer end."""
TO_A_PLACE_IN_A_CHAIN = 64 * 40
"""Steps to find a place in the middle: the links between two waypoints, and some more."""
FOR_A_TRANSFER = 300
FOR_A_PAGE = 20_000
"""Includes the search for the beginning of a time span. Also, a waypoint can be ten times as far away as usual."""

# Ada's 200 accounts have row ids from `first` on, and Bob's follows them. Of each ten transfers, four are from Ada to
# Bob, two from Bob to Ada, two between Ada's accounts, and two between accounts of the bank. Few are failed or
# cancelled, and all of those are old; of the pending ones, one in a hundred is cancelled.
LAY_DOWN = """
    WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {transfers}),
    sides (n, payer, payee) AS (
        SELECT n,
            CASE WHEN n % 10 < 4 OR n % 10 IN (6, 7) THEN {first} + n * 7 % {accounts}
                WHEN n % 10 < 6 THEN {bob} ELSE {others} END,
            CASE WHEN n % 10 < 4 THEN {bob} WHEN n % 10 < 6 THEN {first} + n * 13 % {accounts}
                WHEN n % 10 < 8 THEN {first} + (n * 7 + 1) % {accounts} ELSE {others} + 1 END
        FROM numbers
    ),
    endings (n, payer, payee, status) AS (
        SELECT n, payer, payee, CASE
            WHEN n > {transfers} - {pending} THEN iif(n % 100 = 7, 'cancelled', 'pending')
            WHEN n IN (101, 102, 203, 5000) THEN 'failed'
            WHEN n IN (103, 106, 207, 5001) THEN 'cancelled'
            ELSE 'completed' END
        FROM sides
    )
    INSERT INTO transfers (id, public_id, kind, status, from_account_id, to_account_id, amount, currency, submitted_by,
        request_id, idempotency_key, fingerprint, answer_version, previous_id, created_at, settled_at, failure_code)
    SELECT n, randomblob(16), 'transfer', status, payer, payee, 1, 'USD', {ada}, 'r',
        iif(n % 5 = 0, 'key-' || n, NULL), iif(n % 5 = 0, x'00', NULL), 1,
        lag(n) OVER (PARTITION BY payer ORDER BY n), {start} + n * 1000 + n * n % 997,
        iif(status = 'pending', NULL, {start} + n * 1000 + n * n % 997), iif(status = 'failed', 'account_frozen', NULL)
    FROM endings ORDER BY n
"""
POST = """
    INSERT INTO transactions (id, transfer_id, account_id, amount, balance_after, posted_at, previous_id)
    SELECT leg, transfer, account, amount, 0, posted_at, lag(leg) OVER (PARTITION BY account ORDER BY leg) FROM (
        SELECT row_number() OVER (ORDER BY t.id, side.amount) AS leg, t.id AS transfer, side.amount,
            iif(side.amount < 0, t.from_account_id, t.to_account_id) AS account, t.settled_at AS posted_at
        FROM transfers t CROSS JOIN (SELECT -1 AS amount UNION ALL SELECT 1) side WHERE t.status = 'completed'
    ) ORDER BY leg
"""
LINK = """
    UPDATE accounts SET last_transfer_id = (SELECT max(id) FROM transfers WHERE from_account_id = accounts.id),
        last_transaction_id = (SELECT max(id) FROM transactions WHERE account_id = accounts.id)
"""
BATCH = (
    "INSERT INTO batches (id, public_id, mode, transfer_count, refused, answer_version) "
    "VALUES (40000, x'00112233445566778899aabbccddeeff', 'independent', 5000, '[]', 1)"
)
BATCH_ID = UUID("00112233-4455-6677-8899-aabbccddeeff")


class Ledger:
    """A hundred thousand transfers, written by SQL in the state in which the services would have left them."""

    def __init__(self, database: Database) -> None:
        self.database = database
        with unit_of_work(database) as connection:
            self.ada, self.bob, others = (add_user(connection) for _ in range(3))
            self.accounts = [open_account(connection, self.ada) for _ in range(ACCOUNTS)]
            for person in (self.bob, others, others):
                open_account(connection, person)
            query = "SELECT min(id) FROM accounts WHERE owner_id = ?"
            first = connection.exec_driver_sql(query, (self.ada.id,)).scalar_one()
            values = {"transfers": TRANSFERS, "pending": PENDING, "accounts": ACCOUNTS, "start": START}
            sides = {"first": first, "bob": first + ACCOUNTS, "others": first + ACCOUNTS + 1, "ada": self.ada.id}
            connection.exec_driver_sql(LAY_DOWN.format(**values, **sides))
            connection.exec_driver_sql(POST)
            connection.exec_driver_sql(LINK)
            connection.exec_driver_sql(BATCH)


@pytest.fixture(scope="module")
def laid_down(template_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    folder = tmp_path_factory.mktemp("large")
    shutil.copyfile(template_database, folder / "banking.db")
    database = Database(Settings(_env_file=None, data_dir=folder))
    yield Ledger(database)
    database.close()


@pytest.fixture
async def ledger(laid_down: Ledger) -> AsyncIterator[Ledger]:
    yield laid_down
    await laid_down.database.async_reader.dispose()


@contextmanager
def counted(database: Database) -> Iterator[list[int]]:
    """Count the steps of the statements that sessions run in the meantime, by running each one again."""
    run: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        run.append((statement, parameters))

    engine = database.async_reader.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    total = [0]
    yield total
    event.remove(engine, "before_cursor_execute", note)

    def step() -> None:
        total[0] += 1

    with closing(sqlite3.connect(database.path)) as raw:
        raw.set_progress_handler(step, 1)
        for statement, parameters in run:
            raw.execute(statement, parameters).fetchall()


def moment(sequence: int) -> Any:
    """A time after the previous transfer was accepted, and not after this one was."""
    return to_datetime(START + sequence * 1000)


def most(*, accounts: int, limit: int, from_the_middle: bool) -> int:
    """The maximum of steps for a page. It does not depend on the number of transfers."""
    for_each = FOR_AN_ACCOUNT + (TO_A_PLACE_IN_A_CHAIN if from_the_middle else 0)
    return FOR_A_PAGE + for_each * accounts + FOR_A_TRANSFER * limit


async def page(
    ledger: Ledger, person: Person, wanted: TransferFilter, *, limit: int, below: int = NEWEST, offset: int = 0
) -> tuple[list[int], int | None, int]:
    """Read a page: its sequences, the beginning of the next page, and the steps that it took."""
    with counted(ledger.database) as steps:
        async with AsyncSession(ledger.database.async_reader) as session:
            found = await list_for_user(
                session, user_id=person.id, wanted=wanted, below=below, offset=offset, limit=limit
            )
    return [item.sequence for item in found.items], found.next, steps[0]


def expected(ledger: Ledger, person: Person, wanted: TransferFilter, limit: int) -> list[int]:
    """Compute a page by a scan of the whole table."""
    account = wanted.account_id and wanted.account_id.bytes
    query = """
        SELECT t.id FROM transfers t
        JOIN accounts p ON p.id = t.from_account_id JOIN accounts q ON q.id = t.to_account_id
        WHERE (p.owner_id = ?1 AND (?2 IS NULL OR p.public_id = ?2)
            OR q.owner_id = ?1 AND (?2 IS NULL OR q.public_id = ?2) AND t.status = 'completed')
        AND (?3 IS NULL OR t.status = ?3) AND t.created_at >= ?4 AND t.created_at < ?5 ORDER BY t.id DESC LIMIT ?6
    """
    since, until = to_us(wanted.created_from or moment(0)), to_us(wanted.created_to or moment(TRANSFERS + 1))
    status = wanted.status and wanted.status.value
    return [row["id"] for row in rows(ledger.database, query, person.id, account, status, since, until, limit)]


# --- a user's lists ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 100])
@pytest.mark.parametrize("created_to", [None, 90_000, 50_000, 200])
@pytest.mark.parametrize("status", [None, *TransferStatus])
async def test_a_page_is_full_and_takes_few_steps_at_any_beginning(
    ledger: Ledger, status: TransferStatus | None, created_to: int | None, limit: int
) -> None:
    chained = status not in (TransferStatus.FAILED, TransferStatus.CANCELLED)
    for person, account, among in (
        (ledger.ada, None, ACCOUNTS),
        (ledger.ada, ledger.accounts[7], 1),
        (ledger.bob, None, 1),
    ):
        wanted = TransferFilter(
            status=status,
            account_id=account,
            created_from=moment(150),
            created_to=None if created_to is None else moment(created_to),
        )
        items, following, steps = await page(ledger, person, wanted, limit=limit)
        whole = expected(ledger, person, wanted, 2 * limit)
        assert items == whole[:limit]
        from_the_middle = chained and created_to is not None
        assert steps <= most(accounts=among, limit=limit, from_the_middle=from_the_middle)
        if following:
            items, _, steps = await page(ledger, person, wanted, limit=limit, below=following)
            assert items == whole[limit:]
            # A cursor holds one number. Each page finds the places of its accounts by their waypoints.
            assert steps <= most(accounts=among, limit=limit, from_the_middle=chained)


async def test_an_offset_costs_as_much_as_the_transfers_that_it_skips(ledger: Ledger) -> None:
    wanted = TransferFilter(status=TransferStatus.COMPLETED)
    items, _, steps = await page(ledger, ledger.bob, wanted, limit=10, offset=1000)
    assert items == expected(ledger, ledger.bob, wanted, 1010)[1000:]
    assert steps <= most(accounts=1, limit=1010, from_the_middle=False)


@pytest.mark.parametrize("status", [None, TransferStatus.COMPLETED, TransferStatus.PENDING])
async def test_a_batch_is_searched_at_most_once(ledger: Ledger, status: TransferStatus | None) -> None:
    wanted = TransferFilter(status=status, batch_id=BATCH_ID, account_id=ledger.accounts[7])
    items, _, steps = await page(ledger, ledger.ada, wanted, limit=100)
    assert (items == []) == (status is TransferStatus.PENDING)
    assert steps <= most(accounts=1, limit=100, from_the_middle=False) + 20 * MAX_BATCH


async def test_a_key_is_found_by_an_index(ledger: Ledger) -> None:
    items, _, steps = await page(ledger, ledger.ada, TransferFilter(idempotency_key="key-1000"), limit=1000)
    assert items == [1000]
    assert steps <= FOR_A_PAGE


# --- lists of operators, and transactions of an account ---


@pytest.mark.parametrize("below", [NEWEST, 90_000, 50_000, 150])
@pytest.mark.parametrize("status", [None, *TransferStatus])
async def test_an_operators_page_is_full_and_takes_few_steps(
    ledger: Ledger, status: TransferStatus | None, below: int
) -> None:
    with counted(ledger.database) as steps:
        async with AsyncSession(ledger.database.async_reader) as session:
            found, _ = await operators.list_transfers(session, status=status, below=below, offset=0, limit=50)
    query = "SELECT id FROM transfers WHERE id < ?1 AND (?2 IS NULL OR status = ?2) ORDER BY id DESC LIMIT 50"
    assert [item.sequence for item in found] == [row["id"] for row in rows(ledger.database, query, below, status)]
    assert steps[0] <= FOR_A_PAGE + FOR_A_TRANSFER * 50


async def test_a_page_of_an_accounts_transactions_takes_few_steps_at_any_cursor(ledger: Ledger) -> None:
    for start in (None, 80_002):
        async with AsyncSession(ledger.database.async_reader) as session:
            account = await accounts.get(session, user_id=ledger.ada.id, account_id=ledger.accounts[7])
            query = "SELECT id FROM transactions WHERE account_id = ?1 AND id <= ?2 ORDER BY id DESC LIMIT 50"
            legs = [row["id"] for row in rows(ledger.database, query, account.id, start or NEWEST)]
            with counted(ledger.database) as steps:
                found = await accounts.list_transactions(
                    session, account=account, start=start and legs[0], offset=0, limit=50
                )
        assert [leg.id for leg in found] == legs
        assert steps[0] <= FOR_A_PAGE + FOR_A_TRANSFER * 50
