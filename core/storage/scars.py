"""Scars in the database: proposals, and those that were confirmed."""

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from core.clock import to_datetime, to_us
from core.domain.scars import ScarView

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
    query = (
        "INSERT INTO scars (first_height, last_height, content, reason, proposed_by, proposed_at) "
        "VALUES (?, ?, ?, ?, ?, ?) RETURNING id"
    )
    values = (*heights, content, reason, proposed_by, to_us(proposed_at))
    row_id: int = connection.exec_driver_sql(query, values).scalar_one()
    return row_id


def find(connection: Connection, row_id: int) -> ScarRow | None:
    """Read one proposal or scar."""
    row = connection.exec_driver_sql(f"SELECT {_COLUMNS} FROM scars WHERE id = ?", (row_id,)).first()
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
    connection.exec_driver_sql(
        "UPDATE scars SET confirmed_by = ?, confirmed_at = ?, public_key = ?, signature = ? WHERE id = ?",
        (confirmed_by, to_us(confirmed_at), public_key, signature, row_id),
    )


def confirmed(connection: Connection) -> list[ScarRow]:
    """Read all scars, oldest first."""
    query = f"SELECT {_COLUMNS} FROM scars WHERE confirmed_at IS NOT NULL ORDER BY last_height, id"
    return [ScarRow(*row) for row in connection.exec_driver_sql(query)]


def views(connection: Connection) -> list[ScarView]:
    """Read all scars for people, oldest first."""
    rows = connection.exec_driver_sql(
        "SELECT s.last_height + 1 AS height, s.first_height, s.last_height, s.reason, p.email AS proposed_by, "
        "c.email AS confirmed_by, s.confirmed_at "
        "FROM scars s LEFT JOIN users p ON p.id = s.proposed_by JOIN users c ON c.id = s.confirmed_by "
        "WHERE s.confirmed_at IS NOT NULL ORDER BY s.last_height, s.id"
    )
    return [ScarView(**{**row, "confirmed_at": to_datetime(row["confirmed_at"])}) for row in rows.mappings()]
