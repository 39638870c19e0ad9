"""Periods: the calendar months of a time zone, without gap and without overlap, for any change of its clocks."""

from datetime import UTC, datetime, timedelta, tzinfo
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from core.clock import EPOCH
from core.domain.statements import FIRST_YEAR, LAST_YEAR, Period

ZONES = (
    "UTC",
    "Africa/Casablanca",
    "Africa/Monrovia",
    "America/Asuncion",
    "America/Goose_Bay",
    "America/Havana",
    "America/New_York",
    "America/St_Johns",
    "Antarctica/Troll",
    "Asia/Gaza",
    "Asia/Kathmandu",
    "Asia/Pyongyang",
    "Australia/Lord_Howe",
    "Europe/Berlin",
    "Europe/Dublin",
    "Pacific/Apia",
    "Pacific/Kiritimati",
    "Pacific/Kwajalein",
    "Pacific/Pago_Pago",
)
"""Whole, half and quarter hours; clocks that change at midnight; days that were skipped."""
TICK = timedelta(microseconds=1)

zones = st.sampled_from(ZONES).map(ZoneInfo)
periods = st.builds(Period, st.integers(FIRST_YEAR, 2100), st.integers(1, 12))
moments = st.timedeltas(timedelta(days=1), timedelta(days=47_000)).map(lambda age: EPOCH + age)


@pytest.mark.parametrize(
    ("label", "zone", "starts_at", "ends_at"),
    [
        # lengths of months
        ("2026-01", "UTC", "2026-01-01 00:00", "2026-02-01 00:00"),
        ("2026-04", "UTC", "2026-04-01 00:00", "2026-05-01 00:00"),
        ("2026-02", "UTC", "2026-02-01 00:00", "2026-03-01 00:00"),
        # leap days: every fourth year, not every hundredth, but every four hundredth
        ("2024-02", "UTC", "2024-02-01 00:00", "2024-03-01 00:00"),
        ("2000-02", "UTC", "2000-02-01 00:00", "2000-03-01 00:00"),
        ("2100-02", "UTC", "2100-02-01 00:00", "2100-03-01 00:00"),
        ("2024-02", "Pacific/Kiritimati", "2024-01-31 10:00", "2024-02-29 10:00"),
        # turns of the year
        ("2025-12", "UTC", "2025-12-01 00:00", "2026-01-01 00:00"),
        ("2026-01", "Europe/Berlin", "2025-12-31 23:00", "2026-01-31 23:00"),
        ("2025-12", "America/New_York", "2025-12-01 05:00", "2026-01-01 05:00"),
        # clocks that change within the month, forward and back
        ("2026-03", "Europe/Berlin", "2026-02-28 23:00", "2026-03-31 22:00"),
        ("2026-10", "Europe/Berlin", "2026-09-30 22:00", "2026-10-31 23:00"),
        ("2026-03", "America/New_York", "2026-03-01 05:00", "2026-04-01 04:00"),
        ("2026-11", "America/New_York", "2026-11-01 04:00", "2026-12-01 05:00"),
        ("2026-04", "Australia/Lord_Howe", "2026-03-31 13:00", "2026-04-30 13:30"),
        # clocks that go forward at midnight of the first: the day begins at one o'clock
        ("2017-10", "America/Asuncion", "2017-10-01 04:00", "2017-11-01 03:00"),
        ("2017-09", "America/Asuncion", "2017-09-01 04:00", "2017-10-01 04:00"),
        ("1986-01", "Asia/Kathmandu", "1985-12-31 18:30", "1986-01-31 18:15"),
        # clocks that go back to midnight of the first: midnight occurs twice, and the day begins with the first one
        ("2026-11", "America/Havana", "2026-11-01 04:00", "2026-12-01 05:00"),
        ("2004-10", "Asia/Gaza", "2004-09-30 21:00", "2004-10-31 22:00"),
        # clocks that went back across midnight of the first, from one minute past
        ("2009-11", "America/St_Johns", "2009-11-01 02:30", "2009-12-01 03:30"),
        ("2009-10", "America/Goose_Bay", "2009-10-01 03:00", "2009-11-01 03:00"),
        # far east and far west
        ("2026-01", "Pacific/Kiritimati", "2025-12-31 10:00", "2026-01-31 10:00"),
        ("2026-01", "Pacific/Pago_Pago", "2026-01-01 11:00", "2026-02-01 11:00"),
        # a month that lacks a day: Samoa went from the 29th to the 31st
        ("2011-12", "Pacific/Apia", "2011-12-01 10:00", "2011-12-31 10:00"),
    ],
)
def test_a_month_begins_and_ends(label: str, zone: str, starts_at: str, ends_at: str) -> None:
    period = Period.parse(label)
    assert period.starts_at(ZoneInfo(zone)) == utc(starts_at)
    assert period.ends_at(ZoneInfo(zone)) == utc(ends_at)
    assert period.starts_at(ZoneInfo(zone)).tzinfo is UTC


