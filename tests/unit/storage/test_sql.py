"""Named statements, run by SQLite in the style of each driver."""

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine

from core.storage.sql import MARKS, TOGETHER, WATCHERS, EngineStatement, Insertion, Statement, translated
from core.storage.sqlite.statements import TRANSFERS_BY_KEYS


class LikePsycopg(sqlite3.Connection):
    """A connection of SQLite that reads `%s` as a mark and `%%` as a percent sign."""

    def cursor(self, *_: Any) -> "Cursor":  # type: ignore[override]
        return super().cursor(Cursor)

    def execute(self, sql: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        return self.cursor().execute(sql, values)


class Cursor(sqlite3.Cursor):
    """A cursor that fails if there are more or fewer marks than values."""

    def execute(self, sql: str, values: Any = ()) -> "Cursor":
        super().execute(sql % (("?",) * len(values)), values)
        return self

    def executemany(self, sql: str, rows: Any) -> "Cursor":
        super().executemany(sql % (("?",) * len(rows[0])), rows)
        return self


@pytest.fixture(params=MARKS)
def connection(request: pytest.FixtureRequest) -> Iterator[Connection]:
    """A connection to a database in memory, for which statements are written in the style of each driver in turn."""
    if request.param == "sqlite":
        engine = create_engine("sqlite://")
    else:
        engine = create_engine("sqlite://", connect_args={"factory": LikePsycopg})
        engine.dialect.name = request.param
        engine.dialect.do_ping = lambda _connection: True
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def test_values_take_the_places_of_their_names(connection: Connection) -> None:
    found = Statement("SELECT :first, :second_one").run(connection, second_one=2, first="one")
    assert list(found) == [("one", 2)]


def test_a_name_can_be_repeated(connection: Connection) -> None:
    assert list(Statement("SELECT :a, :b, :a + :b, :a").run(connection, a=1, b=2)) == [(1, 2, 3, 1)]


def test_a_statement_can_have_one_name_or_none(connection: Connection) -> None:
    assert Statement("SELECT :a").run(connection, a=7).scalar() == 7
    assert Statement("SELECT 8").run(connection).scalar() == 8


def test_a_name_is_not_found_in_the_beginning_of_a_longer_one(connection: Connection) -> None:
    assert list(Statement("SELECT :id, :id_of").run(connection, id=1, id_of=2)) == [(1, 2)]


@pytest.mark.parametrize("length", [1, 2, 500])
def test_a_list_has_any_length(connection: Connection, length: int) -> None:
    statement = Statement("SELECT 1 IN (:ids*), 500 IN (:ids*)")
    for ids in (range(1, length + 1), set(range(1, length + 1)), dict.fromkeys(range(1, length + 1)).keys()):
        assert list(statement.run(connection, ids=ids)) == [(1, length == 500)]


def test_a_list_stands_among_other_names(connection: Connection) -> None:
    statement = Statement("SELECT :a, :b IN (:ids*), :c, :a")
    for ids, found in (([5], 0), ([5, 6, 7], 1)):
        assert list(statement.run(connection, a=1, b=7, ids=ids, c=3)) == [(1, found, 3, 1)]


def test_a_list_of_rows_has_any_length(connection: Connection) -> None:
    statement = Statement("SELECT column1, column2, :other FROM (VALUES :rows**) given ORDER BY column1")
    for rows in ([(1, "a")], [(1, "a"), (2, "b"), (3, "c")]):
        assert list(statement.run(connection, rows=rows, other=9)) == [(*row, 9) for row in rows]


def test_a_percent_sign_is_kept(connection: Connection) -> None:
    statement = Statement("SELECT 17 % :five, 'cabs' LIKE '%' || :name || '%s', '100%'")
    assert list(statement.run(connection, five=5, name="ab")) == [(2, True, "100%")]
    assert Statement("SELECT 17 % 5").run(connection).scalar() == 2
    assert list(Statement("SELECT '%s' || column1 FROM (VALUES (1), (2)) n WHERE column1 IN (:ids*)").run(
        connection, ids=[2]
    )) == [("%s2",)]  # fmt: skip


def test_colons_and_quotes_in_strings_are_kept(connection: Connection) -> None:
    statement = Statement("SELECT '12:30', 'at :noon', 'it''s :late', CAST(:a AS INTEGER), ':'")
    assert list(statement.run(connection, a="4")) == [("12:30", "at :noon", "it's :late", 4, ":")]


def test_a_statement_is_run_for_each_row(connection: Connection) -> None:
    Statement("CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER)").run(connection)
    Statement("INSERT INTO t VALUES (:id, :n)").run_each(connection, [(1, 10), (2, 20)])
    assert Statement("UPDATE t SET n = n % 7 + :n WHERE id = :id").run_each(connection, [(1, 1), (2, 2)]).rowcount == 2
    assert list(Statement("SELECT n FROM t ORDER BY id").run(connection)) == [(4,), (8,)]


def test_many_rows_are_read_in_parts_and_later_statements_are_not(connection: Connection) -> None:
    Statement("CREATE TABLE t (id INTEGER)").run(connection)
    Insertion("t", "id").run(connection, [(number,) for number in range(25)])
    found = Statement("SELECT id FROM t WHERE id % 5 = 0 ORDER BY id").stream(connection, 2)
    assert [len(part) for part in found.partitions()] == [2, 2, 1]
    assert "yield_per" not in connection.get_execution_options()


@pytest.mark.parametrize("count", [0, 1, 2, TOGETHER - 1, TOGETHER, TOGETHER + 1, 3 * TOGETHER + 5])
def test_rows_are_inserted_a_hundred_at_a_time(connection: Connection, count: int) -> None:
    Statement("CREATE TABLE t (id INTEGER, name TEXT)").run(connection)
    run: list[int] = []
    rows = [(number, f"{number} %s") for number in range(count)]
    WATCHERS.append(watcher := lambda sql, _values: run.append(max(sql.count("(?"), sql.count("(%s"))))
    Insertion("t", "id, name").run(connection, rows)
    WATCHERS.remove(watcher)
    assert run == [TOGETHER] * (count // TOGETHER) + [1] * bool(count % TOGETHER)
    assert list(Statement("SELECT id, name FROM t ORDER BY id").run(connection)) == rows


@pytest.mark.parametrize("sql", ["SELECT :a, :b, :a", "SELECT :a IN (:b*)", "SELECT :a FROM (VALUES :b**) given"])
def test_missing_and_unknown_names_are_refused(connection: Connection, sql: str) -> None:
    statement, values = Statement(sql), {"a": 1, "b": [(2,)] if "*" in sql else 2}
    with pytest.raises(KeyError, match="'b'"):
        statement.run(connection, a=1)
    with pytest.raises(KeyError, match="'b'"):
        statement.run(connection, a=1, c=[2])
    with pytest.raises(TypeError, match="this statement has 2 names, but a, b, c were given: SELECT"):
        statement.run(connection, **values, c=3)
    with pytest.raises(TypeError, match="this statement has 0 names, but a were given: SELECT 1"):
        Statement("SELECT 1").run(connection, a=1)


def test_an_empty_list_is_refused(connection: Connection) -> None:
    with pytest.raises(ValueError, match="'ids' is empty"):
        Statement("SELECT 1 IN (:ids*)").run(connection, ids=set())


def test_a_statement_has_one_list() -> None:
    with pytest.raises(AssertionError, match="one list"):
        Statement("SELECT 1 IN (:ids*) OR 2 IN (:others*)")


@pytest.mark.parametrize(
    ("sql", "qmark", "percent"),
    [
        ("SELECT :a, :b, :a", "SELECT ?, ?, ?", "SELECT %s, %s, %s"),
        ("SELECT n % :a, '50%'", "SELECT n % ?, '50%'", "SELECT n %% %s, '50%%'"),
        ("SELECT n::bigint, :a::text", "SELECT n::bigint, ?::text", "SELECT n::bigint, %s::text"),
        ("SELECT 'b:a', 'c'':a', :a", "SELECT 'b:a', 'c'':a', ?", "SELECT 'b:a', 'c'':a', %s"),
        ("SELECT (:a-:b)*:c", "SELECT (?-?)*?", "SELECT (%s-%s)*%s"),
    ],
)
def test_names_are_translated_for_each_driver(sql: str, qmark: str, percent: str) -> None:
    assert [translated(sql, mark) for mark in ("?", "%s")] == [qmark, percent]


def test_an_engine_has_its_own_statements() -> None:
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        for create in ("accounts (id, public_id)", "transfers (id, kind, idempotency_key, submitted_by)"):
            Statement(f"CREATE TABLE {create}").run(connection)
        columns = "fingerprint public_id from_account_id to_account_id amount currency description created_at"
        for column in (*columns.split(), "answer_version", "request_id"):
            Statement(f"ALTER TABLE transfers ADD {column}").run(connection)
        own, same = EngineStatement("TRANSFERS_BY_KEYS"), Statement(TRANSFERS_BY_KEYS)
        keys = [("a", 1), ("b", 2)]
        assert list(own.named(connection, keys=keys).keys()) == list(same.named(connection, keys=keys).keys())
    engine.dispose()


def test_an_engine_without_its_own_statement_is_an_error() -> None:
    engine = create_engine("sqlite://")
    with engine.connect() as connection, pytest.raises(AttributeError, match="NO_SUCH_STATEMENT"):
        EngineStatement("NO_SUCH_STATEMENT").run(connection)
    engine.dispose()
