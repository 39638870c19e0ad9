"""Accounts: their kinds, their statuses, and the account number."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from core.domain.errors import ErrorCode, Kind

COUNTRY = "XG"
"""A user-assigned code of ISO 3166. No country has it, so no Giro number is ever a real IBAN."""

BANK = "GIRO"
NUMBER_DIGITS = 14


class AccountError(ErrorCode):
    """Errors about accounts."""

    CLOSED = "account_closed", Kind.CONFLICT, "The account is closed.", "Use another account."
    FROZEN = "account_frozen", Kind.CONFLICT, "The account is frozen.", "Contact the operator."
    HAS_PENDING = (
        "account_has_pending",
        Kind.CONFLICT,
        "The account has pending transfers.",
        "Wait until they end, or cancel those that you submitted; then close the account.",
    )
    LIMIT_IN_USE = (
        "limit_in_use",
        Kind.CONFLICT,
        "The balance is already below this limit.",
        "Choose a limit that covers the debt.",
    )
    NOT_EMPTY = (
        "account_not_empty",
        Kind.CONFLICT,
        "The balance of the account is not 0.",
        "Transfer the rest to another account, or settle the debt; then close the account.",
    )
    NOT_FOUND = "account_not_found", Kind.NOT_FOUND, "Account not found.", "Check the id or the number."
    TOO_MANY = (
        "too_many_accounts",
        Kind.CONFLICT,
        "You already have the maximum number of accounts.",
        "Use an existing account.",
    )


class AccountKind(StrEnum):
    """Whether an account belongs to a customer or to the bank itself."""

    CUSTOMER = "customer"
    EXTERNAL = "external"
    """The other side of deposits and withdrawals, one per currency, so that a currency's balances sum to 0."""


class AccountStatus(StrEnum):
    """Whether an account can take part in transfers."""

    ACTIVE = "active"
    FROZEN = "frozen"
    CLOSED = "closed"


TRANSITIONS: dict[AccountStatus, dict[AccountStatus, str]] = {
    AccountStatus.ACTIVE: {
        AccountStatus.FROZEN: "by an operator",
        AccountStatus.CLOSED: "by its owner, or when its owner is erased, at balance 0",
    },
    AccountStatus.FROZEN: {AccountStatus.ACTIVE: "by an operator", AccountStatus.FROZEN: "scope changed"},
    AccountStatus.CLOSED: {},
}
"""The whole state machine, each transition with its cause. `closed` is final."""


class FreezeScope(StrEnum):
    """What a frozen account cannot do."""

    DEBIT = "debit"
    """The account can receive money but cannot pay."""
    ALL = "all"
    """The account can neither receive money nor pay."""


@dataclass(frozen=True, slots=True)
class AccountView:
    """An account's current state. Amounts are minor units."""

    id: int
    """Its row id, which gives the order of opening."""
    public_id: UUID
    owner_id: int | None
    """The owner's row id; None for an external account."""
    account_number: str
    kind: AccountKind
    currency: str
    status: AccountStatus
    freeze_scope: FreezeScope | None
    balance: int
    reserved: int
    """The debits of its pending transfers."""
    overdraft_limit: int
    last_transaction_id: int | None
    """The account's newest leg."""
    created_at: datetime
    closed_at: datetime | None

    @property
    def available(self) -> int:
        """How much the account can pay."""
        return self.balance + self.overdraft_limit - self.reserved


class AccountWithOwner(NamedTuple):
    """An account and the public id of its owner, for operators."""

    account: AccountView
    owner_id: UUID | None
    """None for an external account."""


def account_number(serial: int) -> str:
    """Make the account number of a serial (0 ≤ serial < 10^14): `XG`, two check digits, `GIRO`, 14 digits.

    The check digits follow ISO 7064 MOD 97-10, as in ISO 13616 (IBAN), so any IBAN checker detects a mistyped
    digit and nearly every swapped pair of digits. Raises ValueError for a serial out of range.
    """
    if not 0 <= serial < 10**NUMBER_DIGITS:
        raise ValueError(f"serial out of range: {serial}")
    body = f"{BANK}{serial:0{NUMBER_DIGITS}d}"
    check = 98 - _mod_97(f"{body}{COUNTRY}00")
    return f"{COUNTRY}{check:02d}{body}"


def is_account_number(text: str) -> bool:
    """Return whether a text has the form of an account number and correct check digits."""
    head, digits = text[:2] + text[4:8], text[2:4] + text[8:]
    return (
        len(text) == 8 + NUMBER_DIGITS
        and head == COUNTRY + BANK
        and digits.isascii()
        and digits.isdigit()
        and _mod_97(text[4:] + text[:4]) == 1
    )


def _mod_97(text: str) -> int:
    """Read letters as two digits (A = 10 … Z = 35) and take the whole number modulo 97."""
    return int("".join(str(int(character, 36)) for character in text)) % 97
