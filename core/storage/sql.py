"""Named statements: SQL with `:names`, which is translated once, when its module is imported, for each driver.

The driver itself runs them: a short statement takes some 3 µs, and 10 to 20 through SQLAlchemy. A unit of work has ten.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from itertools import chain
from operator import itemgetter
from typing import Any, NamedTuple

from sqlalchemy import Connection, CursorResult
from sqlalchemy.exc import DBAPIError

MARKS = {"sqlite": "?", "postgresql": "%s"}
"""What stands for a value in a driver's SQL, by the name of SQLAlchemy's dialect."""

TOGETHER = 100
"""Rows per statement that inserts: the start and the end of each statement cost as much as writing a row."""

WATCHERS: list[Callable[[str, Sequence[Any]], None]] = []
"""Called with each statement and its values before the driver runs it. Only tests have any."""

_QUOTED_OR_NAME = re.compile(r"'[^']*'|(?<![:\w]):([a-z_]+)(\*{0,2})")
_LIST = "\0"


def translated(sql: str, mark: str) -> str:
    """Replace each name by a driver's mark, and each list by a NUL, which is replaced when its length is known."""
    if "%" in mark:
        sql = sql.replace("%", "%%")
    return _QUOTED_OR_NAME.sub(lambda found: (_LIST if found[2] else mark) if found[1] else found[0], sql)


class _List(NamedTuple):
    """The list of a statement."""

    name: str
    rows: bool
    mark: str
    names: list[str]
    """All names of the statement."""

    def filled(self, sql: str, values: Mapping[str, Any]) -> tuple[str, tuple[Any, ...]]:
        """Return the SQL for the list's length, and the values in its order. Raises ValueError for an empty list."""
        given = list(values[self.name])
        if not given:
            raise ValueError(f"the list {self.name!r} is empty")
        marks = f"({','.join([self.mark] * len(given[0]))})" if self.rows else self.mark
        sql = sql.replace(_LIST, ",".join([marks] * len(given)))
        if self.rows:
            given = list(chain.from_iterable(given))
        return sql, tuple(chain.from_iterable(given if name == self.name else (values[name],) for name in self.names))


_Take = Callable[[Mapping[str, Any]], tuple[Any, ...]]
"""Takes values from their names, in the order of a statement's marks."""
_Text = tuple[str, _Take, int, _List | None]
"""A statement in the words of one driver, its number of different names, and its list. A bare tuple is unpacked in
half the time of a named one."""


def _text(sql: str, mark: str) -> _Text:
    found = [(part[1], part[2]) for part in _QUOTED_OR_NAME.finditer(sql) if part[1]]
    names = [name for name, _ in found]
    lists = {part for part in found if part[1]}
    assert len(lists) <= 1, "a statement has one list at most"
    listed = None
    for name, stars in lists:
        listed = _List(name, stars == "**", mark, names)
    return translated(sql, mark), _taking(names), len(set(names)), listed


def _taking(names: Sequence[str]) -> _Take:
    if len(names) > 1:
        return itemgetter(*names)
    if names:
        (name,) = names
        return lambda values: (values[name],)
    return lambda _values: ()


class Rows(list[Any]):
    """The rows that a statement has found, as tuples, and how many it has changed."""

    __slots__ = ("rowcount",)

    rowcount: int

    def first(self) -> Any:
        """Return the first row; None without one."""
        return self[0] if self else None

    def one(self) -> Any:
        """Return the only row. Raises LookupError if there is another number of rows."""
        if len(self) != 1:
            raise LookupError(f"one row was expected, and {len(self) or 'none'} found")
        return self[0]

    def scalar(self) -> Any:
        """Return the first value of the first row; None without one."""
        return self[0][0] if self else None

    def scalar_one(self) -> Any:
        """Return the value of the only row. Raises LookupError as `one` does."""
        return self.one()[0]

    def scalars(self) -> list[Any]:
        """Return the first value of each row."""
        return [row[0] for row in self]


