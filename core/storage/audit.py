"""The audit log in the database."""

import json
from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from core.domain.audit import Action, AuditView, Author
from core.models import AuditEntry, User


def add(
    connection: Connection,
    author: Author,
    action: Action,
    object_id: UUID,
    *,
    details: Mapping[str, str | int],
    at: datetime,
) -> None:
    """Write an act down, in the unit of work that does it."""
    connection.execute(
        insert(AuditEntry).values(
            at=at,
            author_id=author.user_id,
            action=action,
            object_id=object_id,
            details=json.dumps(details),
            request_id=author.request_id,
            address=author.address,
        )
    )


async def read(session: AsyncSession, *, below: int, offset: int, limit: int) -> list[AuditView]:
    """Read acts, newest first, from the sequence before `below` on."""
    query = (
        select(AuditEntry, User.public_id)
        .join(User, User.id == AuditEntry.author_id)
        .where(AuditEntry.id < below)
        .order_by(AuditEntry.id.desc())
        .offset(offset)
        .limit(limit)
    )
    return [
        AuditView(
            sequence=entry.id,
            at=entry.at,
            author_id=author_id,
            action=entry.action,
            object_id=entry.object_id,
            details=json.loads(entry.details),
            request_id=entry.request_id,
            address=entry.address,
        )
        for entry, author_id in (await session.execute(query)).all()
    ]
