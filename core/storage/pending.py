"""Pending transfers by user, in the database."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection


def oldest_accepted_at(connection: Connection) -> int | None:
    """Return when the oldest pending transfer was accepted, in microseconds since the epoch; None without one."""
    query = "SELECT created_at FROM transfers WHERE status = 'pending' ORDER BY id LIMIT 1"
    return connection.exec_driver_sql(query).scalar()


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


_FRONT = """
    SELECT coalesce(newest.id, 0) + 1, coalesce(newest.created_at, 0),
        (SELECT min(id) FROM transfers WHERE status = 'pending'),
        (SELECT min(pending_limit) FROM users WHERE pending_limit IS NOT NULL)
    FROM (SELECT 1) LEFT JOIN (SELECT id, created_at FROM transfers ORDER BY id DESC LIMIT 1) newest
"""


def front(connection: Connection) -> Front:
    """Read where the next transfer will stand, in one statement of a few steps."""
    sequence, newest_at, oldest_pending, lowest_limit = connection.exec_driver_sql(_FRONT).one()
    return Front(sequence, newest_at, 0 if oldest_pending is None else sequence - oldest_pending, lowest_limit)


def of_users(connection: Connection, user_ids: Collection[int]) -> dict[int, tuple[int, int | None]]:
    """Return how many transfers from each user's accounts are pending, and the limit that operators have set."""
    marks = ",".join("?" * len(user_ids))
    found = connection.exec_driver_sql(
        "SELECT u.id, coalesce(sum(a.pending_count), 0), u.pending_limit FROM users u "
        f"LEFT JOIN accounts a ON a.owner_id = u.id WHERE u.id IN ({marks}) GROUP BY u.id",
        tuple(user_ids),
    )
    return {row[0]: (row[1], row[2]) for row in found}
