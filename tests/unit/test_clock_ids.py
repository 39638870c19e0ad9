"""Time without floats, and ids that are ordered by time or derived from numbers."""

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from core.clock import EPOCH, now_us, to_datetime, to_us
from core.ids import new_id, transaction_id

LAST = to_us(datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC))


@given(st.integers(0, LAST))
def test_microseconds_survive_a_round_trip_through_a_datetime(us: int) -> None:
    assert to_us(to_datetime(us)) == us


@given(st.datetimes(min_value=datetime(1970, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001 - the strategy adds UTC
def test_a_datetime_survives_a_round_trip_through_microseconds(moment: datetime) -> None:
    assert to_datetime(to_us(moment)) == moment


def test_one_moment_is_one_number_in_every_time_zone() -> None:
    noon = datetime(2026, 7, 1, 12, tzinfo=UTC)
    assert to_us(noon.astimezone(timezone(timedelta(hours=5, minutes=30)))) == to_us(noon)


def test_times_from_the_database_are_in_utc() -> None:
    assert to_datetime(0) == EPOCH
    assert to_datetime(1).tzinfo is UTC


def test_the_clock_reads_the_present_in_microseconds() -> None:
    assert abs(to_datetime(now_us()) - datetime.now(UTC)) < timedelta(seconds=5)


def test_ids_are_of_version_7_unique_and_contain_the_time() -> None:
    before = now_us() // 1000
    ids = [new_id() for _ in range(1000)]
    after = now_us() // 1000
    assert len(set(ids)) == 1000
    assert {item.version for item in ids} == {7}
    assert all(before <= item.int >> 80 <= after for item in ids)


def test_later_ids_sort_after_earlier_ones() -> None:
    ids = [new_id() for _ in range(1000)]
    assert ids == sorted(ids)


def test_a_transactions_id_is_derived_from_its_number_only() -> None:
    ids = [transaction_id(number) for number in range(1, 1000)]
    assert len(set(ids)) == 999
    assert {item.version for item in ids} == {5}
    assert transaction_id(1) == ids[0]


def test_the_id_of_the_first_transaction_never_changes() -> None:
    assert str(transaction_id(1)) == "c9bd4746-490b-5aa4-a8fb-1ffe4db9783c"
