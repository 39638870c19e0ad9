"""Reservations and releases: both only grow, so their sums pass 64 bits in the end, and what is left is still exact."""

from collections.abc import Callable
from uuid import UUID

import pytest

from core.domain.errors import Refusal
from core.domain.money import CUSTOMER_BALANCE_BOUND
from core.domain.transfers import AcceptedTransfer
from core.services.transfers import cancelling
from core.services.verification import verify
from core.storage import accounts
from core.storage.rows import HALF, joined
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests.builders import (
    Bank,
    accept,
    accepted,
    account_row,
    deactivate,
    from_ada_to_bob,
    reserved_of,
    rows,
    settle_all,
)

BEYOND = joined(3 * CUSTOMER_BALANCE_BOUND, HALF - 1)
"""Minor units: more than 64 bits hold, and the low half is full, so that the next amount carries."""


@pytest.fixture
def bank(database: Database, bank: Bank) -> Bank:
    """A bank in which Ada has paid that much since she came."""
    assert BEYOND > 2**63
    row_id, halves = account_row(database, bank.ada_account)["id"], divmod(BEYOND, HALF)
    with unit_of_work(database) as connection:
        for statement in (
            "UPDATE reservations SET reserved_high = ?, reserved_low = ? WHERE account_id = ?",
            "UPDATE accounts SET released_high = ?, released_low = ? WHERE id = ?",
        ):
            assert connection.exec_driver_sql(statement, (*halves, row_id)).rowcount == 1
    return bank


def sums(database: Database, account: UUID) -> tuple[int, int]:
    """What was ever reserved and ever released, from halves that must be whole."""
    (row,) = rows(
        database,
        "SELECT * FROM accounts a JOIN reservations r ON r.account_id = a.id WHERE a.public_id = ?",
        account.bytes,
    )
    for half in ("reserved_low", "released_low"):
        assert 0 <= row[half] < HALF
    return joined(row["reserved_high"], row["reserved_low"]), joined(row["released_high"], row["released_low"])


def settle(database: Database, bank: Bank, transfer: AcceptedTransfer) -> None:
    assert transfer
    assert settle_all(database) == 1


def fail(database: Database, bank: Bank, transfer: AcceptedTransfer) -> None:
    deactivate(database, bank.ada)
    settle(database, bank, transfer)


def cancel(database: Database, bank: Bank, transfer: AcceptedTransfer) -> None:
    with unit_of_work(database) as connection:
        cancelling.cancel(connection, user_id=bank.ada.id, transfer_id=transfer.id)


@pytest.mark.parametrize("end", [settle, fail, cancel])
def test_sums_beyond_64_bits_stay_exact_however_a_transfer_ends(
    database: Database, bank: Bank, end: Callable[[Database, Bank, AcceptedTransfer], None]
) -> None:
    transfer = accepted(database, from_ada_to_bob(bank, 300))
    assert sums(database, bank.ada_account) == (BEYOND + 300, BEYOND)
    assert reserved_of(database, bank.ada_account) == 300
    assert verify(database).breaches == []
    end(database, bank, transfer)
    assert sums(database, bank.ada_account) == (BEYOND + 300, BEYOND + 300)
    assert verify(database).breaches == []


def test_what_an_owner_sees_and_can_spend_is_exact_beyond_64_bits(database: Database, bank: Bank) -> None:
    accepted(database, from_ada_to_bob(bank, 300))
    with database.reader.connect() as connection:
        view = accounts.read(connection, bank.ada_account)
    assert view is not None
    assert (view.balance, view.reserved) == (1000, 300)
    too_much, fits = accept(database, from_ada_to_bob(bank, 701), from_ada_to_bob(bank, 700))
    assert isinstance(too_much, Refusal)
    assert isinstance(fits, AcceptedTransfer)


def test_a_cancellation_releases_funds_that_no_longer_fit_the_low_half(database: Database, bank: Bank) -> None:
    first, second = (accepted(database, from_ada_to_bob(bank, 300)) for _ in range(2))
    cancel(database, bank, second)
    assert (reserved_of(database, bank.ada_account), account_row(database, bank.ada_account)["pending_count"]) == (
        300,
        1,
    )
    settle(database, bank, first)
    assert sums(database, bank.ada_account) == (BEYOND + 600, BEYOND + 600)
