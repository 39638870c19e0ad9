"""The audit log: writing down what is done, in the unit of work that does it, and reading it."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import now_us, to_datetime
from core.domain.audit import Act, Action, AuditFilter, AuditView, Author
from core.storage import audit

WINDOW = 11_000
"""Entries that one page of a list looks at: the largest offset and the largest page together."""


def write_down(
    connection: Connection, author: Author, action: Action, object_id: UUID | None = None, **details: str | int
) -> None:
    """Write one act down. Never with a password or a token, nor with anything that may be one."""
    write_all_down(connection, [Act(author=author, action=action, object_id=object_id, details=details)])


def write_all_down(connection: Connection, acts: Sequence[Act]) -> None:
    """Write acts down, in their order. Times never run backwards along the log, whatever the wall clock does."""
    if not acts:
        return
    now, newest = to_datetime(now_us()), audit.newest_at(connection)
    audit.add(connection, acts, at=now if newest is None else max(now, newest))


async def list_audit(
    session: AsyncSession, wanted: AuditFilter, *, below: int, offset: int, limit: int
) -> tuple[list[AuditView], int | None]:
    """List what was written down, newest first, and say below which sequence the next page begins.

    A page looks at `WINDOW` entries at most; with two filters or more it can therefore come back short, or empty,
    and still say where to go on.
    """
    return await audit.read(session, wanted, below=below, window=WINDOW, offset=offset, limit=limit)
