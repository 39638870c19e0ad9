"""Messages that keep failing: counted, parked, and sent again or dropped by an operator."""

from uuid import UUID

from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import now_us, to_datetime
from core.domain.audit import Action, Author
from core.domain.dead_letters import MOST_ATTEMPTS, DeadLetterError, DeadLetterView, Letter
from core.domain.errors import Refusal
from core.services.audit import write_down
from core.storage import dead_letters

LONGEST_ERROR = 500
"""Characters of an error that are stored."""


def fail(connection: Connection, letter: Letter, error: Exception) -> None:
    """Record that the work of a message has failed with an unexpected error."""
    cause = getattr(error, "orig", None) or error  # the driver's error, without the values that were written
    text = f"{type(error).__name__}: {cause}"[:LONGEST_ERROR]
    dead_letters.fail(connection, letter, error=text, at=to_datetime(now_us()), most_attempts=MOST_ATTEMPTS)


def succeed(connection: Connection, letter: Letter) -> None:
    """Record that the work of a message has succeeded: its failures are deleted."""
    dead_letters.succeed(connection, letter)


def failing(connection: Connection) -> set[tuple[str, str]]:
    """Read which messages have failed and not succeeded since: (actor, arguments as JSON) each."""
    return dead_letters.failing(connection)


def retry(connection: Connection, author: Author, letter_id: UUID) -> None:
    """Release a parked message: the scheduler's next tick sends it again.

    Raises Refusal (`dead_letter_not_found`).
    """
    letter = _parked(connection, letter_id)
    dead_letters.unpark(connection, letter_id)
    write_down(connection, author, Action.DEAD_LETTER_RETRIED, letter_id, actor=letter.actor, arguments=letter.text)


def drop(connection: Connection, author: Author, letter_id: UUID) -> None:
    """Delete a parked message. If its work is still due in the database, the next tick sends a new message.

    Raises Refusal (`dead_letter_not_found`).
    """
    letter = _parked(connection, letter_id)
    dead_letters.drop(connection, letter_id)
    write_down(connection, author, Action.DEAD_LETTER_DROPPED, letter_id, actor=letter.actor, arguments=letter.text)


async def list_parked(session: AsyncSession, *, after: int, offset: int, limit: int) -> list[DeadLetterView]:
    """List parked messages, oldest first, starting after row id `after`."""
    return await dead_letters.read(session, after=after, offset=offset, limit=limit)


def _parked(connection: Connection, letter_id: UUID) -> Letter:
    letter = dead_letters.find_parked(connection, letter_id)
    if letter is None:
        raise Refusal(DeadLetterError.NOT_FOUND)
    return letter
