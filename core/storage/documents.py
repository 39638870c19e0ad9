"""Large documents in the database."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import to_datetime, to_us
from core.domain.documents import DocumentView


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDocument:
    """A document to make."""

    id: UUID
    owner_id: int
    account_id: int
    period: str
    number: int | None
    """The statement's number; None if it is provisional."""
    newest_id: int
    """The statement's last leg."""
    media_type: str
    transaction_count: int
    file_name: str
    month: str
    """The statement, as JSON."""
    asked_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Asked:
    """A document that waits to be made."""

    public_id: UUID
    month: str
    media_type: str


_SELECT = """
    SELECT d.public_id, a.public_id AS account_id, d.period, d.media_type, d.transaction_count, d.file_name, d.asked_at,
        d.made_at, d.expires_at
    FROM documents d JOIN accounts a ON a.id = d.account_id
"""
_OWNED = text(f"{_SELECT} WHERE d.public_id = :id AND d.owner_id = :owner AND d.expires_at > :now")
_SAME = (
    "SELECT public_id, made_at IS NOT NULL FROM documents WHERE owner_id = ? AND account_id = ? AND period = ? "
    "AND media_type = ? AND number IS ? AND (made_at IS NULL OR newest_id = ?) AND expires_at > ? ORDER BY id DESC"
)


def add(connection: Connection, new: NewDocument) -> None:
    """Write a document that waits to be made."""
    connection.exec_driver_sql(
        "INSERT INTO documents (public_id, owner_id, account_id, period, number, newest_id, media_type, "
        "transaction_count, file_name, month, asked_at, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            new.id.bytes,
            new.owner_id,
            new.account_id,
            new.period,
            new.number,
            new.newest_id,
            new.media_type,
            new.transaction_count,
            new.file_name,
            new.month,
            to_us(new.asked_at),
            to_us(new.expires_at),
        ),
    )


def find_same(connection: Connection, new: NewDocument) -> list[tuple[UUID, bool]]:
    """Find the documents with the content of a new one, newest first, and whether each is made.

    While a provisional one is pending, later transactions do not make another one of it.
    """
    wanted = (
        new.owner_id,
        new.account_id,
        new.period,
        new.media_type,
        new.number,
        new.newest_id,
        to_us(new.asked_at),
    )
    return [(UUID(bytes=row[0]), bool(row[1])) for row in connection.exec_driver_sql(_SAME, wanted)]


def count_pending_of(connection: Connection, owner_id: int, now: datetime) -> int:
    """Count the documents of a user that wait to be made."""
    query = "SELECT count(*) FROM documents WHERE owner_id = ? AND made_at IS NULL AND expires_at > ?"
    count: int = connection.exec_driver_sql(query, (owner_id, to_us(now))).scalar_one()
    return count


async def get_owned(session: AsyncSession, owner_id: int, public_id: UUID, now: datetime) -> DocumentView | None:
    """Read one document that has not expired, if it is this user's."""
    wanted = {"id": public_id.bytes, "owner": owner_id, "now": to_us(now)}
    row: Any = (await session.execute(_OWNED, wanted)).first()
    if row is None:
        return None
    return DocumentView(
        id=UUID(bytes=row.public_id),
        account_id=UUID(bytes=row.account_id),
        period=row.period,
        media_type=row.media_type,
        transaction_count=row.transaction_count,
        file_name=row.file_name,
        asked_at=to_datetime(row.asked_at),
        made_at=None if row.made_at is None else to_datetime(row.made_at),
        expires_at=to_datetime(row.expires_at),
    )


# --- making ------------------------------------------------------------------------------------------------------


def first_of_each_user(connection: Connection, *, but: Iterable[int], now: datetime, limit: int) -> list[int]:
    """Read the row id of each user's oldest pending document, oldest first, without the ids in `but`."""
    query = (
        "SELECT min(id) FROM documents WHERE made_at IS NULL AND expires_at > ? "
        "AND id NOT IN (SELECT value FROM json_each(?)) GROUP BY owner_id ORDER BY min(id) LIMIT ?"
    )
    return list(connection.exec_driver_sql(query, (to_us(now), f"[{','.join(map(str, but))}]", limit)).scalars())


def backlog(connection: Connection, now: datetime) -> tuple[int, datetime | None]:
    """Count the pending documents, and return the time at which the oldest was asked for, or None without one."""
    query = "SELECT count(*), min(asked_at) FROM documents WHERE made_at IS NULL AND expires_at > ?"
    count, oldest = connection.exec_driver_sql(query, (to_us(now),)).one()
    return count, None if oldest is None else to_datetime(oldest)


def find_pending(connection: Connection, document_id: int, now: datetime) -> Asked | None:
    """Read a document that waits to be made and has not expired."""
    query = "SELECT public_id, month, media_type FROM documents WHERE id = ? AND made_at IS NULL AND expires_at > ?"
    row = connection.exec_driver_sql(query, (document_id, to_us(now))).first()
    return Asked(UUID(bytes=row[0]), row[1], row[2]) if row else None


def finish(connection: Connection, document_id: int, *, made_at: datetime, expires_at: datetime) -> bool:
    """Mark a pending document as made; False if its owner was erased, or another job made it."""
    query = "UPDATE documents SET made_at = ?, expires_at = ? WHERE id = ? AND made_at IS NULL"
    done = connection.exec_driver_sql(query, (to_us(made_at), to_us(expires_at), document_id))
    return done.rowcount == 1


# --- forgetting --------------------------------------------------------------------------------------------------


def forget_surplus(connection: Connection, document_id: int, *, keep: int) -> list[UUID]:
    """Delete all but the newest `keep` made documents of the owner of this one, and return them."""
    query = (
        "DELETE FROM documents WHERE id IN (SELECT id FROM documents WHERE made_at IS NOT NULL "
        "AND owner_id = (SELECT owner_id FROM documents WHERE id = ?) ORDER BY made_at DESC, id DESC LIMIT -1 OFFSET ?"
        ") RETURNING public_id"
    )
    return _ids(connection.exec_driver_sql(query, (document_id, keep)).all())


def forget_all_of(connection: Connection, owner_id: int) -> list[UUID]:
    """Delete all documents of a user, and return them."""
    query = "DELETE FROM documents WHERE owner_id = ? RETURNING public_id"
    return _ids(connection.exec_driver_sql(query, (owner_id,)).all())


def forget_expired(connection: Connection, now: datetime) -> int:
    """Delete the documents that have expired, and return how many."""
    return connection.exec_driver_sql("DELETE FROM documents WHERE expires_at <= ?", (to_us(now),)).rowcount


def all_ids(connection: Connection) -> set[UUID]:
    """Read the ids of all documents, pending or made."""
    return set(_ids(connection.exec_driver_sql("SELECT public_id FROM documents").all()))


def _ids(rows: Sequence[Any]) -> list[UUID]:
    return [UUID(bytes=row[0]) for row in rows]
