"""Time, in the form in which the database stores it: whole microseconds since 1970 in UTC."""

import time
from datetime import UTC, datetime, timedelta

from core.failpoints import clock_shift_us

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def now_us() -> int:
    """Read the wall clock, in microseconds since the epoch."""
    return time.time_ns() // 1000 + clock_shift_us()


def to_datetime(us: int) -> datetime:
    """Convert microseconds since the epoch to an aware datetime in UTC, exactly (without floats)."""
    return EPOCH + timedelta(microseconds=us)


def to_us(moment: datetime) -> int:
    """Convert an aware datetime to microseconds since the epoch, exactly."""
    return (moment - EPOCH) // timedelta(microseconds=1)
