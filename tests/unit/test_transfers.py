"""A transfer's state machine, and its permitted readers, as tables."""

from dataclasses import replace
from itertools import product
from uuid import UUID

import pytest

from core.clock import EPOCH
from core.domain.transfers import TRANSITIONS, TransferKind, TransferStatus, TransferView

PENDING, COMPLETED, FAILED, CANCELLED = TransferStatus
TERMINAL = {COMPLETED, FAILED, CANCELLED}

SUBMITTER, PAYER, PAYEE, STRANGER = 1, 2, 3, 4
TRANSFER = TransferView(
    id=UUID(int=1),
    sequence=1,
    kind=TransferKind.TRANSFER,
    status=PENDING,
    from_account_id=UUID(int=2),
    to_account_id=UUID(int=3),
    amount=100,
    currency="USD",
    description=None,
    created_at=EPOCH,
    settled_at=None,
    failure_code=None,
    submitted_by=SUBMITTER,
    payer_owner_id=PAYER,
    payee_owner_id=PAYEE,
)


@pytest.mark.parametrize(("before", "after"), list(product(TransferStatus, repeat=2)))
def test_a_transfer_leaves_pending_once_and_never_leaves_a_terminal_status(
    before: TransferStatus, after: TransferStatus
) -> None:
    assert (after in TRANSITIONS[before]) == (before is PENDING and after in TERMINAL)


def test_the_state_machine_contains_every_status() -> None:
    assert set(TRANSITIONS) == set(TransferStatus)


@pytest.mark.parametrize(
    ("reader", "status", "may"),
    [
        *((SUBMITTER, status, True) for status in TransferStatus),
        *((PAYER, status, True) for status in TransferStatus),
        (PAYEE, PENDING, False),
        (PAYEE, COMPLETED, True),
        (PAYEE, FAILED, False),
        (PAYEE, CANCELLED, False),
        *((STRANGER, status, False) for status in TransferStatus),
    ],
)
def test_only_permitted_users_can_read_a_transfer(reader: int, status: TransferStatus, may: bool) -> None:
    assert replace(TRANSFER, status=status).may_be_read_by(reader) is may


def test_the_external_account_of_a_deposit_has_no_owner() -> None:
    deposit = replace(TRANSFER, payer_owner_id=None, status=COMPLETED)
    assert [deposit.may_be_read_by(reader) for reader in (SUBMITTER, PAYER, PAYEE)] == [True, False, True]
