"""Cards: their types, their statuses and transitions, the card number and the expiry."""

import re
from calendar import monthrange
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from uuid import UUID

from core.domain.errors import ErrorCode, Kind

BIN = "999999"
"""The first digits of every number. No real issuer has them.

In ISO/IEC 7812-1, a leading 9 is for national standards bodies, and the next three digits are a country code of
ISO 3166-1. The numeric codes 900 to 999 are user-assigned, so no country has 999, and no network routes these numbers.
"""

NUMBER_DIGITS = 16
SERIAL_DIGITS = NUMBER_DIGITS - len(BIN) - 1
LAST_DIGITS = 4
CVC_DIGITS = 3

_NUMBER = re.compile(rf"{BIN}[0-9]{{{NUMBER_DIGITS - len(BIN)}}}")


class CardError(ErrorCode):
    """Errors about cards."""

    CANCELLED = "card_cancelled", Kind.CONFLICT, "The card is cancelled.", "Issue another card."
    NOT_FOUND = "card_not_found", Kind.NOT_FOUND, "Card not found.", "Check the id."
    TOO_MANY = (
        "too_many_cards",
        Kind.CONFLICT,
        "The account already has the maximum number of cards.",
        "Cancel a card that is not needed.",
    )
    TOO_MANY_EVER = (
        "too_many_cards_issued",
        Kind.CONFLICT,
        "The user was issued the maximum number of cards, cancelled ones included.",
        "Use the cards that are left, or ask the bank for more.",
    )


class CardType(StrEnum):
    """What is printed on the card. The two types do not differ otherwise."""

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
"""The whole state machine, each transition with its cause. Freezing can be undone, cancelling cannot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CardView:
    """A card's current state, including the effect of its account's status."""

    id: UUID
    sequence: int
    """Its row id, which gives the order of issue."""
    account_id: UUID
    type: CardType
    own_status: CardStatus
    """The status that its owner has set."""
    account_is_frozen: bool
    last4: str
    expiry: str
    """`YYYY-MM`."""

    @property
    def status(self) -> CardStatus:
        """The effective status: a frozen account freezes its cards while it is frozen, in either scope."""
        if self.account_is_frozen and self.own_status is not CardStatus.CANCELLED:
            return CardStatus.FROZEN
        return self.own_status


def card_number(serial: int) -> str:
    """Make the card number of a serial (0 ≤ serial < 10^9): the BIN, 9 digits, and a check digit.

    The check digit is that of ISO/IEC 7812-1, annex B (Luhn). It detects every mistyped digit and every swapped pair of
    adjacent digits except 09 and 90. Raises ValueError for a serial out of range.
    """
    if not 0 <= serial < 10**SERIAL_DIGITS:
        raise ValueError(f"serial out of range: {serial}")
    body = f"{BIN}{serial:0{SERIAL_DIGITS}d}"
    return f"{body}{-_luhn_sum(body + '0') % 10}"


def is_card_number(text: str) -> bool:
    """Return whether a text has the form of a Giro card number and a correct check digit."""
    return _NUMBER.fullmatch(text) is not None and _luhn_sum(text) % 10 == 0


def masked_number(last4: str) -> str:
    """Write a card number in the form that may be shown: the BIN, stars, and the last four digits."""
    return f"{BIN}{'*' * (NUMBER_DIGITS - len(BIN) - LAST_DIGITS)}{last4}"


def without_card_numbers(text: str) -> str:
    """Mask everything in a text that could be a Giro card number, even with a wrong check digit."""
    return _NUMBER.sub(lambda found: masked_number(found[0][-LAST_DIGITS:]), text)


def expiry_after(today: date, years: int) -> str:
    """Return the expiry month of a card that is issued today, as `YYYY-MM`."""
    return f"{today.year + years:04d}-{today.month:02d}"


def expires_on(expiry: str) -> date:
    """Return the last day on which a card is valid: the last day of its expiry month."""
    year, month = (int(part) for part in expiry.split("-"))
    return date(year, month, monthrange(year, month)[1])


def shown_expiry(expiry: str) -> str:
    """Write an expiry as it is printed on a card: `MM/YY`."""
    return f"{expiry[5:7]}/{expiry[2:4]}"


def _luhn_sum(digits: str) -> int:
    """Add up the digits. Every second digit from the right is doubled, and the digits of the result are added."""
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return sum(doubled) + sum(int(digit) for digit in digits[-1::-2])
