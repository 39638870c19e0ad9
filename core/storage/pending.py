"""Pending transfers by user, in the database."""

from collections.abc import Collection

from sqlalchemy import Connection


def oldest(connection: Connection) -> tuple[int, int] | None:
    """Return the sequence of the oldest pending transfer, and when it was accepted (microseconds since the epoch)."""
    query = "SELECT id, created_at FROM transfers WHERE status = 'pending' ORDER BY id LIMIT 1"
    row = connection.exec_driver_sql(query).first()
    return (row[0], row[1]) if row else None


def oldest_and_lowest_limit(connection: Connection) -> tuple[int | None, int | None]:
    """Return the sequence of the oldest pending transfer, and the lowest limit that operators have set for a user."""
    row = connection.exec_driver_sql(
        "SELECT (SELECT min(id) FROM transfers WHERE status = 'pending'), "
        "(SELECT min(pending_limit) FROM users WHERE pending_limit IS NOT NULL)"
    ).one()
    return row[0], row[1]


def of_users(connection: Connection, user_ids: Collection[int]) -> dict[int, tuple[int, int | None]]:
    """Return how many transfers from each user's accounts are pending, and the limit that operators have set."""
    marks = ",".join("?" * len(user_ids))
    found = connection.exec_driver_sql(
        "SELECT u.id, coalesce(sum(a.pending_count), 0), u.pending_limit FROM users u "
        f"LEFT JOIN accounts a ON a.owner_id = u.id WHERE u.id IN ({marks}) GROUP BY u.id",
        tuple(user_ids),
    )
    return {row[0]: (row[1], row[2]) for row in found}
