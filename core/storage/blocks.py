"""Blocks in the database."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection

from core.domain.blocks import Block, BlockKind
from core.domain.errors import Unavailable
from core.storage.scars import REPLACED
from core.storage.sql import Statement

_PAGE = 1000
_COLUMNS = "height, kind, first_leg_id, leg_count, first_sequence, last_sequence, ending_count, made_at, hash"
_NEWEST = Statement(f"SELECT {_COLUMNS} FROM blocks ORDER BY height DESC LIMIT 1")
_ADD = Statement(
    f"INSERT INTO blocks ({_COLUMNS}) VALUES (:height, :kind, :first_leg_id, :leg_count, :first_sequence, "
    ":last_sequence, :ending_count, :made_at, :hash)"
)
_READ = Statement(f"SELECT {_COLUMNS} FROM blocks WHERE height BETWEEN :first AND :last ORDER BY height LIMIT :limit")
_MADE_BETWEEN = Statement("SELECT min(height), max(height) FROM blocks WHERE made_at >= :start AND made_at < :end")
_LAST_KEPT = Statement(
    f"SELECT {_COLUMNS} FROM blocks WHERE height < :below AND NOT {REPLACED} ORDER BY height DESC LIMIT 1"
)


def newest(connection: Connection) -> Block | None:
    """Read the newest block. It is None only if all were removed, because the migration wrote the genesis."""
    row = _NEWEST.run(connection).first()
    return _block(row) if row else None


def head(connection: Connection) -> Block:
    """Read the block that the next one follows. Raises Unavailable without a chain."""
    if (block := newest(connection)) is None:
        raise Unavailable("The chain of blocks is missing; nothing was recorded.")
    return block


def add(connection: Connection, block: Block) -> None:
    """Write a block, in the unit of work that wrote the rows that it covers."""
    _ADD.run(
        connection,
        height=block.height,
        kind=block.kind.value,
        first_leg_id=block.first_leg_id,
        leg_count=block.leg_count,
        first_sequence=block.first_sequence,
        last_sequence=block.last_sequence,
        ending_count=block.ending_count,
        made_at=block.made_at,
        hash=block.hash,
    )


def read(connection: Connection, *, first: int, last: int, limit: int) -> list[Block]:
    """Read blocks in their order, from one height up to another."""
    return [_block(row) for row in _READ.run(connection, first=first, last=last, limit=limit)]


def made_between(connection: Connection, start: int, end: int) -> tuple[int, int] | None:
    """Return the lowest and the highest block made from one time on (µs) and before another; None without any."""
    first, last = _MADE_BETWEEN.run(connection, start=start, end=end).one()
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
    row = _LAST_KEPT.run(connection, below=below).first()
    return _block(row) if row else None


def _block(row: Any) -> Block:
    height, kind, *rest = row
    return Block(height, BlockKind(kind), *rest)
