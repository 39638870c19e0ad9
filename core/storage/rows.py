"""Reading rows as views, and inserting many rows."""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

from sqlalchemy import Connection, Result

from core import turns
from core.storage.models import Base

TOGETHER = 100
"""Rows per statement: the start and the end of each statement cost as much as writing a row."""


async def in_turns[Made](found: Result[Any], make: Callable[[Any], Made]) -> list[Made]:
    """Make an object of each row, and give other requests a turn after some: a page or an offset can be long."""
    return await turns.flattened(list(map(make, rows)) for rows in found.partitions(turns.TOGETHER))


def columns(table: type[Base], view: type[Any]) -> list[Any]:
    """Return the columns of a table that a view names, in the order of its fields: `view(*row)` reads a row."""
    return [getattr(table, name) for name in view.__match_args__]


HALF = 10**9
"""Sums of amounts are stored and added up in two halves: they may exceed SQLite's 64 bits."""


def halves(total: int) -> tuple[int, int]:
    """Divide a sum of amounts, in minor units, into its high and its low half."""
    return divmod(total, HALF)


def joined(high: int, low: int) -> int:
    """Put the halves of a sum together."""
    return high * HALF + low


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
