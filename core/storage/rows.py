"""Reading rows as views, and inserting many rows."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

from sqlalchemy import Connection

from core.storage.models import Base

TOGETHER = 100
"""Rows per statement: the start and the end of each statement cost as much as writing a row."""


def columns(table: type[Base], view: type[Any]) -> list[Any]:
    """Return the columns of a table that a view names, in the order of its fields: `view(*row)` reads a row."""
    return [getattr(table, name) for name in view.__match_args__]


def insert(connection: Connection, into: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows: one statement for each full hundred, and for the rest one that is run for each row.

    `into` is a table and its columns in brackets, in the order of the values.
    """
    if not rows:
        return
    marks = f"({', '.join('?' * len(rows[0]))})"
    whole = len(rows) - len(rows) % TOGETHER
    # nosemgrep: sql-from-constants - tables and columns are the callers' constants
    many = f"INSERT INTO {into} VALUES {', '.join([marks] * TOGETHER)}"
    for start in range(0, whole, TOGETHER):
        connection.exec_driver_sql(many, tuple(chain.from_iterable(rows[start : start + TOGETHER])))
    if rest := list(rows[whole:]):
        # nosemgrep: sql-from-constants - likewise
        connection.exec_driver_sql(f"INSERT INTO {into} VALUES {marks}", rest)
