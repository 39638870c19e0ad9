"""What an account is: its states, and the number people write on paper."""

from enum import StrEnum

COUNTRY = "XG"
"""An ISO 3166 user-assigned code: no country has it, so no Giro number is ever a real IBAN."""

BANK = "GIRO"
NUMBER_DIGITS = 14


class AccountKind(StrEnum):
    """Whose money an account counts."""

    CUSTOMER = "customer"
    EXTERNAL = "external"
    """The other side of deposits and withdrawals, one per currency, so that a currency's balances sum to 0."""


class AccountStatus(StrEnum):
    """Whether an account takes part in transfers."""

    ACTIVE = "active"
    FROZEN = "frozen"
    CLOSED = "closed"


TRANSITIONS: dict[AccountStatus, dict[AccountStatus, str]] = {
    AccountStatus.ACTIVE: {
        AccountStatus.FROZEN: "by an operator",
        AccountStatus.CLOSED: "by its owner, or with the erasure of its owner, with nothing on it",
    },
    AccountStatus.FROZEN: {AccountStatus.ACTIVE: "by an operator", AccountStatus.FROZEN: "another scope"},
    AccountStatus.CLOSED: {},
}
"""The whole state machine, each move with what makes it: nothing leaves `closed`."""


class FreezeScope(StrEnum):
    """What a frozen account cannot do."""

    DEBIT = "debit"
    """It receives, and does not pay."""
    ALL = "all"
    """It neither receives nor pays."""


def account_number(serial: int) -> str:
    """Make the account number of a serial (0 ≤ serial < 10^14): `XG`, two check digits, `GIRO`, 14 digits.

    The check digits follow ISO 7064 MOD 97-10 as in ISO 13616 (IBAN), so any IBAN checker finds a mistyped
    digit and nearly every swapped pair. Raises ValueError for a serial out of range.
    """
    if not 0 <= serial < 10**NUMBER_DIGITS:
        raise ValueError(f"serial out of range: {serial}")
    body = f"{BANK}{serial:0{NUMBER_DIGITS}d}"
    check = 98 - _mod_97(f"{body}{COUNTRY}00")
    return f"{COUNTRY}{check:02d}{body}"


def is_account_number(text: str) -> bool:
    """Say whether a text has the form of an account number and check digits that fit."""
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
