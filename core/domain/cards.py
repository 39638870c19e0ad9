"""What a card is: its kinds, its statuses and the moves between them, its number and its expiry."""

import re
from calendar import monthrange
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from uuid import UUID

BIN = "999999"
"""The first digits of every number, which no real issuer has.

ISO/IEC 7812-1: a leading 9 is for national standards bodies, and the three digits after it are a country's code of
ISO 3166-1. Its numeric codes 900 to 999 are left to users, so no country has 999, and no network routes these numbers.
"""

NUMBER_DIGITS = 16
SERIAL_DIGITS = NUMBER_DIGITS - len(BIN) - 1
LAST_DIGITS = 4
CVC_DIGITS = 3

_NUMBER = re.compile(rf"{BIN}[0-9]{{{NUMBER_DIGITS - len(BIN)}}}")


class CardType(StrEnum):
    """What is printed on the card. Nothing else differs between the two."""

    DEBIT = "debit"
    CREDIT = "credit"


class CardStatus(StrEnum):
    """Whether a card can be used."""

    ACTIVE = "active"
    FROZEN = "frozen"
    CANCELLED = "cancelled"


TRANSITIONS: dict[CardStatus, dict[CardStatus, str]] = {
    CardStatus.ACTIVE: {
        CardStatus.FROZEN: "by its owner",
        CardStatus.CANCELLED: "by its owner, or with its account",
    },
    CardStatus.FROZEN: {
        CardStatus.ACTIVE: "by its owner",
        CardStatus.CANCELLED: "by its owner, or with its account",
    },
    CardStatus.CANCELLED: {},
}
"""The whole state machine, each move with what makes it: freezing can be undone, cancelling cannot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CardView:
    """A card as it stands, with what its account's state makes of it."""

    id: UUID
    sequence: int
    """Its row id: the order of issue."""
    account_id: UUID
    type: CardType
    own_status: CardStatus
    """What its owner has made of it."""
    account_is_frozen: bool
    last4: str
    expiry: str
    """`YYYY-MM`."""

    @property
    def status(self) -> CardStatus:
        """What counts: a frozen account freezes its cards, in either scope, for as long as it lasts."""
        if self.account_is_frozen and self.own_status is not CardStatus.CANCELLED:
            return CardStatus.FROZEN
        return self.own_status


def card_number(serial: int) -> str:
    """Make the number of a serial (0 ≤ serial < 10^9): the BIN, 9 digits, and a check digit.

    The check digit is that of ISO/IEC 7812-1, annex B (Luhn): it finds every mistyped digit and every swapped pair of
    neighbours but 09 and 90. Raises ValueError for a serial out of range.
    """
    if not 0 <= serial < 10**SERIAL_DIGITS:
        raise ValueError(f"serial out of range: {serial}")
    body = f"{BIN}{serial:0{SERIAL_DIGITS}d}"
    return f"{body}{-_luhn_sum(body + '0') % 10}"


def is_card_number(text: str) -> bool:
    """Say whether a text has the form of a card number of ours and a check digit that fits."""
    return _NUMBER.fullmatch(text) is not None and _luhn_sum(text) % 10 == 0


def masked_number(last4: str) -> str:
    """Write a number as it may be shown: the BIN, stars, and the last four digits."""
    return f"{BIN}{'*' * (NUMBER_DIGITS - len(BIN) - LAST_DIGITS)}{last4}"


def without_card_numbers(text: str) -> str:
    """Mask whatever in a text could be a card number of ours, wrong check digits included."""
    return _NUMBER.sub(lambda found: masked_number(found[0][-LAST_DIGITS:]), text)


def expiry_after(today: date, years: int) -> str:
    """Say until which month a card issued today is good, as `YYYY-MM`."""
    return f"{today.year + years:04d}-{today.month:02d}"


def expires_on(expiry: str) -> date:
    """Find the last day on which a card is good: the last of its expiry's month."""
    year, month = (int(part) for part in expiry.split("-"))
    return date(year, month, monthrange(year, month)[1])


def shown_expiry(expiry: str) -> str:
    """Write an expiry as it stands on a card: `MM/YY`."""
    return f"{expiry[5:7]}/{expiry[2:4]}"


def _luhn_sum(digits: str) -> int:
    """Add the digits up, every second one from the right doubled and its own digits added."""
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return sum(doubled) + sum(int(digit) for digit in digits[-1::-2])
