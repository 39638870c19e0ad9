"""Settlement of batches: never split by the limits of a unit of work, and consistent with their transfers."""

import itertools

import pytest

from core.domain.accounts import AccountError
from core.domain.batches import AcceptedBatch, BatchMode, BatchRequest
from core.domain.errors import Part, Refusal
from core.domain.transfers import TransferRequest
from core.services.transfers import batches
from core.services.transfers.settlement import FIRST_CHUNK, settle_pending
from core.services.verification import verify
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests.builders import (
    BOUNDS,
    WHOLE_TRANSFERS,
    Bank,
    accept,
    balance_of,
    freeze,
    from_ada_to_bob,
    ledger,
    open_account,
    reserved_of,
    rows,
    settle_all,
)
from tests.tampering import tamper

pytestmark = pytest.mark.funded(ada_has=100_000)

_keys = itertools.count()


def submit(
    database: Database, bank: Bank, count: int, mode: BatchMode = BatchMode.ATOMIC, *more: TransferRequest
) -> AcceptedBatch:
    request = BatchRequest(
        mode=mode,
        submitted_by=bank.ada.id,
        transfers=[from_ada_to_bob(bank, 1) for _ in range(count)] + list(more),
        idempotency_key=f"batch-{next(_keys)}",
        fingerprint=b"a fingerprint",
    )
    with unit_of_work(database) as connection:
        return batches.accept(connection, request, BOUNDS)


def times_of_ending(database: Database, batch: AcceptedBatch) -> set[int | None]:
    query = f"SELECT settled_at FROM {WHOLE_TRANSFERS} WHERE id BETWEEN ? AND ?"
    last = batch.first_sequence + len(batch.lines) - 1
    return {row["settled_at"] for row in rows(database, query, batch.first_sequence, last)}


@pytest.mark.parametrize("limit", [1, 3, 4, 9, 10, 11, 5000])
@pytest.mark.parametrize("before", [0, 3])
def test_an_atomic_batch_is_never_split_between_units_of_work(
    database: Database, bank: Bank, limit: int, before: int
) -> None:
    accept(database, *(from_ada_to_bob(bank) for _ in range(before)))
    sent = [submit(database, bank, count) for count in (9, 1, 5)]
    assert settle_pending(database, batch=limit, lock_ms=1000) == before + 15
    assert [len(times_of_ending(database, batch)) for batch in sent] == [1, 1, 1]
    assert verify(database).holds


def test_an_atomic_batch_is_never_split_between_chunks_even_if_a_writer_waits(database: Database, bank: Bank) -> None:
    accept(database, *(from_ada_to_bob(bank, 1) for _ in range(FIRST_CHUNK - 3)))
    sent = submit(database, bank, 600)
    assert settle_pending(database, batch=5000, lock_ms=0) == FIRST_CHUNK - 3 + 600
    assert len(times_of_ending(database, sent)) == 1


def test_a_failed_batch_does_not_affect_transfers_around_it(database: Database, bank: Bank) -> None:
    accept(database, from_ada_to_bob(bank, 7))
    with unit_of_work(database) as connection:
        other = open_account(connection, bank.bob)
    to_other = from_ada_to_bob(bank, 2)._replace(payee=other)
    failing = submit(database, bank, 2, BatchMode.ATOMIC, to_other, from_ada_to_bob(bank, 3))
    good = submit(database, bank, 2)
    freeze(database, other)
    settle_all(database)
    query = f"SELECT status, failure_code FROM {WHOLE_TRANSFERS} WHERE kind = 'transfer' ORDER BY id"
    assert [tuple(row.values()) for row in rows(database, query)] == [
        ("completed", None),
        ("failed", "batch_failed"),
        ("failed", "batch_failed"),
        ("failed", "payee_frozen"),
        ("failed", "batch_failed"),
        ("completed", None),
        ("completed", None),
    ]
    query = "SELECT id, failed_index FROM batches ORDER BY id"
    assert [tuple(row.values()) for row in rows(database, query)] == [
        (failing.first_sequence, 2),
        (good.first_sequence, None),
    ]
    assert balance_of(database, bank.ada_account) == 100_000 - 9
    assert reserved_of(database, bank.ada_account) == 0


def test_a_rejected_atomic_batch_records_nothing(database: Database, bank: Bank) -> None:
    before = ledger(database)
    with pytest.raises(Refusal) as refusal:
        submit(
            database,
            bank,
            3,
            BatchMode.ATOMIC,
            from_ada_to_bob(bank)._replace(payer=bank.bob_account, payee=bank.ada_account),
        )
    assert (refusal.value.code, refusal.value.line, refusal.value.about) == (
        AccountError.NOT_FOUND,
        3,
        Part.PAYER,
    )
    assert ledger(database) == before


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE batches SET failed_index = 1",
        "UPDATE batches SET transfer_count = 4",
        "UPDATE batches SET id = 1",
        "INSERT INTO batches SELECT 3, x'00', 'independent', 1, '[]', 1, NULL",
    ],
)
def test_a_batch_that_contradicts_its_transfers_is_found(database: Database, bank: Bank, change: str) -> None:
    submit(database, bank, 3)
    settle_all(database)
    assert verify(database).holds
    tamper(database, change)
    assert "batch_is_whole" in verify(database).counts


@pytest.mark.parametrize("failed_index", ["0", "NULL"])
def test_a_failed_batch_that_names_the_wrong_line_is_found(database: Database, bank: Bank, failed_index: str) -> None:
    sent = submit(database, bank, 3)
    freeze(database, bank.ada_account)
    settle_all(database)
    assert rows(database, "SELECT failed_index FROM batches WHERE id = ?", sent.first_sequence)[0]["failed_index"] == 0
    assert verify(database).holds
    tamper(database, f"UPDATE batches SET failed_index = {failed_index} + 1")
    assert verify(database).counts.keys() == {"batch_is_whole"}


def test_failed_transfers_of_a_missing_batch_are_found(database: Database, bank: Bank) -> None:
    submit(database, bank, 3)
    freeze(database, bank.ada_account)
    settle_all(database)
    assert verify(database).holds
    tamper(database, "DELETE FROM batches")
    assert verify(database).counts == {"batch_is_whole": 2}
