"""Wrong clocks, repeated jobs, racing workers: every leg is in one statement, and every statement is made once."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

import core.clock
from core.clock import to_us
from core.services import accounts
from core.services.statements import making
from core.services.verification import verify
from core.settings import Settings
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests.builders import (
    accepted,
    account_row,
    add_user,
    bank_of_two,
    from_ada_to_bob,
    from_bob_to_ada,
    fund,
    open_account,
    rows,
    settle_all,
)
from tests.months import (
    BANK,
    close_months,
    figures,
    make_statements,
    months_of,
    partition_of_legs,
    runs,
    statements_of,
    undone_groups,
    work_off,
)
from tests.time_travel import Clock
from tests.waiting import eventually

# --- wrong clocks ---


def test_money_that_settles_while_the_month_closes_is_in_exactly_one_month(database: Database, clock: Clock) -> None:
    bank = bank_of_two(database, ada_has=1000)
    midnight = clock.set(2026, 2, 1)
    close_months(database)
    clock.advance(seconds=-5)  # a worker whose clock is behind
    accepted(database, from_ada_to_bob(bank, 300))
    settle_all(database)
    work_off(database)
    (leg,) = rows(database, "SELECT posted_at FROM transactions WHERE amount = -300")
    assert leg["posted_at"] == to_us(midnight)
    assert statements_of(database, bank.ada_account)[0]["closing_balance"] == 1000
    assert verify(database).holds


def test_a_clock_that_goes_back_closes_nothing_and_loses_nothing(database: Database, clock: Clock) -> None:
    bank = bank_of_two(database, ada_has=1000)
    clock.set(2026, 3, 1)
    assert make_statements(database) == 4
    clock.set(2026, 1, 20)
    fund(database, bank.ada_account, 5)
    assert close_months(database) == 0
    clock.set(2026, 4, 1)
    make_statements(database)
    assert figures(statements_of(database, bank.ada_account)[2]) == (1000, 1005, "5", "0", 1)
    assert verify(database).holds


def test_an_account_opened_before_the_clock_went_back_has_all_its_legs_in_statements(
    database: Database, clock: Clock
) -> None:
    bank_of_two(database)
    clock.set(2026, 2, 5)
    with unit_of_work(database) as connection:
        account = open_account(connection, add_user(connection))
    clock.set(2026, 1, 20)
    fund(database, account, 5)
    clock.set(2026, 3, 1)
    make_statements(database)
    assert [figures(row) for row in statements_of(database, account)] == [(0, 5, "5", "0", 1)]
    assert verify(database).holds


def test_an_account_opened_with_a_slow_clock_opens_in_a_month_that_is_not_closed(
    database: Database, clock: Clock
) -> None:
    bank_of_two(database)
    clock.set(2026, 2, 1)
    make_statements(database)
    clock.advance(seconds=-5)
    with unit_of_work(database) as connection:
        account = open_account(connection, add_user(connection))
    clock.set(2026, 3, 1)
    make_statements(database)
    assert months_of(database, account) == ["2026-02"]


def test_an_account_closed_with_a_slow_clock_has_all_its_legs_in_statements(database: Database, clock: Clock) -> None:
    bank = bank_of_two(database, ada_has=1000)
    clock.set(2026, 2, 1)
    close_months(database)
    clock.advance(seconds=-5)
    accepted(database, from_ada_to_bob(bank, 1000))
    settle_all(database)
    with unit_of_work(database) as connection:
        accounts.close_account(connection, user_id=bank.ada.id, account_id=bank.ada_account)
    clock.set(2026, 4, 1)
    make_statements(database)
    assert months_of(database, bank.ada_account) == ["2026-01", "2026-02"]
    assert all(len(months) == 1 for months in partition_of_legs(database).values())
    assert verify(database).holds


# --- exactly once ---


def test_jobs_that_run_twice_make_every_statement_once(database: Database, clock: Clock) -> None:
    bank_of_two(database, ada_has=1000)
    clock.set(2026, 4, 1)
    close_months(database, group=1)
    groups = undone_groups(database)
    made = [making.make_group(database, BANK, group) for group in groups]
    before = rows(database, "SELECT * FROM statements"), runs(database)
    assert [making.make_group(database, BANK, group) for group in groups] == [0] * len(groups)
    assert (rows(database, "SELECT * FROM statements"), runs(database)) == before
    assert sum(made) == 6


def test_groups_in_the_wrong_order_make_every_statement_once_and_in_order(database: Database, clock: Clock) -> None:
    bank = bank_of_two(database, ada_has=1000)
    clock.set(2026, 4, 1)
    close_months(database)
    made = [making.make_group(database, BANK, group) for group in reversed(undone_groups(database))]
    assert made == [6, 0, 0]
    assert [row["number"] for row in statements_of(database, bank.ada_account)] == [1, 2, 3]
    assert [run["statements"] for run in runs(database)] == [2, 2, 2]
    assert all(run["finished_at"] for run in runs(database))
    assert verify(database).holds


@pytest.mark.parametrize("group", [0, -1, 999, 2**63 - 1])
def test_a_missing_group_makes_nothing(database: Database, clock: Clock, group: int) -> None:
    bank_of_two(database)
    clock.set(2026, 2, 1)
    close_months(database)
    assert making.make_group(database, BANK, group) == 0
    assert making.make_one(database, BANK, group) == 0
    assert rows(database, "SELECT id FROM statements") == []


def test_two_workers_on_one_group_make_every_statement_once(
    database: Database, settings: Settings, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank = bank_of_two(database, ada_has=1000)
    clock.set(2026, 4, 1)
    close_months(database)
    both_have_computed = threading.Barrier(2, timeout=20)

    @contextmanager
    def after_both_have_computed(chosen: Database) -> Iterator[Any]:
        both_have_computed.wait()
        with unit_of_work(chosen) as connection:
            yield connection

    monkeypatch.setattr(making, "unit_of_work", after_both_have_computed)
    first, second = Database(settings), Database(settings)
    group = undone_groups(database)[-1]
    with ThreadPoolExecutor(2) as threads:
        made = list(threads.map(lambda chosen: making.make_group(chosen, BANK, group), (first, second)))
    first.close()
    second.close()
    assert sorted(made) == [0, 6]
    assert [run["statements"] for run in runs(database)] == [2, 2, 2]
    assert [run["groups_done"] for run in runs(database)] == [0, 0, 1]
    assert [row["number"] for row in statements_of(database, bank.ada_account)] == [1, 2, 3]
    assert verify(database).holds


def test_a_month_that_two_workers_close_at_once_is_closed_once(
    database: Database, settings: Settings, clock: Clock
) -> None:
    bank_of_two(database)
    clock.set(2026, 4, 1)
    both = [Database(settings), Database(settings)]
    start = threading.Barrier(2, timeout=20)

    def close(chosen: Database) -> int:
        start.wait()
        return close_months(chosen)

    with ThreadPoolExecutor(2) as threads:
        assert sorted(threads.map(close, both)) == [0, 3]
    for chosen in both:
        chosen.close()
    assert len(runs(database)) == 3


@pytest.mark.parametrize("lag_ms", [0, 20])
def test_a_worker_that_settles_while_months_close_puts_every_leg_into_exactly_one(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch, clock: Clock, lag_ms: int
) -> None:
    """The worker's clock is slow by `lag_ms`: for a moment after midnight, it is still in the month before."""
    bank = bank_of_two(database, ada_has=10_000, bob_has=10_000)
    other, settled, stop = Database(settings), [0], threading.Event()

    def settle_on_and_on() -> None:
        while not stop.is_set():
            accepted(other, from_ada_to_bob(bank, 3))
            accepted(other, from_bob_to_ada(bank, 2))
            settled[0] += settle_all(other)

    worker = threading.Thread(target=settle_on_and_on)

    def time_ns() -> int:
        lag = timedelta(milliseconds=lag_ms if threading.current_thread() is worker else 0)
        return to_us(clock.now - lag) * 1000

    monkeypatch.setattr(core.clock, "time", SimpleNamespace(time_ns=time_ns))
    worker.start()
    try:
        for month in range(2, 8):
            for moment in (clock.set(2026, month, 1) - timedelta(milliseconds=1), clock.set(2026, month, 1)):
                clock.now = moment
                before = settled[0]
                make_statements(database)
                eventually(lambda before=before: settled[0] > before + 1)  # type: ignore[misc]
    finally:
        stop.set()
        worker.join()
        other.close()
    clock.set(2026, 8, 1)
    make_statements(database)
    assert len(runs(database)) == 7
    found = partition_of_legs(database)
    assert len(found) == 2 * settled[0] + 2
    assert all(len(months) == 1 for months in found.values())
    assert len({month for (month,) in found.values()}) == 7, "each month has legs"
    for account in (bank.ada_account, bank.bob_account):
        every = statements_of(database, account)
        assert sum(row["transaction_count"] for row in every) == len(found) / 2
        for earlier, later in pairwise(every):
            assert earlier["closing_balance"] == later["opening_balance"]
        assert every[-1]["closing_balance"] == account_row(database, account)["balance"]
    assert verify(database).holds
