"""What a transfer is: its kinds, its statuses, and the moves between them."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from core.domain.errors import ErrorCode

MAX_DESCRIPTION = 140
"""Characters in a description, as in a SEPA remittance line."""

MAX_IDEMPOTENCY_KEY = 255


class TransferKind(StrEnum):
    """Between whom the money moves."""

    TRANSFER = "transfer"
    """Between two customers' accounts."""
    DEPOSIT = "deposit"
    """From the currency's external account to a customer's."""
    WITHDRAWAL = "withdrawal"
    """From a customer's account to the currency's external one."""


class TransferStatus(StrEnum):
    """Where a transfer stands. All but `pending` are terminal."""

    PENDING = "pending"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


TRANSITIONS: dict[TransferStatus, dict[TransferStatus, str]] = {
    TransferStatus.PENDING: {
        TransferStatus.COMPLETED: "settled",
        TransferStatus.FAILED: "could not be settled",
        TransferStatus.CANCELLED: "by who submitted it",
    },
    TransferStatus.COMPLETED: {},
    TransferStatus.FAILED: {},
    TransferStatus.CANCELLED: {},
}
"""The whole state machine, each move with what makes it: `pending` is left once, and nothing leaves the others."""


class TransferRequest(NamedTuple):
    """An order to move money, checked for form and not yet for funds.

    `payer` is None for a deposit and `payee` for a withdrawal: the external account takes their place.
    `fingerprint` is a digest of the request as it was sent, given when `idempotency_key` is.
    """

    kind: TransferKind
    submitted_by: int
    payer: UUID | None
    payee: UUID | str | None
    """The payee's account id, or its account number."""
    amount: int
    """Minor units, 1 … 10^15."""
    currency: str | None
    """What the client says the currency is; None where it left it to the accounts."""
    description: str | None
    idempotency_key: str | None
    fingerprint: bytes | None
    request_id: str
    address: str | None = None
    """Where a deposit or a withdrawal was ordered from, for the audit log; None on the machine itself."""


class Terms(NamedTuple):
    """What never changes of a transfer, as it is stored. Times are microseconds since the epoch."""

    sequence: int
    public_id: bytes
    kind: str
    from_account_id: int
    to_account_id: int
    amount: int
    """Minor units."""
    currency: str
    description: str | None
    submitted_by: int
    request_id: str
    idempotency_key: str | None
    fingerprint: bytes | None
    answer_version: int
    previous_id: int | None
    """The transfer before it from the same account."""
    created_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedTransfer:
    """A transfer as it was accepted: only what never changes again, so that its 202 can be written anew."""

    id: UUID
    sequence: int
    kind: TransferKind
    from_account_id: UUID
    to_account_id: UUID
    amount: int
    currency: str
    description: str | None
    created_at: datetime
    answer_version: int
    request_id: str
    replayed: bool = False
    """True when the key had been used for it before, so nothing new was recorded."""


@dataclass(frozen=True, slots=True)
class TransferView:
    """A transfer as it stands, with what decides who may read it. Amounts are minor units."""

    id: UUID
    sequence: int
    kind: TransferKind
    status: TransferStatus
    from_account_id: UUID
    to_account_id: UUID
    amount: int
    currency: str
    description: str | None
    created_at: datetime
    settled_at: datetime | None
    failure_code: ErrorCode | None
    submitted_by: int
    payer_owner_id: int | None
    payee_owner_id: int | None
    failed_index: int | None = None
    """The line of its batch because of which it failed, from 0; None where it did not fail with its batch."""

    def may_be_read_by(self, user_id: int) -> bool:
        """Who submitted it, the payer's owner, and once it is completed the payee's owner."""
        payee_knows = self.status is TransferStatus.COMPLETED and self.payee_owner_id == user_id
        return payee_knows or user_id in (self.submitted_by, self.payer_owner_id)
