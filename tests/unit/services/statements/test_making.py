"""Closing months and making statements: content, order, and statements that cannot be made."""

import sqlite3
from contextlib import closing
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from core.clock import to_us
from core.domain.statements import BankDetails
from core.services import accounts
from core.services.statements import making
from core.services.statements.making import BrokenChain
from core.services.verification import verify
from core.settings import Settings
from core.storage import statement_runs as stored
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests.builders import (
    accepted,
    account_row,
    bank_of_two,
    from_ada_to_bob,
    fund,
    open_account,
    rows,
    settle_all,
    withdrawal_request,
)
from tests.months import (
    BANK,
    UTC_ZONE,
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

# --- content of a statement ---


def test_a_month_gets_a_statement_once_it_is_over(database: Database, clock: Clock) -> None:
    bank = bank_of_two(database, ada_has=1000)
    accepted(database, from_ada_to_bob(bank, 300))
    settle_all(database)
    assert close_months(database) == 0
    last_tick = clock.set(2026, 2, 1) - timedelta(microseconds=1)
    clock.now = last_tick
    assert close_months(database) == 0
    clock.set(2026, 2, 1)
    assert close_months(database) == 1
    assert work_off(database) == 2
    (ada,), (bob,) = statements_of(database, bank.ada_account), statements_of(database, bank.bob_account)
    assert figures(ada) == (0, 700, "1000", "300", 2)
    assert figures(bob) == (0, 300, "300", "0", 1)
    assert (ada["period"], ada["number"], ada["status"]) == ("2026-01", 1, "final")
    assert ada["made_at"] == to_us(clock.now)
    assert (ada["opening_transaction_id"], ada["closing_transaction_id"]) == (
        None,
        account_row(database, bank.ada_account)["last_transaction_id"],
    )
    assert verify(database).holds


def test_a_month_includes_a_leg_at_its_first_instant_but_not_one_before(database: Database, clock: Clock) -> None:
    bank = bank_of_two(database)
    midnight = clock.set(2026, 2, 1)
    for moment, amount in ((midnight - timedelta(microseconds=1), 1), (midnight, 20)):
        clock.now = moment
        fund(database, bank.ada_account, amount)
    clock.set(2026, 3, 1)
    make_statements(database)
    january, february = statements_of(database, bank.ada_account)
    assert (figures(january), figures(february)) == ((0, 1, "1", "0", 1), (1, 21, "20", "0", 1))


def test_a_month_without_a_leg_has_a_statement_too(database: Database, clock: Clock) -> None:
    bank = bank_of_two(database, ada_has=1000)
    clock.set(2026, 4, 1)
    make_statements(database)
    january, february, march = statements_of(database, bank.ada_account)
    assert figures(january) == (0, 1000, "1000", "0", 1)
    assert figures(february) == figures(march) == (1000, 1000, "0", "0", 0)
    assert march["opening_transaction_id"] == march["closing_transaction_id"] == january["closing_transaction_id"]
    assert [row["number"] for row in (january, february, march)] == [1, 2, 3]
    for bob in statements_of(database, bank.bob_account):
        assert figures(bob) == (0, 0, "0", "0", 0)
        assert bob["closing_transaction_id"] is None
    assert verify(database).holds


def test_statements_begin_with_the_month_of_opening_and_end_with_the_month_of_closing(
    database: Database, clock: Clock
) -> None:
    bank = bank_of_two(database)
    clock.set(2026, 2, 20)
    with unit_of_work(database) as connection:
        late = open_account(connection, bank.ada)
    fund(database, late, 50)
    clock.set(2026, 3, 20)
    accepted(database, withdrawal_request(late, 50))
    settle_all(database)
    with unit_of_work(database) as connection:
        accounts.close_account(connection, user_id=bank.ada.id, account_id=late)
    clock.set(2026, 6, 1)
    make_statements(database)
    assert months_of(database, late) == ["2026-02", "2026-03"]
    assert [figures(row) for row in statements_of(database, late)] == [(0, 50, "50", "0", 1), (50, 0, "0", "50", 1)]
    assert len(months_of(database, bank.ada_account)) == 5
    assert [run["statements"] for run in runs(database)] == [2, 3, 3, 2, 2]
    assert verify(database).holds


def test_external_accounts_have_no_statements(database: Database, clock: Clock) -> None:
    bank_of_two(database, ada_has=1000)
    clock.set(2026, 2, 1)
    assert make_statements(database) == 2
    query = "SELECT a.kind FROM statements s JOIN accounts a ON a.id = s.account_id"
    assert {row["kind"] for row in rows(database, query)} == {"customer"}


def test_holder_and_bank_are_those_of_the_time_when_the_statement_was_made(database: Database, clock: Clock) -> None:
    bank = bank_of_two(database)
    clock.set(2026, 2, 1)
    make_statements(database)
    with unit_of_work(database) as connection:
        connection.exec_driver_sql("UPDATE users SET name = 'Ada Lovelace' WHERE id = ?", (bank.ada.id,))
    clock.set(2026, 3, 1)
    make_statements(database, bank=BankDetails(name="Bank of Ada", address=None, bic=None))
    names = ("holder", "bank_name", "bank_address", "bank_bic")
    first, second = ([row[name] for name in names] for row in statements_of(database, bank.ada_account))
    assert first == [bank.ada.email, "Giro", "1 Main Street", "GIRODEFF"]
    assert second == ["Ada Lovelace", "Bank of Ada", None, None]


def test_totals_beyond_64_bits_are_exact(database: Database, clock: Clock) -> None:
    bank = bank_of_two(database, ada_has=7)
    largest, pairs = 9 * 10**15 - 1, 1100
    ada = account_row(database, bank.ada_account)
    now, last = to_us(clock.now), ada["last_transaction_id"]
    ids = range(1000, 1000 + 2 * pairs)
    with unit_of_work(database) as connection:
        connection.exec_driver_sql(
            "INSERT INTO transactions (id, transfer_id, account_id, amount, balance_after, posted_at, previous_id) "
            "VALUES (?, 1, ?, ?, ?, ?, ?)",
            [
                (
                    leg,
                    ada["id"],
                    *((-largest, 7) if leg % 2 else (largest, largest + 7)),
                    now,
                    last if leg == 1000 else leg - 1,
                )
                for leg in ids
            ],
        )
        connection.exec_driver_sql("UPDATE accounts SET last_transaction_id = ? WHERE id = ?", (ids[-1], ada["id"]))
    clock.set(2026, 2, 1)
    make_statements(database)
    (statement,) = statements_of(database, bank.ada_account)
    assert pairs * largest > 2**63
    assert figures(statement) == (0, 7, str(pairs * largest + 7), str(pairs * largest), 2 * pairs + 1)


# --- closing months ----------------------------------------------------------------------------------------------


def test_a_bank_without_accounts_closes_no_month(database: Database, clock: Clock) -> None:
    assert clock
    assert close_months(database) == 0


def test_after_forty_days_of_downtime_every_missing_month_is_made_in_order(database: Database, clock: Clock) -> None:
    bank = bank_of_two(database, ada_has=1000)
    clock.set(2026, 2, 10)
    accepted(database, from_ada_to_bob(bank, 300))
    settle_all(database)
    clock.advance(days=40)
    assert close_months(database) == 2
    assert work_off(database) == 4
    assert work_off(database) == 0
    january, february = statements_of(database, bank.ada_account)
    assert (january["closing_balance"], february["opening_balance"], february["closing_balance"]) == (1000, 1000, 700)
    assert february["opening_transaction_id"] == january["closing_transaction_id"]
    assert verify(database).holds


def test_closing_again_closes_nothing(database: Database, clock: Clock) -> None:
    bank_of_two(database)
    clock.set(2026, 3, 1)
    assert [close_months(database) for _ in range(3)] == [2, 0, 0]
    assert [run["period"] for run in runs(database)] == ["2026-01", "2026-02"]


@pytest.mark.parametrize(("group", "groups"), [(1, 5), (2, 3), (4, 2), (5, 1), (200, 1)])
def test_a_run_is_divided_into_groups_of_accounts_and_reports_its_progress(
    database: Database, clock: Clock, group: int, groups: int
) -> None:
    bank = bank_of_two(database)
    with unit_of_work(database) as connection:
        for _ in range(2):
            open_account(connection, bank.ada)
    assert len(rows(database, "SELECT id FROM accounts")) == 5
    clock.set(2026, 2, 1)
    close_months(database, group=group)
    seen = [(run["group_count"], run["groups_done"], run["finished_at"]) for run in runs(database)]
    assert seen == [(groups, 0, None)]
    for done, row_id in enumerate(undone_groups(database), 1):
        making.make_group(database, BANK, row_id)
        (run,) = runs(database)
        assert (run["groups_done"], run["finished_at"] is not None) == (done, done == groups)
    assert run["statements"] == 4
    assert run["finished_at"] == to_us(clock.now)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("UTC", "Europe/Berlin"),
        ("Europe/Berlin", "UTC"),
        ("Pacific/Kiritimati", "Pacific/Pago_Pago"),
        ("Pacific/Pago_Pago", "Pacific/Kiritimati"),
    ],
)
def test_a_change_of_time_zone_loses_no_leg_and_counts_none_twice(
    database: Database, clock: Clock, before: str, after: str
) -> None:
    bank = bank_of_two(database, ada_has=1000)
    for moment in (
        (2026, 1, 31, 9), (2026, 1, 31, 12), (2026, 2, 1), (2026, 2, 1, 12), (2026, 2, 28, 9), (2026, 2, 28, 12),
        (2026, 3, 1), (2026, 3, 1, 12), (2026, 3, 2),
    ):  # fmt: skip
        clock.set(*moment)
        make_statements(database, ZoneInfo(before if moment < (2026, 2, 2) else after))
        fund(database, bank.ada_account, 1)
    clock.set(2026, 4, 2)
    make_statements(database, ZoneInfo(after))
    assert [run["period"] for run in runs(database)] == ["2026-01", "2026-02", "2026-03"]
    assert [run["time_zone"] for run in runs(database)] == [before, after, after]
    assert all(len(months) == 1 for months in partition_of_legs(database).values())
    assert verify(database).holds


