"""Idempotency keys: one effect per key and user, in one group and later; only an accepted request binds its key."""

from dataclasses import replace

import pytest

from core.domain.errors import ErrorCode, Part, Refusal
from core.domain.transfers import AcceptedTransfer, TransferError, TransferRequest, TransferStatus
from core.services.transfers import cancelling
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests.builders import (
    Bank,
    accept,
    accepted,
    close,
    deactivate,
    from_ada_to_bob,
    from_bob_to_ada,
    reserved_of,
    rows,
    settle_all,
    status_of,
)
from tests.time_travel import Clock

pytestmark = pytest.mark.funded(ada_has=1000, bob_has=1000)

REUSED = (TransferError.KEY_REUSED, Part.IDEMPOTENCY_KEY)


def keyed(bank: Bank, amount: int = 100, key: str = "a key", request_id: str = "first") -> TransferRequest:
    return from_ada_to_bob(bank, amount, idempotency_key=key, request_id=request_id)


def reason(outcome: AcceptedTransfer | Refusal) -> tuple[ErrorCode, Part | None]:
    assert isinstance(outcome, Refusal)
    return outcome.code, outcome.about


def count(database: Database) -> int:
    number: int = rows(database, "SELECT count(*) AS n FROM transfers WHERE idempotency_key IS NOT NULL")[0]["n"]
    return number


def test_a_replay_returns_the_first_transfer_and_is_marked(database: Database, bank: Bank) -> None:
    first = accepted(database, keyed(bank))
    again = accepted(database, keyed(bank, request_id="second"))
    assert again == replace(first, replayed=True)
    assert again.request_id == "first"
    assert (count(database), reserved_of(database, bank.ada_account)) == (1, 100)


def test_in_one_group_the_first_is_accepted_and_the_others_are_its_replays(database: Database, bank: Bank) -> None:
    first, second, third = accept(database, keyed(bank), keyed(bank), keyed(bank))
    assert isinstance(first, AcceptedTransfer)
    assert not first.replayed
    assert second == third == replace(first, replayed=True)
    assert (count(database), reserved_of(database, bank.ada_account)) == (1, 100)


def test_a_replay_in_the_group_equals_a_later_replay(database: Database, bank: Bank) -> None:
    _, in_the_group = accept(database, keyed(bank), keyed(bank))
    assert accepted(database, keyed(bank)) == in_the_group


def test_a_key_with_another_request_is_rejected_in_the_same_group_and_later(database: Database, bank: Bank) -> None:
    first, other = accept(database, keyed(bank, 100), keyed(bank, 200))
    assert isinstance(first, AcceptedTransfer)
    assert reason(other) == REUSED
    (later,) = accept(database, keyed(bank, 200))
    assert reason(later) == REUSED
    assert count(database) == 1


def test_a_reused_key_is_detected_before_any_other_refusal(database: Database, bank: Bank) -> None:
    accepted(database, keyed(bank))
    close(database, bank.ada_account)
    (outcome,) = accept(database, keyed(bank, 10**15))
    assert reason(outcome) == REUSED


@pytest.mark.parametrize("end", ["completed", "failed", "cancelled"])
def test_a_replay_is_the_same_in_any_status_of_the_transfer(database: Database, bank: Bank, end: str) -> None:
    first = accepted(database, keyed(bank))
    if end == "cancelled":
        with unit_of_work(database) as connection:
            cancelling.cancel(connection, user_id=bank.ada.id, transfer_id=first.id)
    if end == "failed":
        deactivate(database, bank.ada)
    settle_all(database)
    assert status_of(database, first) == TransferStatus(end)
    assert accepted(database, keyed(bank)) == replace(first, replayed=True)
    assert settle_all(database) == 0


def test_a_key_is_bound_for_good(database: Database, bank: Bank, clock: Clock) -> None:
    first = accepted(database, keyed(bank))
    settle_all(database)
    clock.advance(days=4000)
    accepted(database, from_ada_to_bob(bank, idempotency_key="a newer key"))
    assert accepted(database, keyed(bank)) == replace(first, replayed=True)
    (outcome,) = accept(database, keyed(bank, 200))
    assert reason(outcome) == REUSED


def test_a_replay_is_answered_even_after_the_funds_are_spent_and_the_account_is_closed(
    database: Database, bank: Bank
) -> None:
    first = accepted(database, keyed(bank, 1000))
    settle_all(database)
    close(database, bank.ada_account)
    assert accepted(database, keyed(bank, 1000)) == replace(first, replayed=True)


def test_a_rejected_request_binds_no_key(database: Database, bank: Bank) -> None:
    too_much, then_less = accept(database, keyed(bank, 1001), keyed(bank, 1000))
    assert reason(too_much) == (TransferError.INSUFFICIENT_FUNDS, Part.AMOUNT)
    assert isinstance(then_less, AcceptedTransfer)
    assert not then_less.replayed


def test_a_key_belongs_to_its_user(database: Database, bank: Bank) -> None:
    hers, his = accept(database, keyed(bank), from_bob_to_ada(bank, idempotency_key="a key"))
    assert isinstance(hers, AcceptedTransfer)
    assert isinstance(his, AcceptedTransfer)
    assert hers.id != his.id
    assert not his.replayed
    assert accepted(database, from_bob_to_ada(bank, idempotency_key="a key")).id == his.id


def test_a_key_of_another_user_is_a_new_one(database: Database, bank: Bank) -> None:
    hers = accepted(database, keyed(bank))
    his = accepted(database, from_bob_to_ada(bank, idempotency_key="a key"))
    assert (his.id != hers.id, his.replayed) == (True, False)


@pytest.mark.parametrize("other", ["A key", "a key ", "a  key", "ä key", "a key\x00"])
def test_a_key_is_compared_byte_for_byte(database: Database, bank: Bank, other: str) -> None:
    first, second = accept(database, keyed(bank), keyed(bank, key=other))
    assert isinstance(first, AcceptedTransfer)
    assert isinstance(second, AcceptedTransfer)
    assert first.id != second.id


def test_requests_without_a_key_are_never_replays(database: Database, bank: Bank) -> None:
    first, second = accept(database, from_ada_to_bob(bank), from_ada_to_bob(bank))
    assert isinstance(first, AcceptedTransfer)
    assert isinstance(second, AcceptedTransfer)
    assert first.id != second.id


def test_the_original_values_of_a_replay_are_stored_unchanged(database: Database, bank: Bank) -> None:
    request = keyed(bank)._replace(description="für Käse 🧀", currency="USD")
    first = accepted(database, request)
    again = accepted(database, request)
    assert (again.description, again.created_at, again.sequence) == (
        "für Käse 🧀",
        first.created_at,
        first.sequence,
    )
