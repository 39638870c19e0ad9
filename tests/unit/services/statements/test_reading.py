"""Statements as their owners read them: which months, which state, and requests before they are made."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import to_datetime
from core.domain.accounts import AccountError
from core.domain.errors import CommonError, ErrorCode, Part, Refusal
from core.domain.statements import BankDetails, PendingStatement, Period, StatementError, StatementStatus, StatementView
from core.ids import NEWEST, new_id
from core.services import accounts
from core.services.statements import making, reading
from core.services.statements.reading import Month
from core.services.verification import verify
from core.storage import ledger_rows as rows_of
from core.storage import statement_runs as stored_runs
from core.storage import statements as stored
from core.storage.sql import WATCHERS
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests.builders import (
    Bank,
    Person,
    accepted,
    from_ada_to_bob,
    fund,
    open_account,
    rows,
    settle_all,
)
from tests.months import BANK, UTC_ZONE, close_months, make_statements, months_of, runs, statements_of, work_off
from tests.time_travel import Clock

JANUARY, FEBRUARY, MARCH = Period(2026, 1), Period(2026, 2), Period(2026, 3)


@pytest.fixture
def bank(clock: Clock, bank: Bank) -> Bank:
    """A bank that opened in January and gave Ada 1000; it is 10 February."""
    clock.set(2026, 2, 10)
    return bank


def ask(database: Database, user: Person, account: UUID, period: Period = JANUARY, zone: ZoneInfo = UTC_ZONE) -> UUID:
    with unit_of_work(database) as connection:
        return reading.ask_for(connection, user_id=user.id, account_id=account, period=period, zone=zone, group=200)


def requested(database: Database) -> list[int]:
    with database.reader.connect() as connection:
        return stored.requested(connection, limit=100)


def make_requested(database: Database) -> list[int]:
    return [making.make_one(database, BANK, row_id) for row_id in requested(database)]


async def of_month(
    database: Database, user: Person, account: UUID, period: Period | None = None, zone: ZoneInfo = UTC_ZONE
) -> Month:
    """Read a month as a request does, in its own session."""
    async with AsyncSession(database.async_reader) as session:
        found = await accounts.get(session, user_id=user.id, account_id=account)
        return await reading.of_month(session, account=found, period=period, zone=zone, bank=BANK)


async def get(database: Database, user: Person, statement: UUID) -> Month | PendingStatement:
    async with AsyncSession(database.async_reader) as session:
        return await reading.get(session, user_id=user.id, statement_id=statement)


@pytest.fixture(autouse=True)
async def _dispose(database: Database) -> Any:
    yield
    await database.async_reader.dispose()


# --- requesting a statement ---


async def test_a_finished_month_can_be_requested_before_it_is_closed(database: Database, bank: Bank) -> None:
    statement = ask(database, bank.ada, bank.ada_account)
    assert await get(database, bank.ada, statement) == PendingStatement(
        id=statement, account_id=bank.ada_account, period=JANUARY, currency="USD"
    )
    assert make_requested(database) == [1]
    found = await get(database, bank.ada, statement)
    assert isinstance(found, Month)
    assert (found.statement.id, found.statement.status, found.statement.number) == (statement, "final", 1)
    assert (found.statement.opening_balance, found.statement.closing_balance) == (0, 1000)


async def test_a_repeated_request_returns_the_same_statement(database: Database, bank: Bank) -> None:
    first = ask(database, bank.ada, bank.ada_account)
    assert ask(database, bank.ada, bank.ada_account) == first
    make_requested(database)
    assert ask(database, bank.ada, bank.ada_account) == first
    assert requested(database) == []
    assert len(rows(database, "SELECT id FROM statements")) == 1


def test_a_request_returns_the_statement_that_a_run_has_made(database: Database, bank: Bank) -> None:
    make_statements(database)
    (made,) = statements_of(database, bank.ada_account)
    assert ask(database, bank.ada, bank.ada_account).bytes == made["public_id"]
    assert requested(database) == []


def test_earlier_months_are_made_with_the_requested_one(database: Database, bank: Bank, clock: Clock) -> None:
    clock.set(2026, 5, 2)
    statement = ask(database, bank.ada, bank.ada_account, MARCH)
    assert make_requested(database) == [3]
    assert months_of(database, bank.ada_account) == ["2026-01", "2026-02", "2026-03"]
    assert statements_of(database, bank.ada_account)[2]["public_id"] == statement.bytes
    assert months_of(database, bank.bob_account) == []
    assert [run["period"] for run in runs(database)] == ["2026-01", "2026-02", "2026-03", "2026-04"]
    assert work_off(database) == 5, "the run makes the statements that nobody requested"
    assert [run["statements"] for run in runs(database)] == [2, 2, 2, 2]
    assert verify(database).holds


def test_a_requested_statement_that_a_run_makes_first_keeps_its_id(database: Database, bank: Bank) -> None:
    statement = ask(database, bank.ada, bank.ada_account)
    assert work_off(database) == 2
    assert statements_of(database, bank.ada_account)[0]["public_id"] == statement.bytes
    assert requested(database) == []
    assert runs(database)[0]["statements"] == 2


def test_a_statement_requested_while_a_run_makes_it_keeps_the_returned_id(
    database: Database, bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    close_months(database)
    answered = []

    @contextmanager
    def after_somebody_asked(chosen: Database) -> Iterator[Any]:
        answered.append(ask(database, bank.ada, bank.ada_account))
        with unit_of_work(chosen) as connection:
            yield connection

    monkeypatch.setattr(making, "unit_of_work", after_somebody_asked)
    assert work_off(database) == 2
    assert [row["public_id"] for row in statements_of(database, bank.ada_account)] == [answered[0].bytes]
    assert requested(database) == []
    assert verify(database).holds


def test_a_job_that_runs_twice_makes_the_requested_statement_once(database: Database, bank: Bank) -> None:
    ask(database, bank.ada, bank.ada_account)
    (row_id,) = requested(database)
    assert making.make_one(database, BANK, row_id) == 1
    before = statements_of(database, bank.ada_account)
    assert making.make_one(database, BANK, row_id) == 0
    assert statements_of(database, bank.ada_account) == before
    assert runs(database)[0]["statements"] == 1


@pytest.mark.parametrize(
    ("period", "code", "part"),
    [
        (FEBRUARY, CommonError.VALIDATION_FAILED, Part.MONTH),
        (MARCH, CommonError.VALIDATION_FAILED, Part.MONTH),
        (Period(9998, 12), CommonError.VALIDATION_FAILED, Part.MONTH),
        (Period(2025, 12), StatementError.NOT_FOUND, None),
        (Period(1970, 1), StatementError.NOT_FOUND, None),
    ],
)
def test_a_month_that_has_no_statement_is_rejected_and_nothing_is_recorded(
    database: Database, bank: Bank, period: Period, code: ErrorCode, part: Part | None
) -> None:
    with pytest.raises(Refusal) as refused:
        ask(database, bank.ada, bank.ada_account, period)
    assert (refused.value.code, refused.value.about) == (code, part)
    assert rows(database, "SELECT id FROM statements") == []


def test_the_month_ends_with_its_last_microsecond(database: Database, bank: Bank, clock: Clock) -> None:
    clock.now = clock.set(2026, 3, 1) - timedelta(microseconds=1)
    with pytest.raises(Refusal) as refused:
        ask(database, bank.ada, bank.ada_account, FEBRUARY)
    assert refused.value.code is CommonError.VALIDATION_FAILED
    clock.set(2026, 3, 1)
    assert ask(database, bank.ada, bank.ada_account, FEBRUARY)


def test_a_month_after_the_closing_of_its_account_is_rejected(database: Database, bank: Bank, clock: Clock) -> None:
    with unit_of_work(database) as connection:
        accounts.close_account(connection, user_id=bank.bob.id, account_id=bank.bob_account)
    clock.set(2026, 5, 1)
    assert ask(database, bank.bob, bank.bob_account, FEBRUARY)
    with pytest.raises(Refusal) as refused:
        ask(database, bank.bob, bank.bob_account, MARCH)
    assert refused.value.code is StatementError.NOT_FOUND


def test_a_statement_of_another_users_account_cannot_be_requested(database: Database, bank: Bank) -> None:
    for account in (bank.bob_account, new_id()):
        with pytest.raises(Refusal) as refused:
            ask(database, bank.ada, account, MARCH)
        assert (refused.value.code, refused.value.about) == (AccountError.NOT_FOUND, Part.ACCOUNT)


def test_a_month_closed_in_a_zone_further_east_can_be_requested(database: Database, bank: Bank, clock: Clock) -> None:
    clock.set(2026, 1, 31, 12)
    assert close_months(database, ZoneInfo("Pacific/Kiritimati")) == 1
    assert ask(database, bank.ada, bank.ada_account, JANUARY, ZoneInfo("Pacific/Pago_Pago"))


# --- reading a month ---------------------------------------------------------------------------------------------


async def test_the_current_month_is_computed_and_provisional(database: Database, bank: Bank, clock: Clock) -> None:
    accepted(database, from_ada_to_bob(bank, 300))
    settle_all(database)
    month = await of_month(database, bank.ada, bank.ada_account)
    account_number = rows(database, "SELECT account_number FROM accounts WHERE id = 2")[0]["account_number"]
    assert month.statement == StatementView(
        id=None,
        status=StatementStatus.PROVISIONAL,
        number=None,
        account_id=bank.ada_account,
        account_number=account_number,
        holder=bank.ada.email,
        bank=BANK,
        period=FEBRUARY,
        time_zone="UTC",
        starts_at=FEBRUARY.starts_at(UTC_ZONE),
        ends_at=MARCH.starts_at(UTC_ZONE),
        currency="USD",
        opening_balance=1000,
        closing_balance=700,
        total_credits=0,
        total_debits=300,
        transaction_count=1,
        made_at=clock.now,
    )
    assert rows(database, "SELECT id FROM statements") == runs(database) == []


async def test_a_month_reads_the_same_before_and_after_its_statement_is_made(
    database: Database, bank: Bank, clock: Clock
) -> None:
    fund(database, bank.ada_account, 5)  # in February: January is computed from a later state
    before = (await of_month(database, bank.ada, bank.ada_account, JANUARY)).statement
    close_months(database)
    closed = (await of_month(database, bank.ada, bank.ada_account, JANUARY)).statement
    assert closed == before
    made = (await of_month(database, bank.ada, bank.ada_account, JANUARY)).statement if work_off(database) else None
    assert made is not None
    assert (before.status, made.status, made.number) == ("provisional", "final", 1)
    unlike = {"id", "status", "number"}
    for name in StatementView.__dataclass_fields__.keys() - unlike:
        assert getattr(made, name) == getattr(before, name), name
    clock.advance(days=1)
    assert (await of_month(database, bank.ada, bank.ada_account, JANUARY)).statement == made


async def test_a_statement_does_not_change_with_the_settings(database: Database, bank: Bank) -> None:
    make_statements(database, bank=BankDetails(name="Old Bank", address=None, bic=None))
    with unit_of_work(database) as connection:
        connection.exec_driver_sql("UPDATE users SET name = 'Ada Lovelace'")
    month = await of_month(database, bank.ada, bank.ada_account, JANUARY, ZoneInfo("Europe/Berlin"))
    assert (month.statement.bank.name, month.statement.holder) == ("Old Bank", bank.ada.email)
    assert (month.statement.time_zone, month.statement.starts_at) == ("UTC", JANUARY.starts_at(UTC_ZONE))


async def test_a_requested_statement_reads_as_provisional_until_it_is_made(database: Database, bank: Bank) -> None:
    ask(database, bank.ada, bank.ada_account)
    month = await of_month(database, bank.ada, bank.ada_account, JANUARY)
    assert (month.statement.status, month.statement.id) == ("provisional", None)


@pytest.mark.parametrize(
    ("period", "code"),
    [
        (MARCH, CommonError.VALIDATION_FAILED),
        (Period(9998, 12), CommonError.VALIDATION_FAILED),
        (Period(2025, 12), StatementError.NOT_FOUND),
    ],
)
async def test_a_month_in_the_future_or_before_the_account_is_rejected(
    database: Database, bank: Bank, period: Period, code: ErrorCode
) -> None:
    with pytest.raises(Refusal) as refused:
        await of_month(database, bank.ada, bank.ada_account, period)
    assert refused.value.code is code


async def test_the_current_month_is_the_one_in_which_new_transactions_are_posted(
    database: Database, bank: Bank, clock: Clock
) -> None:
    clock.set(2026, 2, 1)
    close_months(database)
    clock.advance(seconds=-5)  # an API whose clock is behind
    fund(database, bank.ada_account, 5)
    month = await of_month(database, bank.ada, bank.ada_account)
    assert (month.statement.period, month.statement.total_credits) == (FEBRUARY, 5)


async def test_a_month_follows_the_closed_one_after_any_change_of_time_zone(
    database: Database, bank: Bank, clock: Clock
) -> None:
    make_statements(database)
    month = await of_month(database, bank.ada, bank.ada_account, zone=ZoneInfo("Pacific/Pago_Pago"))
    assert month.statement.starts_at == to_datetime(runs(database)[0]["ends_at"])
    assert month.statement.ends_at == MARCH.starts_at(ZoneInfo("Pacific/Pago_Pago"))


async def test_another_users_statement_cannot_be_read(database: Database, bank: Bank) -> None:
    make_statements(database)
    (his,) = statements_of(database, bank.bob_account)
    for statement in (UUID(bytes=his["public_id"]), new_id()):
        with pytest.raises(Refusal) as refused:
            await get(database, bank.ada, statement)
        assert refused.value.code is StatementError.NOT_FOUND


# --- transactions, and lists -------------------------------------------------------------------------------------


@pytest.fixture
def busy(database: Database, bank: Bank, clock: Clock) -> Bank:
    """Five transfers each in February and March; statements of January and February; it is 10 March."""
    for month in (2, 3):
        clock.set(2026, month, 10)
        make_statements(database)
        for amount in range(1, 6):
            accepted(database, from_ada_to_bob(bank, amount))
            settle_all(database)
    return bank


@pytest.mark.parametrize(("period", "count"), [(JANUARY, 1), (FEBRUARY, 5), (MARCH, 5)])
async def test_a_months_transactions_are_the_same_when_provisional_and_when_final(
    database: Database, busy: Bank, period: Period, count: int
) -> None:
    month = await of_month(database, busy.ada, busy.ada_account, period)
    async with AsyncSession(database.async_reader) as session:
        newest_first = await reading.list_transactions(session, month, start=None, limit=1000)
    oldest_first = newest_first[::-1]
    assert len(oldest_first) == count
    balance = month.statement.opening_balance
    for transaction in oldest_first:
        balance += transaction.amount
        assert transaction.balance_after == balance
        assert month.statement.starts_at <= transaction.posted_at < month.statement.ends_at
    assert balance == month.statement.closing_balance


async def test_a_month_without_transactions_lists_none(database: Database, busy: Bank, clock: Clock) -> None:
    with unit_of_work(database) as connection:
        empty = open_account(connection, busy.ada)
    clock.set(2026, 4, 2)
    for account, period in ((busy.ada_account, Period(2026, 4)), (empty, MARCH), (empty, Period(2026, 4))):
        month = await of_month(database, busy.ada, account, period)
        async with AsyncSession(database.async_reader) as session:
            assert await reading.list_transactions(session, month, start=None, limit=1000) == []


async def test_an_accounts_statements_are_listed_newest_first(database: Database, busy: Bank, clock: Clock) -> None:
    clock.set(2026, 4, 10)
    asked_for = ask(database, busy.ada, busy.ada_account, MARCH)
    async with AsyncSession(database.async_reader) as session:
        account = await accounts.get(session, user_id=busy.ada.id, account_id=busy.ada_account)
        every = await reading.list_for_account(session, account=account, below=NEWEST, offset=0, limit=10)
        assert [kept.statement.period for kept in every] == [MARCH, FEBRUARY, JANUARY]
        assert every[0].statement.id == asked_for
        for below, offset, expected in (
            (NEWEST, 1, every[1:]), (every[0].run_id, 0, every[1:]), (every[2].run_id, 0, []), (NEWEST, 3, []),
        ):  # fmt: skip
            assert (
                await reading.list_for_account(session, account=account, below=below, offset=offset, limit=10)
                == expected
            )


# --- access paths ------------------------------------------------------------------------------------------------


@pytest.fixture
def queries(database: Database) -> Iterator[list[tuple[str, Any]]]:
    """Every query that is sent from now on, with its parameters."""
    sent: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_more: Any) -> None:
        sent.append((statement, parameters))

    engines = (database.reader, database.writer, database.async_reader.sync_engine)
    for engine in engines:
        event.listen(engine, "before_cursor_execute", note)
    WATCHERS.append(watcher := lambda statement, values: sent.append((statement, values)))
    yield sent
    WATCHERS.remove(watcher)
    for engine in engines:
        event.remove(engine, "before_cursor_execute", note)


def scans(database: Database, queries: list[tuple[str, Any]]) -> list[str]:
    """The steps of these queries that scan a whole table, or build a temporary index or sort."""
    plans = [
        (query, row["detail"])
        for query, parameters in queries
        if query.lstrip().startswith(("SELECT", "WITH"))
        for row in rows(database, f"EXPLAIN QUERY PLAN {query}", *parameters)
    ]
    assert plans
    orders_a_page = "WITH RECURSIVE chain (id, previous_id, number)"
    return [
        f"{step}: {query}"
        for query, step in plans
        if (step.startswith("SCAN ") and step not in ALLOWED_SCANS and not query.endswith(READS_ONE_ROW))
        or "AUTOMATIC" in step
        or (step.startswith("USE TEMP B-TREE") and orders_a_page not in query)
    ]


READS_ONE_ROW = "ORDER BY id DESC LIMIT 1"
ALLOWED_SCANS = {
    "SCAN chain",
    "SCAN statement_runs",  # one row a month, newest first
    "SCAN statement_groups USING INDEX ix_statement_groups_undone",
    "SCAN statement_groups USING COVERING INDEX ix_statement_groups_undone",
    "SCAN statements USING INDEX ix_statements_pending",
    "SCAN statements USING COVERING INDEX ix_statements_pending",
    "SCAN accounts",  # ends at the first customer account, or at the last row id
}


async def test_no_query_about_statements_scans_a_whole_table(
    database: Database, busy: Bank, clock: Clock, queries: list[tuple[str, Any]]
) -> None:
    clock.set(2026, 4, 10)
    statement = ask(database, busy.ada, busy.ada_account, MARCH)
    make_requested(database)
    work_off(database)
    for period in (JANUARY, MARCH, None):
        month = await of_month(database, busy.ada, busy.ada_account, period)
        async with AsyncSession(database.async_reader) as session:
            await reading.list_transactions(session, month, start=None, limit=1000)
    await get(database, busy.ada, statement)
    async with AsyncSession(database.async_reader) as session:
        account = await accounts.get(session, user_id=busy.ada.id, account_id=busy.ada_account)
        await reading.list_for_account(session, account=account, below=NEWEST, offset=0, limit=10)
        await making.list_runs(session, below=NEWEST, offset=0, limit=10)
    assert scans(database, [*queries]) == []


def test_the_scheduler_and_verification_scan_only_the_tables_that_they_check(
    database: Database, busy: Bank, clock: Clock, queries: list[tuple[str, Any]]
) -> None:
    clock.set(2026, 4, 10)
    with database.reader.connect() as connection:
        assert making.month_due(connection, UTC_ZONE) == MARCH
    ask(database, busy.ada, busy.ada_account, MARCH)
    with database.reader.connect() as connection:
        for look in (stored_runs.undone_groups, stored.requested):
            assert look(connection, limit=10)
        assert stored_runs.count_groups(connection) == (1, 1)
        assert stored_runs.unfinished_since(connection) == MARCH.ends_at(UTC_ZONE)
        assert stored.count_requested(connection) == 1
        assert len(rows_of.statements(connection, below=rows_of.FROM_THE_LAST)) == 4
    sent = [*queries]
    checks_all = [(query, given) for query, given in sent if "FROM statements s CROSS JOIN" in query]
    assert scans(database, [item for item in sent if item not in checks_all]) == []
    ((query, given),) = checks_all
    steps = [row["detail"] for row in rows(database, f"EXPLAIN QUERY PLAN {query}", *given)]
    assert all(step.startswith("SEARCH ") for step in steps), steps