@pytest.mark.parametrize(
    ("zone", "moment", "label"),
    [
        ("UTC", "2026-01-31 23:59", "2026-01"),
        ("UTC", "2026-02-01 00:00", "2026-02"),
        ("Europe/Berlin", "2026-03-31 21:59", "2026-03"),
        ("Europe/Berlin", "2026-03-31 22:00", "2026-04"),
        ("America/Asuncion", "2017-10-01 03:59", "2017-09"),
        ("America/Asuncion", "2017-10-01 04:00", "2017-10"),
        ("America/Havana", "2026-11-01 04:30", "2026-11"),
        ("America/Havana", "2026-11-01 05:30", "2026-11"),
        # The clocks of Newfoundland show 31 October again after November has begun.
        ("America/St_Johns", "2009-11-01 02:29", "2009-10"),
        ("America/St_Johns", "2009-11-01 02:30", "2009-11"),
        ("America/St_Johns", "2009-11-01 02:31", "2009-11"),
        ("America/St_Johns", "2009-11-01 03:29", "2009-11"),
        ("America/St_Johns", "2009-11-01 03:30", "2009-11"),
        ("Pacific/Kiritimati", "2025-12-31 10:00", "2026-01"),
        ("Pacific/Pago_Pago", "2026-01-01 10:59", "2025-12"),
    ],
)
def test_an_instant_falls_into_a_month(zone: str, moment: str, label: str) -> None:
    assert str(Period.of(utc(moment), ZoneInfo(zone))) == label


@pytest.mark.parametrize(
    "label",
    [
        "", "2026", "2026-", "2026-1", "2026-00", "2026-13", "26-01", "2026-01-01", "2026/01", "202601", " 2026-01",
        "2026-01 ", "2026-01\n", "-026-01", "+2026-01", "1969-12", "0000-01", "9999-01", "2026-0\u0661", "２０２６-01",
    ],
)  # fmt: skip
def test_an_invalid_month_is_rejected(label: str) -> None:
    with pytest.raises(ValueError, match="must be a month like 2026-11"):
        Period.parse(label)


@pytest.mark.parametrize("label", ["1970-01", "9998-12"])
@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago"])
def test_the_first_and_the_last_month_have_their_limits(label: str, zone: str) -> None:
    period = Period.parse(label)
    assert period.starts_at(ZoneInfo(zone)) < period.ends_at(ZoneInfo(zone))
    assert FIRST_YEAR <= period.year <= LAST_YEAR


@given(periods)
def test_a_label_is_read_as_it_was_written(period: Period) -> None:
    assert Period.parse(str(period)) == period


@given(periods)
def test_following_and_preceding_undo_each_other(period: Period) -> None:
    assert period.following.preceding == period == period.preceding.following
    assert period.preceding < period < period.following


@given(periods, periods)
def test_months_are_ordered_like_their_labels(one: Period, other: Period) -> None:
    assert (one < other) == (str(one) < str(other))


@example(datetime(2009, 11, 1, 3, tzinfo=UTC), ZoneInfo("America/St_Johns"))
@given(moments, zones)
def test_every_instant_lies_in_exactly_one_month(moment: datetime, zone: tzinfo) -> None:
    period = Period.of(moment, zone)
    assert period.starts_at(zone) <= moment < period.ends_at(zone)


@pytest.mark.parametrize("name", ZONES)
def test_months_follow_each_other_without_gap_and_without_overlap(name: str) -> None:
    zone = ZoneInfo(name)
    months = [Period(year, month) for year in range(FIRST_YEAR, 2040) for month in range(1, 13)]
    for period, following in pairwise(months):
        start = following.starts_at(zone)
        assert period.following == following
        assert period.ends_at(zone) == start
        assert timedelta(days=27) < start - period.starts_at(zone) < timedelta(days=32)
        assert (Period.of(start - TICK, zone), Period.of(start, zone)) == (period, following)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
