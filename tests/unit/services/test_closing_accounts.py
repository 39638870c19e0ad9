"""Closing an account: only with a zero balance and without pending transfers, and for good."""

from uuid import UUID, uuid4

import pytest

from core.domain.accounts import AccountError
from core.domain.errors import Refusal
from core.domain.transfers import TransferError
from core.services import accounts
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests.builders import (
    Bank,
    Person,
    accept,
    accepted,
    account_row,
    deposit_request,
    freeze,
    from_ada_to_bob,
    from_bob_to_ada,
    set_account,
    settle_all,
)

pytestmark = pytest.mark.funded(ada_has=0, bob_has=500)


def close(database: Database, person: Person, account: UUID) -> str:
    """Try to close an account. Returns its status, or the code of the refusal."""
    try:
        with unit_of_work(database) as connection:
            accounts.close_account(connection, user_id=person.id, account_id=account)
    except Refusal as refusal:
        return refusal.code
    return str(account_row(database, account)["status"])


def test_an_account_with_a_zero_balance_and_without_pending_transfers_is_closed(database: Database, bank: Bank) -> None:
    assert close(database, bank.ada, bank.ada_account) == "closed"


def test_closing_a_closed_account_changes_nothing(database: Database, bank: Bank) -> None:
    close(database, bank.ada, bank.ada_account)
    before = account_row(database, bank.ada_account)
    assert close(database, bank.ada, bank.ada_account) == "closed"
    assert account_row(database, bank.ada_account) == before


def test_an_account_with_money_stays_open(database: Database, bank: Bank) -> None:
    assert close(database, bank.bob, bank.bob_account) == AccountError.NOT_EMPTY


def test_an_account_with_a_debt_stays_open(database: Database, bank: Bank) -> None:
    set_account(database, bank.ada_account, overdraft_limit=100)
    accepted(database, from_ada_to_bob(bank, 100))
    settle_all(database)
    assert close(database, bank.ada, bank.ada_account) == AccountError.NOT_EMPTY


def test_an_account_with_a_pending_outgoing_transfer_stays_open(database: Database, bank: Bank) -> None:
    accepted(database, from_bob_to_ada(bank, 500))
    assert close(database, bank.bob, bank.bob_account) == AccountError.HAS_PENDING
    settle_all(database)
    assert close(database, bank.bob, bank.bob_account) == "closed"


def test_an_account_with_a_pending_incoming_transfer_stays_open(database: Database, bank: Bank) -> None:
    accepted(database, from_bob_to_ada(bank, 100))
    assert close(database, bank.ada, bank.ada_account) == AccountError.HAS_PENDING


def test_an_account_can_be_closed_after_a_pending_transfer_failed(database: Database, bank: Bank) -> None:
    accepted(database, from_bob_to_ada(bank, 100))
    freeze(database, bank.bob_account)
    settle_all(database)
    assert close(database, bank.ada, bank.ada_account) == "closed"


def test_another_users_account_and_a_missing_one_are_rejected_alike(database: Database, bank: Bank) -> None:
    assert close(database, bank.bob, bank.ada_account) == AccountError.NOT_FOUND
    assert close(database, bank.bob, uuid4()) == AccountError.NOT_FOUND
    assert account_row(database, bank.ada_account)["status"] == "active"


@pytest.mark.parametrize("scope", ["debit", "all"])
def test_the_owner_cannot_close_a_frozen_account(database: Database, bank: Bank, scope: str) -> None:
    freeze(database, bank.ada_account, scope)
    assert close(database, bank.ada, bank.ada_account) == AccountError.FROZEN


def test_a_closed_account_receives_no_money(database: Database, bank: Bank) -> None:
    close(database, bank.ada, bank.ada_account)
    outcomes = accept(database, from_bob_to_ada(bank, 100), deposit_request(bank.ada_account, 100))
    assert [outcome.code for outcome in outcomes if isinstance(outcome, Refusal)] == [
        TransferError.PAYEE_CANNOT_RECEIVE,  # Bob learns no state of Ada's account
        AccountError.CLOSED,
    ]
