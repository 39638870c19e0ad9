"""Scars in the database: proposals, and those that were confirmed."""

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from core.clock import to_datetime, to_us
from core.domain.scars import ScarView
from core.storage.sql import Statement

REPLACED = (
    "EXISTS (SELECT 1 FROM scars WHERE confirmed_at IS NOT NULL AND blocks.height BETWEEN first_height AND last_height)"
)
"""The condition that a confirmed scar replaces a block."""


class ScarRow(NamedTuple):
    """A proposal, or a scar if it is confirmed."""

    id: int
    first_height: int
    last_height: int
    content: bytes
    reason: str
    proposed_by: int
    """Row ids of the operators."""
    confirmed_by: int | None
    public_key: bytes | None
    """Ed25519 public key, and the signature of the block's hash."""
    signature: bytes | None

    @property
    def height(self) -> int:
        """The height of its block."""
        return self.last_height + 1


_COLUMNS = ", ".join(ScarRow._fields)
_PROPOSE = Statement(
    "INSERT INTO scars (first_height, last_height, content, reason, proposed_by, proposed_at) "
    "VALUES (:first, :last, :content, :reason, :proposed_by, :proposed_at) RETURNING id"
)
_FIND = Statement(f"SELECT {_COLUMNS} FROM scars WHERE id = :id")
_CONFIRM = Statement(
    "UPDATE scars SET confirmed_by = :confirmed_by, confirmed_at = :confirmed_at, public_key = :public_key, "
    "signature = :signature WHERE id = :id"
)
_CONFIRMED = Statement(f"SELECT {_COLUMNS} FROM scars WHERE confirmed_at IS NOT NULL ORDER BY last_height, id")
_VIEWS = Statement(
    "SELECT s.last_height + 1 AS height, s.first_height, s.last_height, s.reason, p.email AS proposed_by, "
    "c.email AS confirmed_by, s.confirmed_at "
    "FROM scars s LEFT JOIN users p ON p.id = s.proposed_by JOIN users c ON c.id = s.confirmed_by "
    "WHERE s.confirmed_at IS NOT NULL ORDER BY s.last_height, s.id"
)


def propose(
    connection: Connection,
    *,
    heights: tuple[int, int],
    content: bytes,
    reason: str,
    proposed_by: int,
    proposed_at: datetime,
) -> int:
    """Record a proposal, and return its row id."""
    first, last = heights
    row_id: int = _PROPOSE.run(
        connection,
        first=first,
        last=last,
        content=content,
        reason=reason,
        proposed_by=proposed_by,
        proposed_at=to_us(proposed_at),
    ).scalar_one()
    return row_id


def find(connection: Connection, row_id: int) -> ScarRow | None:
    """Read one proposal or scar."""
    row = _FIND.run(connection, id=row_id).first()
    return ScarRow(*row) if row else None


def confirm(
    connection: Connection,
    row_id: int,
    *,
    confirmed_by: int,
    confirmed_at: datetime,
    public_key: bytes,
    signature: bytes,
) -> None:
    """Make a proposal a scar, in the unit of work that writes its block."""
    _CONFIRM.run(
        connection,
        id=row_id,
        confirmed_by=confirmed_by,
        confirmed_at=to_us(confirmed_at),
        public_key=public_key,
        signature=signature,
    )


def confirmed(connection: Connection) -> list[ScarRow]:
    """Read all scars, oldest first."""
    return [ScarRow(*row) for row in _CONFIRMED.run(connection)]


def views(connection: Connection) -> list[ScarView]:
    """Read all scars for people, oldest first."""
    rows = _VIEWS.named(connection).mappings()
    return [ScarView(**{**row, "confirmed_at": to_datetime(row["confirmed_at"])}) for row in rows]
