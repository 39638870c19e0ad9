"""Wording that all documents share: days, months, account numbers, amounts, and the end of a statement."""

from calendar import monthrange
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from core.domain.money import decimal_string
from core.domain.statements import Period, StatementStatus, StatementView

MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
"""Not taken from `calendar`, whose names depend on the locale of the process."""


def is_provisional(statement: StatementView) -> bool:
    """Return whether transactions can still be missing from a statement."""
    return statement.status is StatementStatus.PROVISIONAL


def reaches_until(statement: StatementView) -> datetime:
    """Find the instant of its closing balance: the end of the month, or when a provisional statement was computed."""
    if not is_provisional(statement):
        return statement.ends_at
    return max(statement.starts_at, min(statement.made_at, statement.ends_at))


def last_second(statement: StatementView) -> datetime:
    """Find the last whole second that it covers. `ends_at` itself belongs to the next month."""
    return min(reaches_until(statement), statement.ends_at - timedelta(seconds=1))


def local(moment: datetime, statement: StatementView) -> datetime:
    """Convert an instant to the statement's time zone."""
    return moment.astimezone(ZoneInfo(statement.time_zone))


def day(moment: datetime) -> str:
    """Write a day: `4 Oct 2026`."""
    return f"{moment.day} {MONTHS[moment.month - 1][:3]} {moment.year}"


def day_and_time(moment: datetime) -> str:
    """Write a minute: `4 October 2026, 09:30`."""
    return f"{moment.day} {MONTHS[moment.month - 1]} {moment.year}, {moment:%H:%M}"


def days_of(period: Period) -> str:
    """Write a month: `1 to 31 October 2026`."""
    return f"1 to {monthrange(period.year, period.month)[1]} {MONTHS[period.month - 1]} {period.year}"


def in_fours(account_number: str) -> str:
    """Write an account number in groups of four, as IBANs are printed (ISO 13616)."""
    return " ".join(account_number[start : start + 4] for start in range(0, len(account_number), 4))


def separated(amount: int, currency: str) -> str:
    """Write minor units for people, with the currency's decimals: -123456 USD is `-1,234.56`."""
    whole, point, decimals = decimal_string(abs(amount), currency).partition(".")
    return f"{'-' if amount < 0 else ''}{int(whole):,}{point}{decimals}"
