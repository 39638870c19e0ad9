"""Lanes: the numbers of transfers and legs have no gaps, and times and the watermark never go back."""

import pytest

from core.domain.transfers import AcceptedTransfer, TransferStatus
from core.services.transfers import accepting, cancelling, settlement
from core.services.verification import verify
from core.storage import lanes
from core.storage.lanes import Lanes
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests.builders import (
    BOUNDS,
    Bank,
    accepted,
    deactivate,
    from_ada_to_bob,
    ledger,
    rows,
    settle_all,
    status_of,
)

HOUR = 3_600_000_000
"""Microseconds."""


def stand(database: Database) -> Lanes:
    with database.reader.connect() as connection:
        return lanes.read(connection)


def pay(database: Database, bank: Bank, number: int) -> list[AcceptedTransfer]:
    return [accepted(database, from_ada_to_bob(bank, 1)) for _ in range(number)]


def cancel(database: Database, bank: Bank, transfer: AcceptedTransfer) -> None:
    with unit_of_work(database) as connection:
        cancelling.cancel(connection, user_id=bank.ada.id, transfer_id=transfer.id)


def leg_ids(database: Database) -> list[int]:
    return [row["id"] for row in rows(database, "SELECT id FROM transactions ORDER BY id")]


# --- numbers -----------------------------------------------------------------------------------------------------


def test_the_lanes_of_an_empty_ledger_begin_at_one(database: Database) -> None:
    assert stand(database) == Lanes(next_transfer=1, accepted_at=0, next_leg=1, posted_at=0, watermark=0)


def test_a_rolled_back_unit_of_acceptances_gives_its_sequences_back(database: Database, bank: Bank) -> None:
    (first,) = pay(database, bank, 1)
    before = stand(database)
    with pytest.raises(ZeroDivisionError), unit_of_work(database) as connection:
        outcomes = accepting.accept(connection, [from_ada_to_bob(bank, 1)] * 3, BOUNDS)
        lost = [item.sequence for item in outcomes if isinstance(item, AcceptedTransfer)]
        raise ZeroDivisionError
    assert lost == [first.sequence + step for step in (1, 2, 3)]
    assert stand(database) == before
    assert pay(database, bank, 1)[0].sequence == lost[0]
    assert verify(database).breaches == []


def test_a_rolled_back_settlement_gives_the_numbers_of_its_legs_back(
    database: Database, bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    pay(database, bank, 2)
    before = ledger(database)
    with monkeypatch.context() as patch:
        patch.setattr(settlement.lanes, "settled", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            settle_all(database)
    assert ledger(database) == before
    assert settle_all(database) == 2
    assert leg_ids(database) == list(range(1, 7)), "two legs each of the deposit and of two transfers"
    assert stand(database).next_leg == 7
    assert verify(database).breaches == []


def test_a_failed_transfer_takes_no_number_of_a_leg(database: Database, bank: Bank) -> None:
    before = stand(database)
    pay(database, bank, 1)
    deactivate(database, bank.ada)
    settle_all(database)
    assert stand(database).next_leg == before.next_leg
    assert stand(database).watermark == before.watermark + 1


# --- the watermark -----------------------------------------------------------------------------------------------


def test_cancelling_moves_the_watermark_over_what_is_already_cancelled(database: Database, bank: Bank) -> None:
    sent = pay(database, bank, 4)
    before = sent[0].sequence - 1
    seen = []
    for index in (2, 1, 0):
        cancel(database, bank, sent[index])
        seen.append(stand(database).watermark)
    assert seen == [before, before, before + 3], "the oldest one is pending until it is cancelled, too"
    assert settle_all(database) == 1
    assert stand(database).watermark == sent[3].sequence
    assert verify(database).breaches == []


def test_cancelling_the_only_pending_transfer_moves_the_watermark_to_the_end(database: Database, bank: Bank) -> None:
    (sent,) = pay(database, bank, 1)
    cancel(database, bank, sent)
    assert stand(database).watermark == sent.sequence
    assert settle_all(database) == 0


def test_a_settlement_moves_the_watermark_over_what_is_cancelled_behind_it(database: Database, bank: Bank) -> None:
    sent = pay(database, bank, 5)
    for index in (2, 3):
        cancel(database, bank, sent[index])
    stops = iter([False, True])
    assert settlement.settle_pending(database, batch=2, lock_ms=1000, stop=lambda: next(stops)) == 2
    assert stand(database).watermark == sent[3].sequence
    assert status_of(database, sent[4]) is TransferStatus.PENDING
    assert verify(database).breaches == []


# --- times -------------------------------------------------------------------------------------------------------


def fail(database: Database, bank: Bank, transfer: AcceptedTransfer) -> None:
    assert transfer
    deactivate(database, bank.ada)
    settle_all(database)
    with unit_of_work(database) as connection:
        connection.exec_driver_sql("UPDATE users SET is_active = 1")
