"""Accounts: their kinds, their statuses, and the account number."""

from enum import StrEnum

COUNTRY = "XG"
"""A user-assigned code of ISO 3166. No country has it, so no Giro number is ever a real IBAN."""

BANK = "GIRO"
NUMBER_DIGITS = 14


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
