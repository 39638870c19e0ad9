"""What a statement is: the month it covers, and what it says about one account in that month."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from enum import StrEnum
from typing import Self
from uuid import UUID

FIRST_YEAR = 1970
LAST_YEAR = 9998
"""Months outside these years are no periods: the clock cannot name their ends."""

_LABEL = re.compile(r"([0-9]{4})-(0[1-9]|1[0-2])")


class StatementStatus(StrEnum):
    """How far a statement can be relied on."""

    PENDING = "pending"
    """Asked for, and about to be made."""
    FINAL = "final"
    """Made once, and never changed."""
    PROVISIONAL = "provisional"
    """Computed for the answer; what comes later in the month is missing."""


@dataclass(frozen=True, slots=True, order=True)
class Period:
    """A calendar month of the bank's time zone: from its first instant to the first one of the month after it."""

    year: int
    month: int

    @classmethod
    def parse(cls, label: str) -> Self:
        """Read a label like `2026-11`; raises ValueError for anything else."""
        match = _LABEL.fullmatch(label)
        if not match or not FIRST_YEAR <= int(match[1]) <= LAST_YEAR:
            raise ValueError("must be a month like 2026-11")
        return cls(int(match[1]), int(match[2]))

    @classmethod
    def of(cls, moment: datetime, zone: tzinfo) -> Self:
        """Find the month that an instant falls into."""
        local = moment.astimezone(zone)
        period = cls(local.year, local.month)
        # Where the clocks go back over midnight, they show the month before again after this one has begun.
        following = cls(local.year + local.month // 12, local.month % 12 + 1)
        return following if following.starts_at(zone) <= moment else period

    def __str__(self) -> str:
        return f"{self.year:04d}-{self.month:02d}"

    @property
    def following(self) -> "Period":
        """The month after this one."""
        return Period(self.year + self.month // 12, self.month % 12 + 1)

    @property
    def preceding(self) -> "Period":
        """The month before this one."""
        return Period(self.year - (self.month == 1), (self.month - 2) % 12 + 1)

    def starts_at(self, zone: tzinfo) -> datetime:
        """Find its first instant, in UTC.

        Where the clocks go forward at midnight, the month begins with the first instant that has a name; where they
        go back over midnight, it begins with the first of the two (PEP 495: `fold` is 0).
        """
        return datetime(self.year, self.month, 1, tzinfo=zone).astimezone(UTC)

    def ends_at(self, zone: tzinfo) -> datetime:
        """Find the first instant that is no longer part of it, in UTC."""
        return self.following.starts_at(zone)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What an account's legs make of a span of time. Amounts are minor units."""

    opening_balance: int
    closing_balance: int
    total_credits: int
    total_debits: int
    """Not negative."""
    transaction_count: int
    opening_transaction_id: int | None
    """The account's last leg before the span."""
    closing_transaction_id: int | None
    """The last one in it; the same where it has none."""

    @property
    def add_up(self) -> bool:
        """True when what came in and what went out lead from the opening balance to the closing one."""
        return self.opening_balance + self.total_credits - self.total_debits == self.closing_balance


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A finished month, and how far its statements are."""

    id: int
    period: Period
    time_zone: str
    """IANA name of the zone that the month was counted in."""
    starts_at: datetime
    ends_at: datetime
    """The first instant after the month."""
    opened_at: datetime
    group_count: int
    groups_done: int
    statements: int
    """Statements made so far."""
    finished_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BankDetails:
    """The bank as its statements name it."""

    name: str
    address: str | None
    """One line."""
    bic: str | None
    """ISO 9362."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingStatement:
    """A statement that was asked for and is not made yet."""

    id: UUID
    account_id: UUID
    period: Period
    currency: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementView:
    """An account's month: all that its document says but the transactions. Amounts are minor units."""

    id: UUID | None
    """None while it is provisional."""
    status: StatementStatus
    number: int | None
    """Counts an account's statements from 1; None while it is provisional."""
    account_id: UUID
    account_number: str
    holder: str
    """The owner's name, or the e-mail address of one who gave none."""
    bank: BankDetails
    period: Period
    time_zone: str
    """IANA name of the zone that the month was counted in."""
    starts_at: datetime
    ends_at: datetime
    """The first instant after the month."""
    currency: str
    opening_balance: int
    closing_balance: int
    total_credits: int
    total_debits: int
    """Not negative: opening_balance + total_credits - total_debits = closing_balance."""
    transaction_count: int
    made_at: datetime
    """When it was made; when it was computed, while it is provisional."""
