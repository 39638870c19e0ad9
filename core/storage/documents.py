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
from core.storage.sql import Statement


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
_ADD = Statement(
    "INSERT INTO documents (public_id, owner_id, account_id, period, number, newest_id, media_type, "
    "transaction_count, file_name, month, asked_at, expires_at) VALUES (:public_id, :owner, :account, :period, "
    ":number, :newest, :media_type, :transaction_count, :file_name, :month, :asked_at, :expires_at)"
)
_SAME = Statement(
    "SELECT public_id, made_at IS NOT NULL FROM documents WHERE owner_id = :owner AND account_id = :account "
    "AND period = :period AND media_type = :media_type AND number IS NOT DISTINCT FROM :number "
    "AND (made_at IS NULL OR newest_id = :newest) AND expires_at > :now ORDER BY id DESC"
)
_COUNT_PENDING = Statement(
    "SELECT count(*) FROM documents WHERE owner_id = :owner AND made_at IS NULL AND expires_at > :now"
)


def add(connection: Connection, new: NewDocument) -> None:
    """Write a document that waits to be made."""
    _ADD.run(
        connection,
        public_id=new.id.bytes,
        owner=new.owner_id,
        account=new.account_id,
        period=new.period,
        number=new.number,
        newest=new.newest_id,
        media_type=new.media_type,
        transaction_count=new.transaction_count,
        file_name=new.file_name,
        month=new.month,
        asked_at=to_us(new.asked_at),
        expires_at=to_us(new.expires_at),
    )


def find_same(connection: Connection, new: NewDocument) -> list[tuple[UUID, bool]]:
    """Find the documents with the content of a new one, newest first, and whether each is made.

    While a provisional one is pending, later transactions do not make another one of it.
    """
    found = _SAME.run(
        connection,
        owner=new.owner_id,
        account=new.account_id,
        period=new.period,
        media_type=new.media_type,
        number=new.number,
        newest=new.newest_id,
        now=to_us(new.asked_at),
    )
    return [(UUID(bytes=row[0]), bool(row[1])) for row in found]


def count_pending_of(connection: Connection, owner_id: int, now: datetime) -> int:
    """Count the documents of a user that wait to be made."""
    count: int = _COUNT_PENDING.run(connection, owner=owner_id, now=to_us(now)).scalar_one()
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


_FIRST_OF_EACH_USER = Statement(
    "SELECT min(id) FROM documents WHERE made_at IS NULL AND expires_at > :now AND id NOT IN (:but*) "
    "GROUP BY owner_id ORDER BY min(id) LIMIT :limit"
)
_BACKLOG = Statement("SELECT count(*), min(asked_at) FROM documents WHERE made_at IS NULL AND expires_at > :now")
_PENDING = Statement(
    "SELECT public_id, month, media_type FROM documents WHERE id = :id AND made_at IS NULL AND expires_at > :now"
)
_FINISH = Statement(
    "UPDATE documents SET made_at = :made_at, expires_at = :expires_at WHERE id = :id AND made_at IS NULL"
)


def first_of_each_user(connection: Connection, *, but: Iterable[int], now: datetime, limit: int) -> list[int]:
    """Read the row id of each user's oldest pending document, oldest first, without the ids in `but`."""
    # A list cannot be empty. No row has the id 0.
    return _FIRST_OF_EACH_USER.run(connection, now=to_us(now), but=[0, *but], limit=limit).scalars()


def backlog(connection: Connection, now: datetime) -> tuple[int, datetime | None]:
    """Count the pending documents, and return the time at which the oldest was asked for, or None without one."""
    count, oldest = _BACKLOG.run(connection, now=to_us(now)).one()
    return count, None if oldest is None else to_datetime(oldest)


def find_pending(connection: Connection, document_id: int, now: datetime) -> Asked | None:
    """Read a document that waits to be made and has not expired."""
    row = _PENDING.run(connection, id=document_id, now=to_us(now)).first()
    return Asked(UUID(bytes=row[0]), row[1], row[2]) if row else None


def finish(connection: Connection, document_id: int, *, made_at: datetime, expires_at: datetime) -> bool:
    """Mark a pending document as made; False if its owner was erased, or another job made it."""
    done = _FINISH.run(connection, id=document_id, made_at=to_us(made_at), expires_at=to_us(expires_at))
    return done.rowcount == 1


# --- forgetting --------------------------------------------------------------------------------------------------


_MADE = "made_at IS NOT NULL AND owner_id = (SELECT owner_id FROM documents WHERE id = :id)"
_FORGET_SURPLUS = Statement(
    f"DELETE FROM documents WHERE {_MADE} AND id NOT IN "
    f"(SELECT id FROM documents WHERE {_MADE} ORDER BY made_at DESC, id DESC LIMIT :keep) RETURNING public_id"
)
_FORGET_ALL_OF = Statement("DELETE FROM documents WHERE owner_id = :owner RETURNING public_id")
_FORGET_EXPIRED = Statement("DELETE FROM documents WHERE expires_at <= :now")
_ALL_IDS = Statement("SELECT public_id FROM documents")


def forget_surplus(connection: Connection, document_id: int, *, keep: int) -> list[UUID]:
    """Delete all but the newest `keep` made documents of the owner of this one, and return them."""
    return _ids(_FORGET_SURPLUS.run(connection, id=document_id, keep=keep))


def forget_all_of(connection: Connection, owner_id: int) -> list[UUID]:
    """Delete all documents of a user, and return them."""
    return _ids(_FORGET_ALL_OF.run(connection, owner=owner_id))


def forget_expired(connection: Connection, now: datetime) -> int:
    """Delete the documents that have expired, and return how many."""
    return _FORGET_EXPIRED.run(connection, now=to_us(now)).rowcount


def all_ids(connection: Connection) -> set[UUID]:
    """Read the ids of all documents, pending or made."""
    return set(_ids(_ALL_IDS.run(connection)))


def _ids(rows: Sequence[Any]) -> list[UUID]:
    return [UUID(bytes=row[0]) for row in rows]
