"""Settlement: order, failures, units of work, the lock, redelivery, and changes between accept and settle."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from logging import DEBUG
from typing import Any

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import Connection
from structlog.testing import capture_logs

from core.clock import now_us, to_us
from core.domain.accounts import AccountError
from core.domain.blocks import Ending, LegRow
from core.domain.errors import ErrorCode, Unavailable
from core.domain.ledger import FAILURES
from core.domain.money import CUSTOMER_BALANCE_BOUND, EXTERNAL_BALANCE_BOUND, MAX_AMOUNT
from core.domain.transfers import AcceptedTransfer, Terms, TransferError, TransferStatus
from core.services.transfers import settlement
from core.services.transfers.settlement import FIRST_CHUNK, count_from_zero, settle_pending
from core.services.verification import verify
from core.settings import Settings
from core.storage import transactions, transfers
from core.storage.sqlite.engine import Database
from core.storage.transfers import EndedElsewhere
from core.storage.unit_of_work import unit_of_work
from tests.builders import (
    WHOLE_TRANSFERS,
    Bank,
    accept,
    accepted,
    account_row,
    balance_of,
    close,
    deactivate,
    deposit_request,
    external_account,
    freeze,
    from_ada_to_bob,
    from_bob_to_ada,
    ledger,
    look_up,
    reserved_of,
    rows,
    set_limit,
    settle_all,
    status_of,
    withdrawal_request,
)
from tests.counting import counted
from tests.waiting import eventually

pytestmark = pytest.mark.funded(ada_has=100_000)

COMPLETED, FAILED, PENDING = TransferStatus.COMPLETED, TransferStatus.FAILED, TransferStatus.PENDING
IN_NO_TIME = 1e-9
"""Milliseconds: a settlement has always held the lock for longer than this."""


def send(database: Database, bank: Bank, number: int, amount: int = 1) -> list[AcceptedTransfer]:
    outcomes = accept(database, *(from_ada_to_bob(bank, amount) for _ in range(number)))
    sent = [outcome for outcome in outcomes if isinstance(outcome, AcceptedTransfer)]
    assert len(sent) == number
    return sent


def pending(database: Database) -> int:
    number: int = rows(database, f"SELECT count(*) AS n FROM {WHOLE_TRANSFERS} WHERE status = 'pending'")[0]["n"]
    return number


def failure_of(database: Database, transfer: AcceptedTransfer) -> ErrorCode | None:
    view = look_up(database, transfer)
    assert (view.status is FAILED) == (view.failure_code is not None)
    assert view.settled_at is not None
    return view.failure_code


def whole(database: Database) -> bool:
    report = verify(database)
    assert report.breaches == []
    return report.holds


# --- settling ----------------------------------------------------------------------------------------------------


def test_a_settled_transfer_is_completed_with_two_transactions(database: Database, bank: Bank) -> None:
    transfer = accepted(database, from_ada_to_bob(bank, 300))
    assert settle_all(database) == 1
    view = look_up(database, transfer)
    assert (view.status, view.failure_code) == (COMPLETED, None)
    debit, credit = rows(database, "SELECT * FROM transactions WHERE transfer_id = ? ORDER BY id", transfer.sequence)
    assert (debit["amount"], debit["balance_after"], credit["amount"], credit["balance_after"]) == (
        -300,
        99_700,
        300,
        300,
    )
    assert debit["posted_at"] == credit["posted_at"] == to_us(view.settled_at)  # type: ignore[arg-type]
    assert (balance_of(database, bank.ada_account), balance_of(database, bank.bob_account)) == (99_700, 300)
    assert reserved_of(database, bank.ada_account) == 0
    assert account_row(database, bank.ada_account)["last_transaction_id"] == debit["id"]
    assert account_row(database, bank.bob_account)["last_transaction_id"] == credit["id"]
    assert whole(database)


def test_transfers_settle_in_the_order_of_their_acceptance(database: Database, bank: Bank) -> None:
    # Bob can pay only if Ada's transfer to him settles first.
    there = accepted(database, from_ada_to_bob(bank, 500))
    settle_all(database)
    sent = [accepted(database, request) for request in (from_ada_to_bob(bank, 1), from_bob_to_ada(bank, 500))]
    sent += send(database, bank, 20)
    assert settle_all(database) == 22
    settled = [row["transfer_id"] for row in rows(database, "SELECT transfer_id FROM transactions ORDER BY id")]
    assert settled[2:] == [item.sequence for item in [there, *sent] for _side in range(2)]


def test_a_failure_does_not_stop_the_others(database: Database, bank: Bank) -> None:
    accepted(database, deposit_request(bank.bob_account, 100))
    settle_all(database)
    first, bad, last = (
        accepted(database, request) for request in (from_ada_to_bob(bank), from_bob_to_ada(bank), from_ada_to_bob(bank))
    )
    deactivate(database, bank.bob)
    assert settle_all(database) == 3
    assert [status_of(database, item) for item in (first, bad, last)] == [COMPLETED, FAILED, COMPLETED]
    assert failure_of(database, bad) is TransferError.OWNER_INACTIVE
    assert whole(database)


def test_settling_without_pending_transfers_does_nothing(database: Database, bank: Bank) -> None:
    before = ledger(database)
    assert settle_all(database) == 0
    assert ledger(database) == before


def test_a_redelivered_wakeup_changes_nothing(database: Database, bank: Bank) -> None:
    send(database, bank, 3)
    assert settle_all(database) == 3
    before = ledger(database)
    assert settle_all(database) == 0
    assert ledger(database) == before


def test_two_workers_at_once_settle_every_transfer_once(database: Database, bank: Bank, settings: Settings) -> None:
    send(database, bank, 400)
    counts: list[int] = []

    def work() -> None:
        mine = Database(settings)
        counts.append(settle_pending(mine, batch=7, lock_ms=1000))
        mine.close()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert sum(counts) == 400
    assert balance_of(database, bank.bob_account) == 400
    assert whole(database)


# --- units of work and the lock ----------------------------------------------------------------------------------


class Asked:
    """A `stop` function that counts its calls, one before each unit of work, and returns true from a given call on."""

    def __init__(self, yes_after: int = 1_000_000) -> None:
        self.times = 0
        self._yes_after = yes_after

    def __call__(self) -> bool:
        self.times += 1
        return self.times > self._yes_after


@pytest.mark.parametrize(("batch", "units"), [(1, 11), (3, 4), (5, 3), (9, 2), (10, 2), (5000, 1)])
def test_a_unit_of_work_has_a_maximum_of_transfers_and_a_smaller_one_is_the_last(
    database: Database, bank: Bank, batch: int, units: int
) -> None:
    send(database, bank, 10)
    asked = Asked()
    assert settle_pending(database, batch=batch, lock_ms=1000, stop=asked) == 10
    assert asked.times == units
    assert whole(database)


def test_it_stops_between_two_units_of_work_on_request(database: Database, bank: Bank) -> None:
    send(database, bank, 10)
    assert settle_pending(database, batch=3, lock_ms=1000, stop=Asked(yes_after=2)) == 6
    assert pending(database) == 4
    assert settle_pending(database, batch=3, lock_ms=1000, stop=lambda: True) == 0
    assert whole(database)


def test_chains_are_whole_across_chunks_and_units_of_work(database: Database, bank: Bank) -> None:
    number = 3 * FIRST_CHUNK + 50
    send(database, bank, number)
    asked = Asked()
    assert settle_pending(database, batch=2 * FIRST_CHUNK, lock_ms=1000, stop=asked) == number
    assert asked.times == 2
    assert balance_of(database, bank.bob_account) == number
    assert whole(database)


def test_the_lock_is_kept_while_no_writer_waits(database: Database, bank: Bank) -> None:
    send(database, bank, FIRST_CHUNK * 3)
    asked = Asked()
    settle_pending(database, batch=5000, lock_ms=IN_NO_TIME, stop=asked)
    assert asked.times == 1


def while_settling(monkeypatch: pytest.MonkeyPatch, action: Callable[[], None]) -> None:
    """Run a function in the middle of the first chunk, with the lock held."""
    add = transactions.add
    first = iter([action])

    def add_and_act(*arguments: Any) -> None:
        add(*arguments)
        next(first, lambda: None)()

    monkeypatch.setattr(settlement.transactions, "add", add_and_act)


@contextmanager
def another_writer(database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Let another writer join the queue during the first chunk; yields the number of pending transfers that it saw."""
    other, seen = Database(settings), list[int]()

    def write() -> None:
        with unit_of_work(other) as connection:
            seen.append(transfers.backlog(connection).pending)

    writer = threading.Thread(target=write)

    def join_the_queue() -> None:
        writer.start()
        eventually(database.turnstile.others_wait)

    while_settling(monkeypatch, join_the_queue)
    yield seen
    writer.join(timeout=30)
    other.close()


