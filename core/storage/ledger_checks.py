"""Checks of the whole ledger that take one SQL statement each."""

from collections.abc import Collection

from sqlalchemy import Connection

_HALF = 10**9


def doubled_keys(connection: Connection) -> list[tuple[str, int, int]]:
    """Find idempotency keys with more than one transfer: key, user's row id, transfers. Empty in an intact ledger."""
    rows = connection.exec_driver_sql(
        "SELECT idempotency_key, submitted_by, count(*) FROM transfers WHERE idempotency_key IS NOT NULL "
        "GROUP BY idempotency_key, submitted_by HAVING count(*) > 1"
    )
    return [(row[0], row[1], row[2]) for row in rows]


def unset_overdraft_limits(connection: Connection) -> list[tuple[int, int, int]]:
    """Find accounts whose overdraft limit is not the last one in the audit log: row id, limit, the one in the log."""
    rows = connection.exec_driver_sql(
        "SELECT a.id, a.overdraft_limit, coalesce(e.details ->> 'after', 0) AS was_set FROM accounts a "
        "LEFT JOIN (SELECT object_id, max(id) AS id FROM audit_entries WHERE action = 'overdraft_limit_set' "
        "GROUP BY object_id) newest ON newest.object_id = a.public_id LEFT JOIN audit_entries e ON e.id = newest.id "
        "WHERE a.overdraft_limit IS NOT was_set ORDER BY a.id"
    )
    return [(row[0], row[1], row[2]) for row in rows]


def imbalances(connection: Connection, *, without: Collection[int] = ()) -> dict[str, int]:
    """Sum all balances of each currency, in minor units, without some accounts; reads every account."""
    # In two halves: before it comes back to 0, a sum may exceed SQLite's 64 bits.
    marks = ", ".join("?" * len(without))
    query = (
        f"SELECT currency, sum(balance / {_HALF}), sum(balance % {_HALF}) FROM accounts WHERE id NOT IN ({marks}) "
        "GROUP BY currency"
    )
    return {row[0]: row[1] * _HALF + row[2] for row in connection.exec_driver_sql(query, tuple(without))}