class Statement:
    """A statement whose values have names, such as `WHERE id = :id`.

    Write `IN (:ids*)` for a list of values, and `VALUES :keys**` for a list of rows. Neither may be empty.
    """

    __slots__ = ("_texts",)

    def __init__(self, sql: str) -> None:
        self._texts: dict[str, _Text] = {dialect: _text(sql, mark) for dialect, mark in MARKS.items()}

    def run(self, connection: Connection, **values: Any) -> Rows:
        """Run it once, with a value for each of its names. Raises KeyError or TypeError if the names are not these."""
        return _run(connection, *self._filled(connection, values))

    def named(self, connection: Connection, **values: Any) -> CursorResult[*tuple[Any, ...]]:
        """Run it once, for rows whose columns have names."""
        return connection.exec_driver_sql(*self._filled(connection, values))

    def _filled(self, connection: Connection, values: Mapping[str, Any]) -> tuple[str, tuple[Any, ...]]:
        sql, take, count, listed = self._texts[connection.dialect.name]
        if listed is None:
            taken = take(values)
        else:
            sql, taken = listed.filled(sql, values)
        if len(values) != count:
            raise TypeError(f"this statement has {count} names, but {', '.join(values)} were given: {sql}")
        return sql, taken

    def stream(self, connection: Connection, size: int) -> CursorResult[*tuple[Any, ...]]:
        """Run it without values, and hold only `size` rows at a time."""
        sql = self._texts[connection.dialect.name][0]
        return connection.exec_driver_sql(sql, (), {"stream_results": True}).yield_per(size)

    def run_each(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> Rows:
        """Run it for each row of values, which are in the order of its names."""
        return _run(connection, self._texts[connection.dialect.name][0], rows, many=True)


class EngineStatement(Statement):
    """A statement that cannot be portable: `core.storage.<dialect>.statements` has the engine's own under its name."""

    __slots__ = ()

    def __init__(self, name: str) -> None:
        self._texts = _EngineTexts(name)


class _EngineTexts(dict[str, _Text]):
    """The texts of an engine's own statement, each looked up once."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def __missing__(self, dialect: str) -> _Text:
        own = import_module(f"core.storage.{dialect}.statements")
        text = self[dialect] = _text(getattr(own, self._name), MARKS[dialect])
        return text


class Insertion:
    """An INSERT of many rows: one statement for each full hundred, and for the rest one that is run for each row.

    `columns` are separated by commas, in the order of the values.
    """

    __slots__ = ("_texts",)

    def __init__(self, table: str, columns: str) -> None:
        # nosemgrep: sql-from-constants - the table and its columns are the callers' constants
        head, count = f"INSERT INTO {table} ({columns}) VALUES ", columns.count(",") + 1
        rows = {dialect: f"({', '.join([mark] * count)})" for dialect, mark in MARKS.items()}
        self._texts = {dialect: (head + row, head + ", ".join([row] * TOGETHER)) for dialect, row in rows.items()}

    def run(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        """Insert rows, if there are any."""
        one, many = self._texts[connection.dialect.name]
        whole = len(rows) - len(rows) % TOGETHER
        for start in range(0, whole, TOGETHER):
            _run(connection, many, tuple(chain.from_iterable(rows[start : start + TOGETHER])))
        if rest := rows[whole:]:
            _run(connection, one, rest, many=True)


def _run(connection: Connection, sql: str, values: Sequence[Any], *, many: bool = False) -> Rows:
    """Let the driver run SQL in its style, and read all rows. Raises DBAPIError, as SQLAlchemy does."""
    if not connection.in_transaction():
        connection.begin()
    for watcher in WATCHERS:
        watcher(sql, values[0] if many else values)
    cursor = connection.connection.cursor()
    try:
        if many:
            cursor.executemany(sql, values)
            rows = Rows()
        else:
            cursor.execute(sql, values)
            rows = Rows(cursor.fetchall() if cursor.description else ())
        rows.rowcount = cursor.rowcount
    except Exception as error:
        dbapi = connection.dialect.dbapi
        assert dbapi is not None
        raise DBAPIError.instance(None, None, error, dbapi.Error, hide_parameters=True) from error
    finally:
        cursor.close()
    return rows
