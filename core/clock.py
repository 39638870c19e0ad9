"""Time, in the one form that the database keeps it: whole microseconds since 1970 in UTC."""

import time
from datetime import UTC, datetime, timedelta

from core.failpoints import clock_shift_us

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def now_us() -> int:
    """Read the wall clock: microseconds since the epoch."""
    return time.time_ns() // 1000 + clock_shift_us()


def to_datetime(us: int) -> datetime:
    """Turn microseconds since the epoch into an aware datetime in UTC, exactly (no float on the way)."""
    return EPOCH + timedelta(microseconds=us)


def to_us(moment: datetime) -> int:
    """Turn an aware datetime into microseconds since the epoch, exactly."""
    return (moment - EPOCH) // timedelta(microseconds=1)
