"""The audit log in the database."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Select, Subquery, func, insert, literal, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from core.domain.audit import Act, Action, AuditFilter, AuditView
from core.ids import NEWEST
from core.storage.models import AuditEntry, User


def add(connection: Connection, acts: Sequence[Act], *, at: datetime) -> None:
    """Record acts, in the unit of work that does them."""
    rows = [
        {
            "at": at,
            "author_id": act.author.user_id,
            "action": act.action,
            "object_id": act.object_id,
            "details": json.dumps(act.details),
            "request_id": act.author.request_id,
            "address": act.author.address,
        }
        for act in acts
    ]
    connection.execute(insert(AuditEntry), rows)


def newest_at(connection: Connection) -> datetime | None:
    """Return when the newest entry was written; None for an empty log."""
    return connection.execute(select(AuditEntry.at).order_by(AuditEntry.id.desc()).limit(1)).scalar()


def newest_of(connection: Connection, action: Action) -> datetime | None:
    """Return when an action was last recorded; None if it never was."""
    entry = AuditEntry
    return connection.execute(
        select(entry.at).where(entry.action == action).order_by(entry.id.desc()).limit(1)
    ).scalar()


async def read(
    session: AsyncSession, wanted: AuditFilter, *, below: int, window: int, offset: int, limit: int
) -> tuple[list[AuditView], int | None]:
    """Read entries below sequence `below`, newest first, and return below which sequence the next page begins.

    The first filter scans its index (without a filter: the table) for at most `window` entries, and the others are
    applied to those. So a page of two filters that seldom match together can be short or empty, and still have a
    next page.
    """
    filters = _filters(wanted)
    scan = _scan(wanted, filters[:1], below=below, window=window)
    rows = (await session.execute(_page(scan, filters[1:], offset=offset, limit=limit + 1))).all()
    found = [_view(*row) for row in rows[:limit]]
    if len(rows) > limit:
        return found, found[-1].sequence
    count, lowest = (await session.execute(select(func.count(), func.min(scan.c.id)))).one()
    return found, lowest if count == window else None


def _filters(wanted: AuditFilter) -> list[tuple[str, Any]]:
    """Return the columns that must have one value, the most selective one first."""
    author = None
    if wanted.author_id is not None:
        author = select(User.id).where(User.public_id == wanted.author_id).scalar_subquery()
    values = {"object_id": wanted.object_id, "author_id": author, "action": wanted.action}
    return [(name, value) for name, value in values.items() if value is not None]


def _scan(wanted: AuditFilter, filters: Sequence[tuple[str, Any]], *, below: int, window: int) -> Subquery:
    query = select(AuditEntry).where(AuditEntry.id < below)
    for name, value in filters:
        query = query.where(getattr(AuditEntry, name) == value)
    # Times never go back along the sequence, so a span of time is a span of row ids: two look-ups.
    if wanted.created_from is not None:
        query = query.where(AuditEntry.id >= _first_at(wanted.created_from).scalar_subquery())
    if wanted.created_to is not None:
        end = func.coalesce(_first_at(wanted.created_to).scalar_subquery(), literal(NEWEST))
        query = query.where(AuditEntry.id < end)
    return query.order_by(AuditEntry.id.desc()).limit(window).subquery()


def _first_at(moment: datetime) -> Select[int]:
    """Select the first entry at a moment or after it. If all are older it is NULL, and no entry's id is as high."""
    entry = aliased(AuditEntry)
    return select(entry.id).where(entry.at >= moment).order_by(entry.at, entry.id).limit(1)


def _page(scan: Subquery, filters: Sequence[tuple[str, Any]], *, offset: int, limit: int) -> Select[AuditEntry, UUID]:
    entry = aliased(AuditEntry, scan)
    query = select(entry, User.public_id).outerjoin(User, User.id == entry.author_id)
    for name, value in filters:
        query = query.where(getattr(entry, name) == value)
    return query.order_by(entry.id.desc()).offset(offset).limit(limit)


def _view(entry: AuditEntry, author_id: UUID | None) -> AuditView:
    return AuditView(
        sequence=entry.id,
        at=entry.at,
        author_id=author_id,
        action=entry.action,
        object_id=entry.object_id,
        details=json.loads(entry.details),
        request_id=entry.request_id,
        address=entry.address,
    )