def test_the_lock_is_released_for_a_waiting_writer_and_taken_again(
    database: Database, bank: Bank, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(database, bank, FIRST_CHUNK * 3)
    asked = Asked()
    with another_writer(database, settings, monkeypatch) as seen:
        assert settle_pending(database, batch=5000, lock_ms=IN_NO_TIME, stop=asked) == FIRST_CHUNK * 3
    assert seen == [FIRST_CHUNK * 2], "the other writer wrote after the first chunk"
    assert asked.times == 2
    assert whole(database)


def test_the_lock_is_not_released_before_its_time(
    database: Database, bank: Bank, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(database, bank, FIRST_CHUNK * 3)
    with another_writer(database, settings, monkeypatch) as seen:
        settle_pending(database, batch=5000, lock_ms=1e9)
    assert seen == [0]


@pytest.mark.parametrize("fails", [False, True])
def test_a_transfer_that_ended_elsewhere_rolls_everything_back(
    database: Database, bank: Bank, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    sent = send(database, bank, 3)
    if fails:
        freeze(database, bank.bob_account)
    before, add = ledger(database), transactions.add
    terms = read_terms(database, sent[1])

    def add_after_another(connection: Connection, legs: Sequence[LegRow]) -> None:
        # Inside the lock no other process can write, so the test writes an ending of another one here.
        transfers.end(connection, [Ending(terms, TransferStatus.CANCELLED.value, 7, None)])
        add(connection, legs)

    with monkeypatch.context() as patch:
        patch.setattr(settlement.transactions, "add", add_after_another)
        with pytest.raises(EndedElsewhere):
            settle_all(database)
    assert ledger(database) == before
    assert {status_of(database, item) for item in sent} == {PENDING}
    assert settle_all(database) == 3
    assert whole(database)


@pytest.mark.parametrize("how", [FAILED, TransferStatus.CANCELLED])
def test_an_ended_transfer_cannot_end_again(database: Database, bank: Bank, how: TransferStatus) -> None:
    (transfer,) = send(database, bank, 1)
    settle_all(database)
    before = ledger(database)
    ending = Ending(read_terms(database, transfer), how.value, now_us(), AccountError.FROZEN if how is FAILED else None)
    with pytest.raises(EndedElsewhere), unit_of_work(database) as connection:
        transfers.end(connection, [ending])
    assert ledger(database) == before


def read_terms(database: Database, transfer: AcceptedTransfer) -> Terms:
    with database.reader.connect() as connection:
        return transfers.terms_of(connection, transfer.sequence)


def test_a_database_that_cannot_be_written_settles_nothing(database: Database, bank: Bank, settings: Settings) -> None:
    send(database, bank, 3)
    impatient = Database(settings.model_copy(update={"sqlite_busy_ms": 0}))
    with database.writer.begin(), pytest.raises(Unavailable):
        settle_all(impatient)
    impatient.close()
    assert settle_all(database) == 3


# --- time --------------------------------------------------------------------------------------------------------


def test_no_leg_is_posted_before_its_predecessor_even_if_the_clock_goes_back(
    database: Database, bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = now_us() + 3_600_000_000
    posted = []
    for clock in (later, later - 7_200_000_000, later + 1):
        monkeypatch.setattr(settlement, "now_us", lambda clock=clock: clock)
        (transfer,) = send(database, bank, 1)
        settle_all(database)
        posted.append(to_us(look_up(database, transfer).settled_at))  # type: ignore[arg-type]
    assert posted == [later, later, later + 1]
    assert whole(database)


@pytest.mark.parametrize("fails", [False, True])
def test_no_transfer_ends_before_it_began_even_if_the_clock_goes_back(
    database: Database, bank: Bank, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    (transfer,) = send(database, bank, 1)
    if fails:
        deactivate(database, bank.ada)
    monkeypatch.setattr(settlement, "now_us", lambda: now_us() - 3_600_000_000)
    settle_all(database)
    view = look_up(database, transfer)
    assert view.settled_at is not None
    assert view.settled_at >= view.created_at


# --- changes between accept and settle ---


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda database, bank: deactivate(database, bank.ada), TransferError.OWNER_INACTIVE),
        (lambda database, bank: freeze(database, bank.ada_account, "debit"), AccountError.FROZEN),
        (lambda database, bank: freeze(database, bank.ada_account, "all"), AccountError.FROZEN),
        (lambda database, bank: close(database, bank.ada_account), AccountError.CLOSED),
        (lambda database, bank: freeze(database, bank.bob_account, "all"), TransferError.PAYEE_FROZEN),
        (lambda database, bank: close(database, bank.bob_account), TransferError.PAYEE_CLOSED),
        (lambda database, bank: freeze(database, bank.bob_account, "debit"), None),
        (lambda database, bank: deactivate(database, bank.bob), None),
    ],
)
def test_every_rule_is_checked_again_at_settlement(
    database: Database, bank: Bank, change: Callable[[Database, Bank], None], code: ErrorCode | None
) -> None:
    (transfer,) = send(database, bank, 1, amount=300)
    change(database, bank)
    assert settle_all(database) == 1
    assert failure_of(database, transfer) is code
    moved = 300 if code is None else 0
    assert balance_of(database, bank.ada_account) == 100_000 - moved
    assert balance_of(database, bank.bob_account) == moved
    assert reserved_of(database, bank.ada_account) == 0
    legs = rows(database, "SELECT * FROM transactions WHERE transfer_id = ?", transfer.sequence)
    assert len(legs) == (2 if code is None else 0)
    assert whole(database)


def test_a_limit_that_was_lowered_in_between_counts(database: Database, bank: Bank) -> None:
    set_limit(database, bank.bob_account, 100)
    fits, fits_no_more = (accepted(database, from_bob_to_ada(bank, 50)) for _ in range(2))
    set_limit(database, bank.bob_account, 99)
    settle_all(database)
    assert failure_of(database, fits) is None
    assert failure_of(database, fits_no_more) is TransferError.INSUFFICIENT_FUNDS
    assert (balance_of(database, bank.bob_account), reserved_of(database, bank.bob_account)) == (-50, 0)
    assert whole(database)


def test_credits_beyond_the_maximum_balance_fail(database: Database, bank: Bank) -> None:
    deposits = [accepted(database, deposit_request(bank.bob_account, MAX_AMOUNT)) for _ in range(10)]
    assert settle_all(database) == 10
    assert [failure_of(database, item) for item in deposits] == [None] * 9 + [TransferError.BALANCE_LIMIT_EXCEEDED]
    assert balance_of(database, bank.bob_account) == CUSTOMER_BALANCE_BOUND
    assert external_account(database)["reserved"] == 0
    assert whole(database)


def test_the_limit_of_the_external_account_fails_a_transfer_without_an_exception(
    database: Database, bank: Bank
) -> None:
    outside, room = external_account(database), 150
    with unit_of_work(database) as connection:
        connection.exec_driver_sql(
            "UPDATE accounts SET balance = ? WHERE id = ?", (EXTERNAL_BALANCE_BOUND - room, outside["id"])
        )
    fits, too_much = (accepted(database, withdrawal_request(bank.ada_account, 100)) for _ in range(2))
    settle_all(database)
    assert failure_of(database, fits) is None
    assert failure_of(database, too_much) is TransferError.BALANCE_LIMIT_EXCEEDED
    assert external_account(database)["balance"] == EXTERNAL_BALANCE_BOUND - 50


# --- metrics and logs ---


def test_endings_are_counted_by_status_and_reason(database: Database, bank: Bank) -> None:
    name = "giro_transfers_settled_total"
    completed = counted(name, status="completed", reason="")
    failed = counted(name, status="failed", reason="owner_inactive")
    ended = counted("giro_transfer_lifetime_seconds_count")
    send(database, bank, 3)
    settle_all(database)
    send(database, bank, 2)
    deactivate(database, bank.ada)
    settle_all(database)
    assert counted(name, status="completed", reason="") == completed + 3
    assert counted(name, status="failed", reason="owner_inactive") == failed + 2
    assert counted("giro_transfer_lifetime_seconds_count") == ended + 5


@pytest.mark.parametrize("code", sorted(FAILURES))
def test_each_reason_of_failure_is_exported_at_zero(code: ErrorCode) -> None:
    count_from_zero()
    labels = {"status": "failed", "reason": code.value}
    assert REGISTRY.get_sample_value("giro_transfers_settled_total", labels) is not None


def test_a_batch_is_logged_with_its_request_ids(
    database: Database, bank: Bank, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(DEBUG)
    first = accepted(database, from_ada_to_bob(bank, request_id="r-1"))
    last = accepted(database, from_ada_to_bob(bank, request_id="r-2"))
    with capture_logs() as logs:
        settle_all(database)
    each = [line for line in logs if line["event"] == "transfer_settled"]
    assert [(line["request_id"], line["sequence"], line["log_level"]) for line in each] == [
        ("r-1", first.sequence, "debug"),
        ("r-2", last.sequence, "debug"),
    ]
    (group,) = [line for line in logs if line["event"] == "settled"]
    assert group["log_level"] == "info"
    assert (group["count"], group["failed"], group["request_ids"]) == (2, 0, ["r-1", "r-2"])
    assert (group["first_sequence"], group["last_sequence"]) == (first.sequence, last.sequence)