# --- statements that cannot be made ---


def behind_its_back(settings: Settings, *statements: str) -> None:
    """Change the file with its triggers bypassed."""
    with closing(sqlite3.connect(settings.database_path, isolation_level=None)) as raw:
        triggers = raw.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            raw.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            assert raw.execute(statement).rowcount == 1, statement
        for _, sql in triggers:
            raw.execute(sql)


ADAS_SECOND = "(SELECT id FROM transactions WHERE amount = -1)"
BOBS_FIRST = "(SELECT id FROM transactions WHERE amount = 1)"
ADAS_LAST = "(SELECT id FROM transactions WHERE amount = -2)"


@pytest.mark.parametrize(
    ("breaking", "fixing"),
    [
        # a leg names another account's leg as the one before it: the walk ends within the month
        (
            f"previous_id = previous_id - 1 WHERE id = {ADAS_LAST}",
            f"previous_id = {ADAS_SECOND} WHERE id = {ADAS_LAST}",
        ),
        ("amount = -3 WHERE amount = -2", "amount = -2 WHERE amount = -3"),
        (f"balance_after = 0 WHERE id = {ADAS_LAST}", f"balance_after = 997 WHERE id = {ADAS_LAST}"),
    ],
)
def test_a_broken_chain_prevents_only_the_statement_of_its_account(
    database: Database, settings: Settings, clock: Clock, breaking: str, fixing: str
) -> None:
    bank = bank_of_two(database, ada_has=1000)
    for amount in (1, 2):
        accepted(database, from_ada_to_bob(bank, amount))
    settle_all(database)
    database.close()
    behind_its_back(settings, f"UPDATE transactions SET {breaking}")
    clock.set(2026, 2, 1)
    close_months(database)
    (group,) = undone_groups(database)
    for _ in range(2):
        with pytest.raises(BrokenChain, match="account 2: the legs of 2026-01 do not add up"):
            making.make_group(database, BANK, group)
    assert (months_of(database, bank.ada_account), months_of(database, bank.bob_account)) == ([], ["2026-01"])
    (run,) = runs(database)
    assert (run["statements"], run["groups_done"], run["finished_at"]) == (1, 0, None)
    database.close()
    behind_its_back(settings, f"UPDATE transactions SET {fixing}")
    assert making.make_group(database, BANK, group) == 1
    assert undone_groups(database) == []
    assert verify(database).holds


