"""Time, in the form in which the database stores it: whole microseconds since 1970 in UTC."""

import sys
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from core.failpoints import clock_shift_us

_read_ns = time.clock_gettime_ns
_SINCE_START = time.CLOCK_BOOTTIME if sys.platform == "linux" else time.CLOCK_MONOTONIC
"""On Linux it also counts the time that the machine slept."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

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


def uptime_us() -> int:
    """Return the microseconds since the machine's start. Nobody can set this clock."""
    return _read_ns(_SINCE_START) // 1000


@cache
def boot_id() -> str:
    """Return the kernel's name for this start of the machine, the same in all its containers; empty if unknown."""
    with suppress(OSError):
        return _BOOT_ID.read_text().strip()
    return ""
