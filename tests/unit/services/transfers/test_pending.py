"""Bounds of pending transfers: one user's are bounded by number and by time, and no other user is refused for them."""

from itertools import count
from typing import Any
from uuid import UUID

import pytest

from core.domain.batches import AcceptedBatch, BatchMode, BatchRequest
from core.domain.errors import GiroError, RateLimited, Unavailable
from core.domain.pending import LONGEST_RETRY_SECONDS, PendingBounds, too_many
from core.domain.transfers import AcceptedTransfer, TransferError, TransferRequest
from core.services.identity import operators
from core.services.transfers import accepting, batches, cancelling
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests.builders import (
    Bank,
    account_row,
    author,
    deposit_request,
    from_ada_to_bob,
    from_bob_to_ada,
    open_account,
    settle_all,
    withdrawal_request,
)
from tests.time_travel import Clock

pytestmark = pytest.mark.funded(ada_has=100_000, bob_has=100_000)

_keys = count()


def bounds(per_user: int = 5, *, total: int = 10_000, seconds: float = 0) -> PendingBounds:
    return PendingBounds(total=total, per_user=per_user, seconds=seconds)


def submit(database: Database, wanted: PendingBounds, *requests: TransferRequest) -> list[Any]:
    with unit_of_work(database) as connection:
        return accepting.accept(connection, requests, wanted)


def submit_batch(
    database: Database, wanted: PendingBounds, lines: int, mode: BatchMode = BatchMode.INDEPENDENT, *, bank: Bank
) -> AcceptedBatch:
    request = BatchRequest(
        mode=mode,
        submitted_by=bank.ada.id,
        transfers=[from_ada_to_bob(bank, 1)] * lines,
        idempotency_key=f"batch-{next(_keys)}",
        fingerprint=b"f",
    )
    with unit_of_work(database) as connection:
        return batches.accept(connection, request, wanted)


def codes(outcomes: list[Any]) -> list[str]:
    return [outcome.code if isinstance(outcome, GiroError) else "accepted" for outcome in outcomes]


def pending_count(database: Database, account: UUID) -> int:
    number: int = account_row(database, account)["pending_count"]
    return number


def set_limit(database: Database, bank: Bank, limit: int | None) -> None:
    with unit_of_work(database) as connection:
        operators.set_pending_limit(connection, author(1), bank.ada.public_id, limit)


# --- counting ----------------------------------------------------------------------------------------------------


def test_an_account_counts_its_pending_transfers_until_they_end(database: Database, bank: Bank) -> None:
    sent = submit(database, bounds(), *[from_ada_to_bob(bank, 1)] * 3, from_bob_to_ada(bank, 1))
    assert [pending_count(database, account) for account in (bank.ada_account, bank.bob_account)] == [3, 1]
    with unit_of_work(database) as connection:
        cancelling.cancel(connection, user_id=bank.ada.id, transfer_id=sent[0].id)
    assert pending_count(database, bank.ada_account) == 2
    settle_all(database)
    assert [pending_count(database, account) for account in (bank.ada_account, bank.bob_account)] == [0, 0]


def test_a_failed_atomic_batch_leaves_nothing_counted(database: Database, bank: Bank) -> None:
    submit_batch(database, bounds(), 4, BatchMode.ATOMIC, bank=bank)
    with unit_of_work(database) as connection:
        connection.exec_driver_sql("UPDATE users SET is_active = 0 WHERE id = ?", (bank.ada.id,))
    before = account_row(database, bank.ada_account)
    settle_all(database)
    after = account_row(database, bank.ada_account)
    assert (before["pending_count"], after["pending_count"], after["reserved"]) == (4, 0, 0)
    assert (after["leg_count"], after["credits_low"]) == (before["leg_count"], before["credits_low"])


# --- by number ---------------------------------------------------------------------------------------------------


