"""The audit log: its entries, their order and permanence, and lists that read only the rows they need."""

import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession

import core
from core.clock import now_us, to_datetime, to_us
from core.domain.audit import Act, Action, AuditFilter, AuditView, Author
from core.domain.errors import Refusal
from core.domain.users import SYSTEM_USER_ID, Identity, Role
from core.ids import NEWEST, new_id
from core.services import audit
from core.services.audit import write_all_down, write_down
from core.services.identity import log_ins, operators, users
from core.settings import Settings
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests.builders import (
    Bank,
    Person,
    accept,
    accepted,
    add_user,
    bank_of_two,
    deactivate,
    deposit_request,
    from_ada_to_bob,
    rows,
    withdrawal_request,
)

NOBODY = Author(user_id=None, request_id="a-request", address="192.0.2.7")
THE_BANK = Author(user_id=SYSTEM_USER_ID, request_id="a-command", address=None)


@pytest.fixture
def ada(database: Database) -> Person:
    with unit_of_work(database) as connection:
        return add_user(connection, "ada@example.com")


def by(person: Person) -> Author:
    return replace(NOBODY, user_id=person.id)


def identity(person: Person) -> Identity:
    return Identity(person.id, person.public_id, Role.CUSTOMER, 0)


def written(database: Database, action: Action | None = None) -> list[dict[str, Any]]:
    """The entries of the log, oldest first, without their number and time."""
    query = "SELECT author_id, action, object_id, details, request_id, address FROM audit_entries ORDER BY id"
    return [
        row | {"object_id": row["object_id"] and UUID(bytes=row["object_id"]), "details": json.loads(row["details"])}
        for row in rows(database, query)
        if action in (None, row["action"])
    ]


def entry(author: Author, action: Action, object_id: UUID | None, **details: str | int) -> dict[str, Any]:
    return {
        "author_id": author.user_id,
        "action": action.value,
        "object_id": object_id,
        "details": details,
        "request_id": author.request_id,
        "address": author.address,
    }


# --- entries ---


class TestLoggingIn:
    def log_in(self, database: Database, ada: Person, version: int = 0) -> log_ins.LogIn | None:
        with unit_of_work(database) as connection:
            return log_ins.log_in(connection, NOBODY, user_id=ada.id, token_version=version, days=30)

    def refresh(self, database: Database, token: str) -> log_ins.LogIn | None:
        with unit_of_work(database) as connection:
            return log_ins.refresh(connection, NOBODY, token)

    def test_is_an_act_of_the_user(self, database: Database, ada: Person) -> None:
        assert self.log_in(database, ada) is not None
        assert written(database) == [entry(by(ada), Action.LOGGED_IN, ada.public_id)]

    @pytest.mark.parametrize("what", ["deactivated", "changed the password"])
    def test_fails_after_deactivation_or_a_change_of_password(self, database: Database, ada: Person, what: str) -> None:
        if what == "deactivated":
            deactivate(database, ada)
        assert self.log_in(database, ada, version=0 if what == "deactivated" else 1) is None
        assert written(database) == [entry(NOBODY, Action.LOG_IN_FAILED, ada.public_id)]
        assert rows(database, "SELECT * FROM refresh_tokens") == []

    def test_fails_without_a_known_user(self, database: Database) -> None:
        with unit_of_work(database) as connection:
            log_ins.fail_log_in(connection, NOBODY, None)
        assert written(database) == [entry(NOBODY, Action.LOG_IN_FAILED, None)]

    def test_with_a_spent_token_is_recorded_once_because_its_family_is_revoked(
        self, database: Database, ada: Person
    ) -> None:
        first = self.log_in(database, ada)
        assert first is not None
        second = self.refresh(database, first.refresh_token)
        assert second is not None
        for token in (first.refresh_token, first.refresh_token, second.refresh_token):
            assert self.refresh(database, token) is None
        assert written(database)[1:] == [entry(NOBODY, Action.REFRESH_TOKEN_REUSED, ada.public_id)]

    def test_with_a_token_that_a_log_out_ended_is_not_reuse(self, database: Database, ada: Person) -> None:
        begun = self.log_in(database, ada)
        assert begun is not None
        with unit_of_work(database) as connection:
            log_ins.log_out(connection, by(ada), identity(ada))
        assert self.refresh(database, begun.refresh_token) is None
        assert [row["action"] for row in written(database)] == ["logged_in", "logged_out"]


def test_a_log_out_is_recorded(database: Database, ada: Person) -> None:
    with unit_of_work(database) as connection:
        log_ins.log_out(connection, by(ada), identity(ada))
    assert written(database) == [entry(by(ada), Action.LOGGED_OUT, ada.public_id)]