def test_a_statement_is_not_made_if_its_opening_balance_is_not_the_closing_balance_before(
    database: Database, settings: Settings, clock: Clock
) -> None:
    bank = bank_of_two(database, ada_has=1000)
    clock.set(2026, 2, 1)
    make_statements(database)
    database.close()
    end = f"{to_us(clock.now) - 1}"
    fund(database, bank.ada_account, 1)
    database.close()
    behind_its_back(settings, f"UPDATE transactions SET posted_at = {end} WHERE amount = 1")
    clock.set(2026, 3, 1)
    close_months(database)
    (group,) = undone_groups(database)
    with pytest.raises(BrokenChain, match="account 2: its month begins after leg 4, the previous one ended with 2"):
        making.make_group(database, BANK, group)
    assert months_of(database, bank.ada_account) == ["2026-01"]
    assert months_of(database, bank.bob_account) == ["2026-01", "2026-02"]


def test_runs_are_read_newest_first(database: Database, clock: Clock) -> None:
    bank_of_two(database)
    clock.set(2026, 4, 1)
    close_months(database)
    with database.reader.connect() as connection:
        found = stored.all_runs(connection)
        newest = stored.newest(connection)
        assert stored.closed_until(connection) == to_us(datetime(2026, 4, 1, tzinfo=UTC_ZONE))
    assert [str(run.period) for run in found] == ["2026-03", "2026-02", "2026-01"]
    assert newest == found[0]
