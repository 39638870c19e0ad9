"""A clock that tests set, because the months of statements are in the past."""

import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

import core.clock
import core.security.access_tokens
from core.clock import to_us


class Clock:
    """The time for every part of this process. It changes only when a test changes it."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def set(self, *date: int) -> datetime:
        """Set the date and time in UTC: year, month, day, hour, minute, second."""
        self.now = datetime(*date, tzinfo=UTC)  # type: ignore[misc,arg-type]
        return self.now

    def advance(self, **by: float) -> datetime:
        """Advance by hours, days …"""
        self.now += timedelta(**by)
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock set to noon of 15 January 2026. Tokens use the real clock, because the library that checks them does."""
    monkeypatch.setattr(core.security.access_tokens, "now_us", lambda: time.time_ns() // 1000)
    clock = Clock(datetime(2026, 1, 15, 12, tzinfo=UTC))
    monkeypatch.setattr(core.clock, "time", SimpleNamespace(time_ns=lambda: to_us(clock.now) * 1000))
    return clock