def test_a_change_of_password_is_recorded_only_if_it_happens(database: Database, ada: Person) -> None:
    with unit_of_work(database) as connection:
        users.change_password(connection, by(ada), identity(ada), password_hash="new")
    with pytest.raises(Refusal), unit_of_work(database) as connection:
        users.change_password(connection, by(ada), identity(ada), password_hash="newer")
    assert written(database) == [entry(by(ada), Action.PASSWORD_CHANGED, ada.public_id)]


def test_a_new_operator_is_recorded(database: Database) -> None:
    with unit_of_work(database) as connection:
        made = operators.create(connection, THE_BANK, email="op@example.com", password_hash="a hash")
    assert written(database) == [entry(THE_BANK, Action.OPERATOR_CREATED, made)]
    assert rows(database, "SELECT role FROM users WHERE public_id = ?", made.bytes) == [{"role": "operator"}]


@pytest.mark.funded(ada_has=0)
class TestOrders:
    @pytest.fixture
    def operator(self, database: Database) -> Person:
        with unit_of_work(database) as connection:
            return add_user(connection, role=Role.OPERATOR)

    @pytest.mark.parametrize("action", [Action.DEPOSIT_ORDERED, Action.WITHDRAWAL_ORDERED])
    def test_of_operators_are_recorded_with_amount_and_currency(
        self, database: Database, operator: Person, action: Action
    ) -> None:
        bank = bank_of_two(database, ada_has=1000, currency="JPY")
        order = deposit_request if action is Action.DEPOSIT_ORDERED else withdrawal_request
        ordered = accepted(
            database,
            order(bank.ada_account, 70, submitted_by=operator.id, request_id="a-request", address="192.0.2.7"),
        )
        assert written(database)[1:] == [entry(by(operator), action, ordered.id, amount=70, currency="JPY")]

    def test_of_one_group_are_recorded_in_order_if_they_are_accepted(self, database: Database, bank: Bank) -> None:
        outcomes = accept(
            database,
            deposit_request(bank.ada_account, 5),
            deposit_request(new_id(), 6),
            deposit_request(bank.bob_account, 7),
            withdrawal_request(bank.bob_account, 8),
            from_ada_to_bob(bank, 1),
        )
        assert [isinstance(outcome, Refusal) for outcome in outcomes] == [False, True, False, True, True]
        assert [row["details"]["amount"] for row in written(database)] == [5, 7]

    def test_that_are_replayed_are_not_recorded_again(self, database: Database, bank: Bank) -> None:
        order = deposit_request(bank.ada_account, 5, idempotency_key="once")
        accept(database, order, order)
        accept(database, order)
        assert len(written(database)) == 1

    def test_of_customers_are_not_recorded(self, database: Database) -> None:
        bank = bank_of_two(database, ada_has=1000)
        before = written(database)
        accepted(database, from_ada_to_bob(bank))
        assert written(database) == before


def test_nothing_is_recorded_if_the_unit_of_work_is_rolled_back(database: Database, ada: Person) -> None:
    with pytest.raises(ZeroDivisionError), unit_of_work(database) as connection:
        write_down(connection, by(ada), Action.LOGGED_IN, ada.public_id)
        raise ZeroDivisionError
    assert written(database) == []


def test_an_empty_list_of_acts_records_nothing(database: Database) -> None:
    with unit_of_work(database) as connection:
        write_all_down(connection, [])
    assert written(database) == []


