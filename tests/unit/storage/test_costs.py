"""The costs of transfers in exact counts: statements, and bytes of the write-ahead log."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event

from core.domain.batches import BatchMode, BatchRequest
from core.services.transfers import batches
from core.storage.sql import TOGETHER
from core.storage.sqlite.engine import Database
from core.storage.sqlite.upkeep import checkpoint
from core.storage.unit_of_work import unit_of_work
from tests.builders import BOUNDS, Person, accept, add_user, deposit_request, open_account, settle_all, transfer_request

ACCOUNTS = 200
MANY = 1000


class Ledger:
    """A ledger with many accounts of one person, and transfers between them in a fixed pattern."""

    def __init__(self, database: Database) -> None:
        self.database = database
        with unit_of_work(database) as connection:
            self.owner: Person = add_user(connection)
            self.accounts = [open_account(connection, self.owner) for _ in range(ACCOUNTS)]
        accept(database, *(deposit_request(account, 1_000_000) for account in self.accounts))
        settle_all(database)

    def orders(self, count: int, keys: str | None = None) -> list[Any]:
        return [
            transfer_request(
                submitted_by=self.owner.id,
                payer=self.accounts[number * 7 % ACCOUNTS],
                payee=self.accounts[(number * 13 + 1) % ACCOUNTS],
                amount=number % 100 + 1,
                description="an invoice of some length",
                idempotency_key=keys and f"{keys}-{number}",
            )
            for number in range(count)
            if number * 7 % ACCOUNTS != (number * 13 + 1) % ACCOUNTS
        ]


@pytest.fixture
def ledger(database: Database) -> Ledger:
    return Ledger(database)


@contextmanager
def statements(database: Database) -> Iterator[list[str]]:
    """Each statement that writers run in the meantime; a statement with many rows counts once."""
    run: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        run.append(statement)

    event.listen(database.writer, "before_cursor_execute", note)
    yield run
    event.remove(database.writer, "before_cursor_execute", note)


def wal_bytes(database: Database) -> int:
    return database.path.with_name(f"{database.path.name}-wal").stat().st_size


@contextmanager
def log_of(database: Database) -> Iterator[list[int]]:
    """The bytes that are meanwhile appended to an empty write-ahead log."""
    checkpoint(database)
    size: list[int] = []
    yield size
    size.append(wal_bytes(database))


@pytest.mark.parametrize("count", [1, 2, 200])
def test_a_group_is_accepted_with_as_many_statements_as_a_single_transfer(ledger: Ledger, count: int) -> None:
    with statements(ledger.database) as run:
        accept(ledger.database, *ledger.orders(count, "one"))
    assert len(run) <= 7 + count // TOGETHER, run


@pytest.mark.parametrize("mode", BatchMode)
def test_a_batch_is_accepted_with_a_few_statements(ledger: Ledger, mode: BatchMode) -> None:
    orders = ledger.orders(MANY)
    request = BatchRequest(
        mode=mode, submitted_by=ledger.owner.id, transfers=orders, idempotency_key="k", fingerprint=b"f"
    )
    with statements(ledger.database) as run, unit_of_work(ledger.database) as connection:
        batches.accept(connection, request, BOUNDS)
    assert len(run) <= 9 + MANY // TOGETHER, run


@pytest.mark.parametrize(("count", "most"), [(1, 18), (100, 18), (MANY, 35)])
def test_settling_runs_a_few_statements_for_each_chunk(ledger: Ledger, count: int, most: int) -> None:
    accept(ledger.database, *ledger.orders(count))
    with statements(ledger.database) as run:
        settle_all(ledger.database)
    assert len(run) <= most + 2 * count // TOGETHER, run


@pytest.mark.parametrize(("what", "most"), [("accepted alone", 270), ("accepted in a batch", 240), ("settled", 280)])
def test_a_transfer_in_a_large_group_writes_few_bytes_to_the_log(ledger: Ledger, what: str, most: int) -> None:
    orders = ledger.orders(MANY, "k" if what == "accepted alone" else None)
    if what == "settled":
        accept(ledger.database, *orders)
    with log_of(ledger.database) as size:
        if what == "settled":
            settle_all(ledger.database)
        elif what == "accepted alone":
            accept(ledger.database, *orders)
        else:
            request = BatchRequest(
                mode=BatchMode.ATOMIC,
                submitted_by=ledger.owner.id,
                transfers=orders,
                idempotency_key="k",
                fingerprint=b"f",
            )
            with unit_of_work(ledger.database) as connection:
                batches.accept(connection, request, BOUNDS)
    assert size[0] / len(orders) <= most
