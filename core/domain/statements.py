"""Statements: the month that a statement covers, and its content for one account."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from enum import StrEnum
from typing import Self
from uuid import UUID

from core.domain.errors import ErrorCode, Kind

FIRST_YEAR = 1970
LAST_YEAR = 9998
"""Months outside these years are invalid, because the clock cannot represent their ends."""

_LABEL = re.compile(r"([0-9]{4})-(0[1-9]|1[0-2])")


class StatementError(ErrorCode):
    """Errors about statements."""

    NOT_FOUND = "statement_not_found", Kind.NOT_FOUND, "Statement not found.", "Check the id or the month."
    PENDING = (
        "statement_pending",
        Kind.CONFLICT,
        "The statement is not ready yet. Try again soon.",
        "Retry soon, or read its JSON.",
    )
    TOO_LARGE = (
        "statement_too_large",
        Kind.CONFLICT,
        "The statement has too many transactions for one document. Page through its JSON.",
        "Read the pages of its JSON.",
    )


class StatementStatus(StrEnum):
    """How final a statement is."""

    PENDING = "pending"
    """Requested, and not made yet."""
    FINAL = "final"
    """Made, and never changed again."""
    PROVISIONAL = "provisional"
    """Computed for this answer. Later transactions of the month are missing."""


@dataclass(frozen=True, slots=True, order=True)
class Period:
    """A calendar month in the bank's time zone, from its first instant to the first instant of the next month."""

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
        """Find the month that contains an instant."""
        local = moment.astimezone(zone)
        period = cls(local.year, local.month)
        # If the clocks go back over midnight, they show the previous month again after this month has begun.
        following = cls(local.year + local.month // 12, local.month % 12 + 1)
        return following if following.starts_at(zone) <= moment else period

    def __str__(self) -> str:
        return f"{self.year:04d}-{self.month:02d}"

    @property
    def following(self) -> "Period":
        """The next month."""
        return Period(self.year + self.month // 12, self.month % 12 + 1)

    @property
    def preceding(self) -> "Period":
        """The previous month."""
        return Period(self.year - (self.month == 1), (self.month - 2) % 12 + 1)

    def starts_at(self, zone: tzinfo) -> datetime:
        """Find its first instant, in UTC.

        If the clocks go forward at midnight, the month begins with the first local time that exists. If they go back
        over midnight, it begins with the first of the two midnights (PEP 495: `fold` is 0).
        """
        return datetime(self.year, self.month, 1, tzinfo=zone).astimezone(UTC)

    def ends_at(self, zone: tzinfo) -> datetime:
        """Find the first instant after it, in UTC."""
        return self.following.starts_at(zone)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The totals of an account's legs in a span of time. Amounts are minor units."""

    opening_balance: int
    closing_balance: int
    total_credits: int
    total_debits: int
    """Not negative."""
    transaction_count: int
    opening_transaction_id: int | None
    """The account's last leg before the span."""
    closing_transaction_id: int | None
    """The account's last leg in the span. If the span has no legs, the same as `opening_transaction_id`."""

    @property
    def add_up(self) -> bool:
        """True if the opening balance, the credits and the debits add up to the closing balance."""
        return self.opening_balance + self.total_credits - self.total_debits == self.closing_balance


@dataclass(frozen=True, slots=True)
class Run:
    """A finished month, and the progress of its statements."""

    id: int
    period: Period
    time_zone: str
    """IANA name of the time zone of the month."""
    starts_at: datetime
    ends_at: datetime
    """The first instant after the month."""
    opened_at: datetime
    group_count: int
    groups_done: int
    statements: int
    """Number of statements made so far."""
    finished_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BankDetails:
    """The bank's details on its statements."""

    name: str
    address: str | None
    """One line."""
    bic: str | None
    """ISO 9362."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingStatement:
    """A statement that was requested and is not made yet."""

    id: UUID
    account_id: UUID
    period: Period
    currency: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementView:
    """The statement of an account for a month, without its transactions. Amounts are minor units."""

    id: UUID | None
    """None if the statement is provisional."""
    status: StatementStatus
    number: int | None
    """Counts an account's statements from 1. None if the statement is provisional."""
    account_id: UUID
    account_number: str
    holder: str
    """The owner's name, or the e-mail address if the owner has given no name."""
    bank: BankDetails
    period: Period
    time_zone: str
    """IANA name of the time zone of the month."""
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
    """When it was made or, if it is provisional, computed."""


@dataclass(frozen=True, slots=True)
class StoredStatement:
    """A statement that was made or requested, with the row ids that connect it to its account's legs."""

    statement: StatementView | PendingStatement
    run_id: int
    account_id: int
    opening_transaction_id: int | None
    closing_transaction_id: int | None
