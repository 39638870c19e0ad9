"""Cancelling a transfer: by whom, until when, and which funds are released."""

from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import now_us, to_us
from core.domain.errors import ErrorCode, Refusal
from core.domain.transfers import TransferError, TransferStatus, TransferView
from core.domain.users import SYSTEM_USER_ID
from core.ids import new_id
from core.services.transfers import cancelling, listing
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests.builders import (
    Bank,
    Person,
    accepted,
    add_user,
    deactivate,
    deposit_request,
    external_account,
    from_ada_to_bob,
    look_up,
    reserved_of,
    settle_all,
    status_of,
    withdrawal_request,
)


def cancel(database: Database, user: Person | int, transfer: UUID) -> TransferView:
    with unit_of_work(database) as connection:
        user_id = user if isinstance(user, int) else user.id
        return cancelling.cancel(connection, user_id=user_id, transfer_id=transfer)


def refusal_of(database: Database, user: Person | int, transfer: UUID) -> ErrorCode:
    with pytest.raises(Refusal) as refused:
        cancel(database, user, transfer)
    return refused.value.code


def test_the_submitter_cancels_a_pending_transfer_and_its_funds_are_released(database: Database, bank: Bank) -> None:
    kept, transfer = accepted(database, from_ada_to_bob(bank, 1)), accepted(database, from_ada_to_bob(bank, 300))
    view = cancel(database, bank.ada, transfer.id)
    assert view.status is TransferStatus.CANCELLED
    assert view.settled_at is not None
    assert view == look_up(database, transfer)
    assert reserved_of(database, bank.ada_account) == 1
    assert settle_all(database) == 1
    assert [status_of(database, item) for item in (kept, transfer)] == [
        TransferStatus.COMPLETED,
        TransferStatus.CANCELLED,
    ]


def test_cancelling_again_returns_the_same_answer_and_releases_nothing_twice(database: Database, bank: Bank) -> None:
    accepted(database, from_ada_to_bob(bank, 1))
    transfer = accepted(database, from_ada_to_bob(bank, 300))
    assert cancel(database, bank.ada, transfer.id) == cancel(database, bank.ada, transfer.id)
    assert reserved_of(database, bank.ada_account) == 1


def test_a_completed_transfer_cannot_be_cancelled(database: Database, bank: Bank) -> None:
    transfer = accepted(database, from_ada_to_bob(bank))
    settle_all(database)
    assert refusal_of(database, bank.ada, transfer.id) is TransferError.NOT_CANCELLABLE
    assert status_of(database, transfer) is TransferStatus.COMPLETED


def test_a_failed_transfer_cannot_be_cancelled(database: Database, bank: Bank) -> None:
    transfer = accepted(database, from_ada_to_bob(bank))
    deactivate(database, bank.ada)
    settle_all(database)
    assert refusal_of(database, bank.ada, transfer.id) is TransferError.NOT_CANCELLABLE


def test_a_transfer_does_not_exist_for_users_without_a_part_in_it(database: Database, bank: Bank) -> None:
    transfer = accepted(database, from_ada_to_bob(bank))
    with unit_of_work(database) as connection:
        stranger = add_user(connection)
    assert refusal_of(database, stranger, transfer.id) is TransferError.NOT_FOUND
    assert refusal_of(database, bank.ada, new_id()) is TransferError.NOT_FOUND
    assert status_of(database, transfer) is TransferStatus.PENDING


def test_a_payee_sees_a_transfer_only_once_it_is_completed(database: Database, bank: Bank) -> None:
    transfer = accepted(database, from_ada_to_bob(bank))
    assert refusal_of(database, bank.bob, transfer.id) is TransferError.NOT_FOUND
    settle_all(database)
    assert refusal_of(database, bank.bob, transfer.id) is TransferError.NOT_CANCELLABLE


def test_an_owner_cannot_cancel_a_withdrawal_by_the_bank(database: Database, bank: Bank) -> None:
    withdrawal = accepted(database, withdrawal_request(bank.ada_account))
    with pytest.raises(Refusal, match="Only the submitter of a transfer") as refused:
        cancel(database, bank.ada.id, withdrawal.id)
    assert refused.value.code is TransferError.NOT_CANCELLABLE
    cancel(database, SYSTEM_USER_ID, withdrawal.id)
    assert reserved_of(database, bank.ada_account) == 0


def test_a_cancelled_deposit_releases_what_the_external_account_reserved(database: Database, bank: Bank) -> None:
    deposit = accepted(database, deposit_request(bank.bob_account, 70))
    assert external_account(database)["reserved"] == 70
    cancel(database, SYSTEM_USER_ID, deposit.id)
    assert external_account(database)["reserved"] == 0


def test_the_funds_of_a_cancelled_transfer_can_be_sent_again(database: Database, bank: Bank) -> None:
    cancel(database, bank.ada, accepted(database, from_ada_to_bob(bank, 1000)).id)
    accepted(database, from_ada_to_bob(bank, 1000))


def test_a_transfer_never_ends_before_it_began_even_if_the_clock_goes_back(
    database: Database, bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    transfer = accepted(database, from_ada_to_bob(bank))
    monkeypatch.setattr(cancelling, "now_us", lambda: now_us() - 3_600_000_000)
    view = cancel(database, bank.ada, transfer.id)
    assert view.settled_at == view.created_at
    assert to_us(view.created_at) == to_us(transfer.created_at)


async def test_a_transfer_is_readable_for_its_parties_and_does_not_exist_for_others(
    database: Database, bank: Bank, session: AsyncSession
) -> None:
    transfer = accepted(database, from_ada_to_bob(bank))
    view = await listing.get(session, user_id=bank.ada.id, transfer_id=transfer.id)
    assert view == look_up(database, transfer)
    for user, wanted in ((bank.bob, transfer.id), (bank.ada, new_id())):
        with pytest.raises(Refusal) as refused:
            await listing.get(session, user_id=user.id, transfer_id=wanted)
        assert refused.value.code is TransferError.NOT_FOUND
