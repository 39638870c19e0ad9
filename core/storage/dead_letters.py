"""Messages that keep failing, in the database."""

import json
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import to_us
from core.domain.dead_letters import DeadLetterView, Letter
from core.ids import new_id
from core.storage.models import DeadLetter
from core.storage.sql import Statement

_FAIL = Statement(
    """
    INSERT INTO dead_letters (public_id, queue, actor, arguments, error, attempts, first_failed_at, last_failed_at)
    VALUES (:public_id, :queue, :actor, :arguments, :error, 1, :at, :at)
    ON CONFLICT (actor, arguments) DO UPDATE
    SET attempts = dead_letters.attempts + 1, error = excluded.error, last_failed_at = excluded.last_failed_at
    """
)
_PARK = Statement(
    "UPDATE dead_letters SET parked_at = :at "
    "WHERE actor = :actor AND arguments = :arguments AND parked_at IS NULL AND attempts >= :most_attempts"
)
_COUNT_PARKED = Statement("SELECT count(*) FROM dead_letters WHERE parked_at IS NOT NULL")


def fail(connection: Connection, letter: Letter, *, error: str, at: datetime, most_attempts: int) -> None:
    """Count one more failure of a message, and park it if it has failed too often."""
    _FAIL.run(
        connection,
        public_id=new_id().bytes,
        queue=letter.queue,
        actor=letter.actor,
        arguments=letter.text,
        error=error,
        at=to_us(at),
    )
    _PARK.run(connection, at=to_us(at), actor=letter.actor, arguments=letter.text, most_attempts=most_attempts)


def succeed(connection: Connection, letter: Letter) -> None:
    """Delete the failures of a message whose work has succeeded."""
    connection.execute(delete(DeadLetter).where(DeadLetter.actor == letter.actor, DeadLetter.arguments == letter.text))


def failing(connection: Connection) -> set[tuple[str, str]]:
    """Read which messages have failed and not succeeded since: (actor, arguments as JSON) each."""
    return {(row[0], row[1]) for row in connection.execute(select(DeadLetter.actor, DeadLetter.arguments))}


def parked(connection: Connection) -> set[tuple[str, str]]:
    """Read which messages are parked: (actor, arguments as JSON) each."""
    query = select(DeadLetter.actor, DeadLetter.arguments).where(DeadLetter.parked_at.is_not(None))
    return {(row[0], row[1]) for row in connection.execute(query)}


def parked_rows(connection: Connection, actor: str) -> list[int]:
    """Read the row ids in the parked messages of an actor whose messages have one."""
    query = select(DeadLetter.arguments).where(DeadLetter.actor == actor, DeadLetter.parked_at.is_not(None))
    return [row for arguments in connection.execute(query).scalars() for row in json.loads(arguments)]


def count_parked(connection: Connection) -> int:
    """Count the parked messages."""
    count: int = _COUNT_PARKED.run(connection).scalar_one()
    return count


def find_parked(connection: Connection, public_id: UUID) -> Letter | None:
    """Read a parked message inside a unit of work."""
    query = select(DeadLetter.queue, DeadLetter.actor, DeadLetter.arguments).where(
        DeadLetter.public_id == public_id, DeadLetter.parked_at.is_not(None)
    )
    row = connection.execute(query).first()
    return Letter(row[0], row[1], tuple(json.loads(row[2]))) if row else None


def unpark(connection: Connection, public_id: UUID) -> None:
    """Allow a message to be tried again, and reset its failures."""
    connection.execute(update(DeadLetter).where(DeadLetter.public_id == public_id).values(attempts=0, parked_at=None))


def to_retry(connection: Connection) -> list[Letter]:
    """Read the messages that must be sent again and have not been processed since."""
    query = select(DeadLetter.queue, DeadLetter.actor, DeadLetter.arguments).where(DeadLetter.attempts == 0)
    return [Letter(row[0], row[1], tuple(json.loads(row[2]))) for row in connection.execute(query)]


def drop(connection: Connection, public_id: UUID) -> None:
    """Delete a message."""
    connection.execute(delete(DeadLetter).where(DeadLetter.public_id == public_id))


async def read(session: AsyncSession, *, after: int, offset: int, limit: int) -> list[DeadLetterView]:
    """Read parked messages, oldest first, starting after row id `after`."""
    query = (
        select(DeadLetter)
        .where(DeadLetter.id > after, DeadLetter.parked_at.is_not(None))
        .order_by(DeadLetter.id)
        .offset(offset)
        .limit(limit)
    )
    return [
        DeadLetterView(
            id=row.public_id,
            sequence=row.id,
            letter=Letter(row.queue, row.actor, tuple(json.loads(row.arguments))),
            error=row.error,
            attempts=row.attempts,
            first_failed_at=row.first_failed_at,
            last_failed_at=row.last_failed_at,
            parked_at=row.parked_at,
        )
        for row in (await session.execute(query)).scalars()
        if row.parked_at is not None
    ]
