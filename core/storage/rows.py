"""Reading rows as views, and sums in two halves."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import Result

from core import turns
from core.storage.models import Base


async def in_turns[Made](found: Result[Any], make: Callable[[Any], Made]) -> list[Made]:
    """Make an object of each row, and give other requests a turn after some: a page or an offset can be long."""
    return await turns.flattened(list(map(make, rows)) for rows in found.partitions(turns.TOGETHER))


def columns(table: type[Base], view: type[Any], **computed: Any) -> list[Any]:
    """Return the columns of a table that a view names, in the order of its fields: `view(*row)` reads a row.

    `computed` has expressions for the fields that are no columns.
    """
    return [computed[name] if name in computed else getattr(table, name) for name in view.__match_args__]


HALF = 10**9
"""Sums of amounts are stored and added up in two halves: they may exceed SQLite's 64 bits."""


def halves(total: int) -> tuple[int, int]:
    """Divide a sum of amounts, in minor units, into its high and its low half."""
    return divmod(total, HALF)


def joined(high: int, low: int) -> int:
    """Put the halves of a sum together."""
    return high * HALF + low