def test_a_user_is_refused_one_transfer_more_than_the_bound_and_others_are_not(database: Database, bank: Bank) -> None:
    found = submit(database, bounds(5), *[from_ada_to_bob(bank, 1)] * 7, from_bob_to_ada(bank, 1))
    assert codes(found) == ["accepted"] * 5 + ["too_many_pending"] * 2 + ["accepted"]
    assert codes(submit(database, bounds(5), from_ada_to_bob(bank, 1), from_bob_to_ada(bank, 1))) == [
        *("too_many_pending", "accepted")
    ]
    assert pending_count(database, bank.ada_account) == 5
    settle_all(database)
    assert codes(submit(database, bounds(5), from_ada_to_bob(bank, 1))) == ["accepted"]


def test_all_accounts_of_a_user_count_together(database: Database, bank: Bank) -> None:
    with unit_of_work(database) as connection:
        other = open_account(connection, bank.ada)
    submit(database, bounds(), deposit_request(other, 100))
    settle_all(database)
    from_other = from_ada_to_bob(bank, 1)._replace(payer=other)
    found = submit(database, bounds(5), *[from_ada_to_bob(bank, 1)] * 3, *[from_other] * 3)
    assert codes(found) == ["accepted"] * 5 + ["too_many_pending"]


def test_a_withdrawal_counts_for_the_owner_of_the_account_and_a_deposit_for_nobody(
    database: Database, bank: Bank
) -> None:
    submit(database, bounds(5), *[from_ada_to_bob(bank, 1)] * 5)
    found = submit(
        database,
        bounds(5),
        withdrawal_request(bank.ada_account, 1),
        withdrawal_request(bank.bob_account, 1),
        *[deposit_request(bank.ada_account, 1)] * 6,
    )
    assert codes(found) == ["too_many_pending"] + ["accepted"] * 7


def test_a_replay_needs_no_room(database: Database, bank: Bank) -> None:
    request = from_ada_to_bob(bank, 1, idempotency_key="k")
    (first,) = submit(database, bounds(1), request)
    (replay,) = submit(database, bounds(1), request)
    assert isinstance(replay, AcceptedTransfer)
    assert (replay.id, replay.replayed) == (first.id, True)


def test_a_transfer_that_is_refused_anyway_gets_its_own_reason(database: Database, bank: Bank) -> None:
    submit(database, bounds(1), from_ada_to_bob(bank, 1))
    assert codes(submit(database, bounds(1), from_ada_to_bob(bank, 10**9))) == ["insufficient_funds"]


@pytest.mark.parametrize("mode", BatchMode)
def test_a_batch_that_would_exceed_the_bound_is_refused_as_a_whole(
    database: Database, bank: Bank, mode: BatchMode
) -> None:
    assert submit_batch(database, bounds(5), 3, mode, bank=bank).accepted == 3
    with pytest.raises(RateLimited, match="3 transfers from this user's accounts are pending, and 5 may be") as caught:
        submit_batch(database, bounds(5), 3, mode, bank=bank)
    assert caught.value.code is TransferError.TOO_MANY_PENDING
    assert pending_count(database, bank.ada_account) == 3
    assert submit_batch(database, bounds(5), 2, mode, bank=bank).accepted == 2


def test_operators_set_another_number_for_one_user(database: Database, bank: Bank) -> None:
    set_limit(database, bank, 2)
    assert codes(submit(database, bounds(5), *[from_ada_to_bob(bank, 1)] * 3, *[from_bob_to_ada(bank, 1)] * 3)) == [
        *["accepted"] * 2,
        "too_many_pending",
        *["accepted"] * 3,
    ]
    set_limit(database, bank, 8)
    assert submit_batch(database, bounds(5), 6, bank=bank).accepted == 6
    set_limit(database, bank, None)
    assert codes(submit(database, bounds(5), from_ada_to_bob(bank, 1))) == ["too_many_pending"]


