"""Pending transfers by user, in the database."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection

from core.storage.sql import Statement

_OLDEST = Statement(
    "SELECT t.created_at FROM lanes settle CROSS JOIN transfers t WHERE settle.name = 'settle' "
    "AND t.id > settle.watermark AND NOT EXISTS (SELECT 1 FROM endings WHERE endings.id = t.id) ORDER BY t.id LIMIT 1"
)
_OF_USERS = Statement(
    "SELECT u.id, coalesce(sum(r.reserved_count - a.released_count), 0), u.pending_limit FROM users u "
    "LEFT JOIN accounts a ON a.owner_id = u.id LEFT JOIN reservations r ON r.account_id = a.id "
    "WHERE u.id IN (:ids*) GROUP BY u.id, u.pending_limit"
)


def oldest_accepted_at(connection: Connection) -> int | None:
    """Return when the oldest pending transfer was accepted, in microseconds since the epoch; None without one."""
    accepted_at: int | None = _OLDEST.run(connection).scalar()
    return accepted_at


@dataclass(frozen=True, slots=True)
class Front:
    """Where the next transfer will stand."""

    sequence: int
    """Its sequence."""
    newest_at: int
    """When the newest one was accepted, in microseconds since the epoch; 0 before the first."""
    backlog: int
    """An upper bound of the pending transfers: those from the oldest pending one on."""
    lowest_limit: int | None
    """The lowest limit of pending transfers that operators have set for a user."""


_FRONT = Statement(
    "SELECT accept.next_id, accept.newest_at, accept.next_id - 1 - settle.watermark, "
    "(SELECT min(pending_limit) FROM users WHERE pending_limit IS NOT NULL) "
    "FROM lanes accept CROSS JOIN lanes settle WHERE accept.name = 'accept' AND settle.name = 'settle'"
)


def front(connection: Connection) -> Front:
    """Read where the next transfer will stand, in one statement of a few steps."""
    return Front(*_FRONT.run(connection).one())


def of_users(connection: Connection, user_ids: Collection[int]) -> dict[int, tuple[int, int | None]]:
    """Return how many transfers from each user's accounts are pending, and the limit that operators have set."""
    if not user_ids:
        return {}
    return {row[0]: (int(row[1]), row[2]) for row in _OF_USERS.run(connection, ids=user_ids)}
