"""A clock that tests set: the months that statements are about lie in the past."""

import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

import core.clock
import core.security.access_tokens
from core.clock import to_us


class Clock:
    """What every part of this process takes for the time. It stands still until it is moved."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def set(self, *date: int) -> datetime:
        """Go to a date and time in UTC: year, month, day, hour, minute, second."""
        self.now = datetime(*date, tzinfo=UTC)  # type: ignore[misc,arg-type]
        return self.now

    def advance(self, **by: float) -> datetime:
        """Go forward by hours, days …"""
        self.now += timedelta(**by)
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that stands at noon of 15 January 2026. Tokens go by the real one, as what checks them does."""
    monkeypatch.setattr(core.security.access_tokens, "now_us", lambda: time.time_ns() // 1000)
    clock = Clock(datetime(2026, 1, 15, 12, tzinfo=UTC))
    monkeypatch.setattr(core.clock, "time", SimpleNamespace(time_ns=lambda: to_us(clock.now) * 1000))
    return clock
