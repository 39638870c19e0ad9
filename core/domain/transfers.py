"""Transfers: their kinds, their statuses, and the transitions between them."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from core.domain.accounts import AccountError
from core.domain.errors import ErrorCode, Kind, Part, Refusal

MAX_DESCRIPTION = 140
"""Maximum number of characters in a description, as in a SEPA remittance line."""

MAX_IDEMPOTENCY_KEY = 255


class TransferError(ErrorCode):
    """Errors about transfers and their idempotency keys."""

    BALANCE_LIMIT_EXCEEDED = (
        "balance_limit_exceeded",
        Kind.REFUSED,
        "The balance would leave the range that an account can hold.",
        "Send a smaller amount.",
    )
    CURRENCY_MISMATCH = (
        "currency_mismatch",
        Kind.REFUSED,
        "The currencies differ.",
        "Use accounts of one currency, or fix `currency`.",
    )
    INSUFFICIENT_FUNDS = (
        "insufficient_funds",
        Kind.REFUSED,
        "The available funds do not cover the amount.",
        "Wait until the account has money (the same key can be used), or send a smaller amount.",
    )
    KEY_INVALID = (
        "idempotency_key_invalid",
        Kind.REFUSED,
        "An idempotency key must have 1 to 255 visible ASCII characters.",
        "Send one key of 1 to 255 visible ASCII characters.",
    )
    KEY_MISSING = (
        "idempotency_key_missing",
        Kind.REFUSED,
        "This call requires an Idempotency-Key header.",
        "Send a key.",
    )
    KEY_REUSED = (
        "idempotency_key_reused",
        Kind.INVALID,
        "This idempotency key was already used for a different request.",
        "Find out which request you mean. Give a different request its own key.",
    )
    NOT_CANCELLABLE = (
        "transfer_not_cancellable",
        Kind.CONFLICT,
        "The transfer has already ended.",
        "Read its status. Do not repeat the request.",
    )
    NOT_FOUND = "transfer_not_found", Kind.NOT_FOUND, "Transfer not found.", "Check the id."
    PAYEE_CANNOT_RECEIVE = (
        "payee_cannot_receive",
        Kind.CONFLICT,
        "The payee's account cannot receive this transfer.",
        "Ask the payee for another account.",
    )
    PAYEE_CLOSED = "payee_closed", None, "The payee's account is closed.", "Use another account."
    PAYEE_FROZEN = "payee_frozen", None, "The payee's account is frozen.", "Contact the operator."
    OWNER_INACTIVE = "owner_inactive", None, "The owner of the account is deactivated.", "Contact the operator."
    SAME_ACCOUNT = (
        "same_account",
        Kind.REFUSED,
        "A transfer needs two different accounts.",
        "Choose two different accounts.",
    )
    TOO_MANY_PENDING = (
        "too_many_pending",
        Kind.TOO_MANY,
        "Too many transfers of the payer are waiting to be settled. Nothing was recorded.",
        "Wait `Retry-After` seconds, then retry with the same key.",
    )


ABOUT_PAYEES: dict[ErrorCode, ErrorCode] = {
    TransferError.PAYEE_CLOSED: AccountError.CLOSED,
    TransferError.PAYEE_FROZEN: AccountError.FROZEN,
}
"""The ledger's reasons that tell the state of a payee's account, and the codes of the same states of one's own."""


class TransferKind(StrEnum):
    """Which accounts the money moves between."""

    TRANSFER = "transfer"
    """Between two customers' accounts."""
    DEPOSIT = "deposit"
    """From the currency's external account to a customer's."""
    WITHDRAWAL = "withdrawal"
    """From a customer's account to the currency's external one."""


class TransferStatus(StrEnum):
    """The status of a transfer. All but `pending` are terminal."""

    PENDING = "pending"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


def as_told(code: ErrorCode, kind: TransferKind, *, is_own: bool) -> ErrorCode:
    """Return the ledger's reason as a client is told it: a customer learns no state of another customer's account.

    `is_own` says whether the payee's account is the submitter's. Operators, who submit deposits, learn it too.
    """
    if code not in ABOUT_PAYEES:
        return code
    may_know = is_own or kind is not TransferKind.TRANSFER
    return ABOUT_PAYEES[code] if may_know else TransferError.PAYEE_CANNOT_RECEIVE


def may_be_a_guess(refusal: Refusal) -> bool:
    """Return whether a refused transfer may have been sent to find out something about a stranger's account."""
    names_payee = refusal.about in (Part.PAYEE, Part.PAYEE_NUMBER)
    return names_payee and refusal.code in (AccountError.NOT_FOUND, TransferError.PAYEE_CANNOT_RECEIVE)


TRANSITIONS: dict[TransferStatus, dict[TransferStatus, str]] = {
    TransferStatus.PENDING: {
        TransferStatus.COMPLETED: "settled",
        TransferStatus.FAILED: "could not be settled",
        TransferStatus.CANCELLED: "by its submitter",
    },
    TransferStatus.COMPLETED: {},
    TransferStatus.FAILED: {},
    TransferStatus.CANCELLED: {},
}
"""The whole state machine, each transition with its cause. A transfer leaves `pending` once; all others are final."""


class TransferRequest(NamedTuple):
    """An order to move money. Its form has been checked, the funds have not.

    `payer` is None for a deposit, and `payee` is None for a withdrawal: the external account takes their place.
    `fingerprint` is a digest of the request as it was sent. It is set if `idempotency_key` is set.
    """

    kind: TransferKind
    submitted_by: int
    payer: UUID | None
    payee: UUID | str | None
    """The payee's account id, or its account number."""
    amount: int
    """Minor units, 1 … 10^15."""
    currency: str | None
    """The currency that the client expects. None if the client gave none; then the accounts determine it."""
    description: str | None
    idempotency_key: str | None
    fingerprint: bytes | None
    request_id: str
    former_fingerprint: bytes | None = None
    """The digest that an older release made of the same request, if that release kept what is removed now."""
    address: str | None = None
    """Address that a deposit or a withdrawal was ordered from, for the audit log. None for a command on the machine."""


class Terms(NamedTuple):
    """The part of a transfer that never changes, as it is stored. Times are microseconds since the epoch."""

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
    """The previous transfer from the same account."""
    created_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedTransfer:
    """A transfer as it was accepted. It holds only what never changes, so that its 202 can be written again."""

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
    """True if the key had been used for this transfer before, so nothing new was recorded."""


@dataclass(frozen=True, slots=True)
class TransferView:
    """A transfer's current state, with the user ids that decide who may read it. Amounts are minor units."""

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
    """Index (from 0) of the line that made its atomic batch fail. None if it did not fail with its batch."""

    @property
    def failure_told(self) -> ErrorCode | None:
        """The reason of its failure, as its submitter and its payer are told."""
        if self.failure_code is None:
            return None
        return as_told(self.failure_code, self.kind, is_own=self.payee_owner_id == self.submitted_by)

    def may_be_read_by(self, user_id: int) -> bool:
        """Return whether a user may read it: the submitter, the payer's owner or, once completed, the payee's owner."""
        payee_knows = self.status is TransferStatus.COMPLETED and self.payee_owner_id == user_id
        return payee_knows or user_id in (self.submitted_by, self.payer_owner_id)