def test_times_never_decrease_even_if_the_clock_goes_back(
    database: Database, ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = now_us()
    for seconds in (0, 5, -3600, 6):
        monkeypatch.setattr(audit, "now_us", lambda seconds=seconds: start + seconds * 1_000_000)
        with unit_of_work(database) as connection:
            write_down(connection, by(ada), Action.LOGGED_IN, ada.public_id)
    found = rows(database, "SELECT at FROM audit_entries ORDER BY id")
    assert [(row["at"] - start) // 1_000_000 for row in found] == [0, 5, 5, 6]


@pytest.mark.parametrize("statement", ["UPDATE audit_entries SET action = 'logged_out'", "DELETE FROM audit_entries"])
def test_entries_are_never_changed_or_deleted(database: Database, ada: Person, statement: str) -> None:
    with unit_of_work(database) as connection:
        write_down(connection, by(ada), Action.LOGGED_IN, ada.public_id)
    before = rows(database, "SELECT * FROM audit_entries")
    with pytest.raises(Exception, match="what was written down"), unit_of_work(database) as connection:
        connection.exec_driver_sql(statement)
    assert rows(database, "SELECT * FROM audit_entries") == before


# --- lists -------------------------------------------------------------------------------------------------------

EVERYTHING = AuditFilter()
OBJECTS = [UUID(int=number) for number in range(1, 4)]
HOUR = 3_600_000_000


@pytest.fixture
def busy(database: Database, ada: Person, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Thirty-six entries, an hour apart: every third without an author, objects and actions in turn. Returns times."""
    start = now_us() - 100 * HOUR
    actions = [Action.LOG_IN_FAILED, Action.ACCESS_REFUSED, Action.REFRESH_TOKEN_REUSED, Action.LOG_IN_FAILED]
    with unit_of_work(database) as connection:
        for number in range(36):
            monkeypatch.setattr(audit, "now_us", lambda number=number: start + number * HOUR)
            author = NOBODY if number % 3 == 0 else THE_BANK if number % 3 == 1 else by(ada)
            object_id = None if number % 5 == 4 else OBJECTS[number % 3]
            write_down(connection, author, actions[number % 4], object_id, number=number)
    monkeypatch.undo()
    return [start + number * HOUR for number in range(36)]


@pytest.fixture
async def log(database: Database) -> AsyncIterator[Callable[..., Any]]:
    """Read a page as a request would: in its own session, and so in its own snapshot."""

    async def page(
        wanted: AuditFilter = EVERYTHING, *, below: int = NEWEST, offset: int = 0, limit: int = 1000
    ) -> tuple[list[AuditView], int | None]:
        async with AsyncSession(database.async_reader) as session:
            return await audit.list_audit(session, wanted, below=below, offset=offset, limit=limit)

    yield page
    await database.async_reader.dispose()


def filters(ada: Person, times: list[int]) -> dict[str, Any]:
    return {
        "action": Action.LOG_IN_FAILED,
        "author_id": ada.public_id,
        "object_id": OBJECTS[2],
        "created_from": to_datetime(times[7]),
        "created_to": to_datetime(times[30]),
    }


NAMES = ("action", "author_id", "object_id", "created_from", "created_to")
COMBINATIONS = [names for count in range(6) for names in combinations(NAMES, count)]


def lets_through(view: AuditView, wanted: dict[str, Any]) -> bool:
    """The meaning of a filter, without a database."""
    return (
        all(getattr(view, name) == wanted[name] for name in NAMES[:3] if name in wanted)
        and ("created_from" not in wanted or view.at >= wanted["created_from"])
        and ("created_to" not in wanted or view.at < wanted["created_to"])
    )


@pytest.mark.parametrize("names", COMBINATIONS, ids="+".join)
async def test_filters_combine_and_pages_of_any_size_add_up(
    log: Callable[..., Any], ada: Person, busy: list[int], monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]
) -> None:
    everything, end = await log()
    assert ([view.sequence for view in everything], end) == (list(range(36, 0, -1)), None)
    chosen = {name: value for name, value in filters(ada, busy).items() if name in names}
    expected = [view for view in everything if lets_through(view, chosen)]
    assert expected
    wanted = AuditFilter(**chosen)
    assert await log(wanted) == (expected, None)
    assert (await log(wanted, offset=2, limit=3))[0] == expected[2:5]
    for window, limit in ((11_000, 5), (4, 3)):
        monkeypatch.setattr(audit, "WINDOW", window)
        seen: list[AuditView] = []
        below: int | None = NEWEST
        while below is not None:
            page, below = await log(wanted, below=below, limit=limit)
            assert len(page) <= limit
            seen += page
        assert seen == expected, (window, limit)


async def test_a_time_span_includes_its_beginning_and_excludes_its_end(
    log: Callable[..., Any], busy: list[int]
) -> None:
    async def numbers(first: int, end: int) -> list[int]:
        span = AuditFilter(created_from=to_datetime(first), created_to=to_datetime(end))
        return [view.details["number"] for view in (await log(span))[0]]

    assert await numbers(busy[3], busy[6]) == [5, 4, 3]
    assert await numbers(busy[3] + 1, busy[6] + 1) == [6, 5, 4]
    assert await numbers(0, busy[0]) == []
    assert await numbers(busy[35], busy[35] + HOUR) == [35]
    assert await numbers(busy[35] + 1, busy[35] + HOUR) == []
    assert await numbers(busy[6], busy[3]) == []


async def test_entries_with_equal_times_are_all_found(log: Callable[..., Any], database: Database, ada: Person) -> None:
    acts = [Act(author=by(ada), action=Action.LOGGED_IN, object_id=ada.public_id)] * 3
    with unit_of_work(database) as connection:
        write_all_down(connection, acts)
    (moment,) = {view.at for view in (await log())[0]}
    assert len((await log(AuditFilter(created_from=moment)))[0]) == 3
    assert (await log(AuditFilter(created_to=moment)))[0] == []


@pytest.mark.parametrize("wanted", [AuditFilter(author_id=UUID(int=9)), AuditFilter(object_id=UUID(int=9))])
async def test_an_unknown_author_or_object_finds_nothing(
    log: Callable[..., Any], busy: list[int], wanted: AuditFilter
) -> None:
    assert await log(wanted) == ([], None)


# --- rows that a page reads ---


@pytest.fixture
def statements(database: Database) -> Iterator[list[tuple[str, Any]]]:
    """The queries that sessions send, with their values."""
    seen: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, values: Any, *_: Any) -> None:
        if statement.startswith("SELECT"):
            seen.append((statement, values))

    engine = database.async_reader.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    yield seen
    event.remove(engine, "before_cursor_execute", note)


WALKS = {
    "action": "audit_entries USING INDEX ix_audit_entries_action (action=? AND rowid<?)",
    "author_id": "audit_entries USING INDEX ix_audit_entries_author_id (author_id=? AND rowid<?)",
    "object_id": "audit_entries USING INDEX ix_audit_entries_object_id (object_id=? AND rowid<?)",
    "created_from": "audit_entries USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)",
    "created_to": "audit_entries USING INTEGER PRIMARY KEY (rowid<?)",
}


@pytest.mark.parametrize("name", NAMES)
async def test_a_filter_walks_its_index_from_the_newest_entry_without_sorting(
    log: Callable[..., Any],
    database: Database,
    ada: Person,
    busy: list[int],
    statements: list[tuple[str, Any]],
    name: str,
) -> None:
    await log(AuditFilter(**{name: filters(ada, busy)[name]}))
    assert len(statements) == 2
    for statement, values in statements:
        plan = [row["detail"] for row in rows(database, f"EXPLAIN QUERY PLAN {statement}", *values)]
        assert f"SEARCH {WALKS[name]}" in plan, plan
        assert not any("TEMP B-TREE" in step for step in plan), plan
        assert not any(step.startswith("SCAN audit_entries") for step in plan), plan
        if name.startswith("created"):
            assert any("ix_audit_entries_at (at>?)" in step for step in plan), plan


async def test_two_filters_walk_the_index_of_the_narrower_one(
    log: Callable[..., Any], database: Database, ada: Person, busy: list[int], statements: list[tuple[str, Any]]
) -> None:
    for names in (("action", "author_id", "object_id"), ("action", "author_id")):
        statements.clear()
        await log(AuditFilter(**{name: filters(ada, busy)[name] for name in names}))
        statement, values = statements[0]
        plan = [row["detail"] for row in rows(database, f"EXPLAIN QUERY PLAN {statement}", *values)]
        assert f"SEARCH {WALKS[names[-1]]}" in plan, plan
        assert not any("TEMP B-TREE" in step for step in plan), plan


# --- the migration -----------------------------------------------------------------------------------------------


def migrate(revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(core.__file__).parent.parent / "migrations"))
    config.set_main_option("path_separator", "os")
    command.upgrade(config, revision)


COLUMNS = ("id", "at", "author_id", "action", "object_id", "details", "request_id", "address")
RAW = "SELECT " + ", ".join(f"{column}, typeof({column}) AS type_of_{column}" for column in COLUMNS)


def test_the_migration_keeps_entries_byte_for_byte(
    settings: Settings, clean_environment: pytest.MonkeyPatch, as_it_was: None
) -> None:
    clean_environment.setenv("GIRO_DATA_DIR", str(settings.data_dir))
    migrate("0002")
    database = Database(settings)
    old = [
        (1, 5, 1, "account_frozen", OBJECTS[0].bytes, '{"scope": "all"}', "a-request", None),
        (2, 4, 1, "overdraft_limit_set", OBJECTS[1].bytes, '{"before":0,  "after": 7}', "ü", "192.0.2.7"),
        (7, 9, 1, "user_deactivated", OBJECTS[2].bytes, "{}", "", "::1"),
    ]
    with database.writer.begin() as connection:
        for row in old:
            connection.exec_driver_sql("INSERT INTO audit_entries VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
    before = rows(database, f"{RAW} FROM audit_entries ORDER BY id")
    database.close()
    migrate("head")
    assert rows(database, f"{RAW} FROM audit_entries ORDER BY id") == before
    assert [tuple(row[column] for column in COLUMNS) for row in before] == old
    with pytest.raises(Exception, match="stays"), database.writer.begin() as connection:
        connection.exec_driver_sql("DELETE FROM audit_entries")
    with unit_of_work(database) as connection:
        write_down(connection, NOBODY, Action.LOG_IN_FAILED)
    assert rows(database, "SELECT max(id) AS newest FROM audit_entries") == [{"newest": 8}]
    database.close()


def test_a_time_is_stored_to_the_microsecond(database: Database, ada: Person) -> None:
    began = now_us()
    with unit_of_work(database) as connection:
        write_down(connection, by(ada), Action.LOGGED_IN, ada.public_id)
    (row,) = rows(database, "SELECT at FROM audit_entries")
    assert began <= row["at"] <= now_us()
    assert to_us(to_datetime(row["at"])) == row["at"]