def test_users_are_counted_only_if_all_pending_transfers_could_exceed_a_bound(
    database: Database, bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise AssertionError("counted")

    with monkeypatch.context() as patched:
        patched.setattr("core.storage.pending.of_users", fail)
        submit(database, bounds(4), *[from_ada_to_bob(bank, 1)] * 2)
        submit(database, bounds(4), *[from_ada_to_bob(bank, 1)] * 2)
        with pytest.raises(AssertionError, match="counted"):
            submit(database, bounds(4), from_ada_to_bob(bank, 1))


# --- by time -----------------------------------------------------------------------------------------------------


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.services.transfers.pending.FEW", 3)


@pytest.mark.usefixtures("few")
class TestABatchBehindAnOldTransfer:
    def test_is_refused_to_a_user_with_many_pending_ones_until_they_are_settled(
        self, clock: Clock, database: Database, bank: Bank
    ) -> None:
        wanted = bounds(100, seconds=0.25)
        submit_batch(database, wanted, 3, bank=bank)
        clock.advance(milliseconds=250)
        submit_batch(database, wanted, 3, bank=bank)
        clock.advance(milliseconds=1)
        with pytest.raises(RateLimited, match="they are settled first") as caught:
            submit_batch(database, wanted, 1, bank=bank)
        assert (caught.value.code, caught.value.wait_seconds) == (TransferError.TOO_MANY_PENDING, 1)
        assert codes(submit(database, wanted, from_ada_to_bob(bank, 1))) == ["accepted"]
        settle_all(database)
        assert submit_batch(database, wanted, 3, bank=bank).accepted == 3

    def test_is_accepted_from_a_user_with_few_pending_ones(self, clock: Clock, database: Database, bank: Bank) -> None:
        wanted = bounds(100, seconds=0.25)
        submit(database, wanted, *[from_bob_to_ada(bank, 1)] * 20)
        clock.advance(seconds=30)
        assert submit_batch(database, wanted, 2, bank=bank).accepted == 2
        clock.advance(seconds=30)
        assert submit_batch(database, wanted, 2, bank=bank).accepted == 2

    def test_is_accepted_if_there_is_no_bound(self, clock: Clock, database: Database, bank: Bank) -> None:
        submit_batch(database, bounds(100), 10, bank=bank)
        clock.advance(seconds=30)
        assert submit_batch(database, bounds(100), 10, bank=bank).accepted == 10


def test_a_batch_is_unavailable_while_too_many_of_all_users_are_pending(database: Database, bank: Bank) -> None:
    submit(database, bounds(100), *[from_bob_to_ada(bank, 1)] * 3)
    with pytest.raises(Unavailable, match="Too many transfers"):
        submit_batch(database, bounds(100, total=3), 1, bank=bank)


@pytest.mark.parametrize(("waited", "seconds"), [(0, 1), (0.2, 1), (1.2, 2), (30, 30), (3600, LONGEST_RETRY_SECONDS)])
def test_the_wait_is_about_as_long_as_that_of_the_oldest_transfer(waited: float, seconds: int) -> None:
    assert too_many(1, 1, waited_us=round(waited * 1e6)).wait_seconds == seconds


def test_a_clock_that_goes_back_makes_no_transfer_old(clock: Clock, database: Database, bank: Bank) -> None:
    submit_batch(database, bounds(5), 5, bank=bank)
    clock.advance(seconds=-100)
    with pytest.raises(RateLimited) as caught:
        submit_batch(database, bounds(5), 5, bank=bank)
    assert caught.value.wait_seconds == 1


# --- operators ---------------------------------------------------------------------------------------------------


def test_a_limit_is_recorded_with_its_author_once(database: Database, bank: Bank) -> None:
    for limit in (7, 7, None):
        set_limit(database, bank, limit)
    with database.reader.connect() as connection:
        found = connection.exec_driver_sql(
            "SELECT details FROM audit_entries WHERE action = 'pending_limit_set' ORDER BY id"
        ).scalars()
        assert list(found) == ['{"before": "default", "after": 7}', '{"before": 7, "after": "default"}']
