"""Blocks in the database."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection

from core.domain.blocks import Block, BlockKind
from core.domain.errors import Unavailable
from core.storage.scars import REPLACED

_PAGE = 1000
_COLUMNS = "height, kind, first_leg_id, leg_count, first_sequence, last_sequence, ending_count, made_at, hash"


def newest(connection: Connection) -> Block | None:
    """Read the newest block. It is None only if all were removed, because the migration wrote the genesis."""
    row = connection.exec_driver_sql(f"SELECT {_COLUMNS} FROM blocks ORDER BY height DESC LIMIT 1").first()
    return _block(row) if row else None


def head(connection: Connection) -> Block:
    """Read the block that the next one follows. Raises Unavailable without a chain."""
    if (block := newest(connection)) is None:
        raise Unavailable("The chain of blocks is missing; nothing was recorded.")
    return block


def add(connection: Connection, block: Block) -> None:
    """Write a block, in the unit of work that wrote the rows that it covers."""
    connection.exec_driver_sql(
        f"INSERT INTO blocks ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            block.height,
            block.kind.value,
            block.first_leg_id,
            block.leg_count,
            block.first_sequence,
            block.last_sequence,
            block.ending_count,
            block.made_at,
            block.hash,
        ),
    )


def read(connection: Connection, *, first: int, last: int, limit: int) -> list[Block]:
    """Read blocks in their order, from one height up to another."""
    query = f"SELECT {_COLUMNS} FROM blocks WHERE height BETWEEN ? AND ? ORDER BY height LIMIT ?"
    return [_block(row) for row in connection.exec_driver_sql(query, (first, last, limit))]


def made_between(connection: Connection, start: int, end: int) -> tuple[int, int] | None:
    """Return the lowest and the highest block made from one time on (µs) and before another; None without any."""
    query = "SELECT min(height), max(height) FROM blocks WHERE made_at >= ? AND made_at < ?"
    first, last = connection.exec_driver_sql(query, (start, end)).one()
    return None if first is None else (first, last)


def read_all(connection: Connection, *, first: int, last: int) -> Iterator[Block]:
    """Read blocks in their order, however many, from one height up to another."""
    while found := read(connection, first=first, last=last, limit=_PAGE):
        yield from found
        first = found[-1].height + 1


def at(connection: Connection, height: int) -> Block | None:
    """Read one block."""
    found = read(connection, first=height, last=height, limit=1)
    return found[0] if found else None


def last_kept(connection: Connection, *, below: int) -> Block | None:
    """Read the newest block below a height that no scar replaces."""
    query = f"SELECT {_COLUMNS} FROM blocks WHERE height < ? AND NOT {REPLACED} ORDER BY height DESC LIMIT 1"
    row = connection.exec_driver_sql(query, (below,)).first()
    return _block(row) if row else None


def _block(row: Any) -> Block:
    height, kind, *rest = row
    return Block(height, BlockKind(kind), *rest)
