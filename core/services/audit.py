"""The audit log: recording acts in the unit of work that does them, and reading the log."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import now_us, to_datetime
from core.domain.audit import Act, Action, AuditFilter, AuditView, Author
from core.storage import audit

WINDOW = 11_000
"""Entries that one page of a list searches: the largest offset plus the largest page."""


def write_down(
    connection: Connection, author: Author, action: Action, object_id: UUID | None = None, **details: str | int
) -> None:
    """Record one act. The details must never contain a password or a token, nor anything that may be one."""
    write_all_down(connection, [Act(author=author, action=action, object_id=object_id, details=details)])


def write_all_down(connection: Connection, acts: Sequence[Act]) -> None:
    """Record acts in their order. Times in the log never go back, even if the wall clock does."""
    if not acts:
        return
    now, newest = to_datetime(now_us()), audit.newest_at(connection)
    audit.add(connection, acts, at=now if newest is None else max(now, newest))


async def list_audit(
    session: AsyncSession, wanted: AuditFilter, *, below: int, offset: int, limit: int
) -> tuple[list[AuditView], int | None]:
    """List entries, newest first, and return the sequence below which the next page begins.

    A page searches at most `WINDOW` entries. With two or more filters it can therefore be short or empty, and still
    have a next page.
    """
    return await audit.read(session, wanted, below=below, window=WINDOW, offset=offset, limit=limit)
